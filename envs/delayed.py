"""Delayed credit: only the first action matters, and only the last step pays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from vfcompare.oracle.exact import Outcomes, deterministic

from . import drawing
from .base import Reference, Task, require_count


class State(NamedTuple):
    """Where the episode is.

    Attributes:
      need: int32[], what the first action should be.
      have: int32[], what it was.
      time: int32[], steps taken.
    """

    need: jax.Array
    have: jax.Array
    time: jax.Array


class Delayed(Task):
    """`length` steps; reward 1 at the end if the first action was the one asked for.

    Isolates credit assignment over a delay, without exploration: the first action is right half of the
    time by luck, and every later action and every distractor is noise in the gradient.

    *Action.* 0 or 1. *Observation.* float32[3 + distractors] in 0 to 1: need, have (0 before the first
    step), fraction of the episode left, and random bits that mean nothing, new at each step.
    *Reward.* 0, and 1 after the last step if have = need. *End.* Always after `length` steps.
    *Optimum.* 1; the uniform policy gets 1/2. *Source.* bsuite's umbrella chain (Osband et al., 2020),
    with outcomes 0 and 1 instead of -1 and 1 and without its random rewards on the way.
    """

    action_space = Discrete(2)
    time_aware = True

    def __init__(self, length: int = 10, distractors: int = 0):
        super().__init__()
        require_count("length", length, 1)
        require_count("distractors", distractors, 0)
        self.length, self.distractors = length, distractors
        self.horizon = length
        self.observation_space = Box(0.0, 1.0, (3 + distractors,), np.float32)

    @property
    def reference(self) -> Reference:
        """Exact: one fair guess, or none."""
        return Reference(random=0.5, optimal=1.0)

    def initial(self, rng, params=None):
        """A need drawn at random."""
        del params
        need = jax.random.bernoulli(rng).astype(jnp.int32)
        return State(need, jnp.int32(0), jnp.int32(0))

    def transition(self, state, action, rng, params=None):
        """Only the first action is kept."""
        del rng, params
        have = jnp.where(state.time == 0, jnp.asarray(action, jnp.int32), state.have)
        return State(state.need, have, state.time + 1)

    def observation(self, state, rng, params=None):
        """Need, have, fraction left, distractors: float32[3 + distractors]."""
        del params
        left = (self.length - state.time).astype(jnp.float32) / self.length
        need, have = state.need.astype(jnp.float32), state.have.astype(jnp.float32)
        told = jnp.stack([need, have, left])
        if self.distractors == 0:
            return told
        # Gymnasium's own adapter gives this the key of `initial`: unfolded, the bits would tell the need.
        noise = jax.random.bernoulli(jax.random.fold_in(rng, 1), shape=(self.distractors,))
        return jnp.concatenate([told, noise.astype(jnp.float32)])

    def reward(self, state, action, next_state, rng, params=None):
        """One after the last step if the first action was the one asked for: float32[]."""
        del state, action
        matched = next_state.have == next_state.need
        return (self.terminal(next_state, rng, params) & matched).astype(jnp.float32)

    def terminal(self, state, rng, params=None):
        """After `length` steps."""
        del rng, params
        return state.time >= self.length

    spread = 1
    contextual = False

    @property
    def places(self) -> int:
        """What is needed, and what was chosen: four. Distractors are new at each step and are not counted."""
        if self.distractors:
            raise AttributeError("distractors cannot be enumerated")
        return 4

    def place(self, state) -> jax.Array:
        """`2 need + have`: int32[]."""
        return 2 * state.need + state.have

    def states(self, start, time) -> State:
        """All four."""
        del start
        need, have = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
        return State(need, have, jnp.full(4, time, jnp.int32))

    def outcomes(self, start, time) -> Outcomes:
        """The first action is kept, and the last step pays."""
        before = self.states(start, time)
        after = jax.vmap(
            lambda state: jax.vmap(lambda action: self.transition(state, action, None))(
                jnp.arange(2)
            )
        )(before)
        end = after.time >= self.length
        reward = end & (after.have == after.need)
        place = jax.vmap(jax.vmap(self.place))(after)
        return deterministic(place, reward, end)

    def draw(self, state) -> np.ndarray:
        """What was asked for, what was chosen, and the steps taken."""
        scale, taken = 48, int(state.time)
        colours = (drawing.BLUE, drawing.GOLD)
        image = drawing.canvas(3 * scale, (self.length + 3) * scale)
        drawing.disk(image, (scale, 1.5 * scale), 0.45 * scale, colours[int(state.need)])
        for step in range(self.length):
            chosen = step == 0 and taken > 0
            colour = drawing.INK if step < taken else drawing.GREY
            colour = colours[int(state.have)] if chosen else colour
            centre = ((step + 2.5) * scale, 1.5 * scale)
            drawing.box(image, centre, (0.7 * scale, 0.7 * scale), colour, corner=6)
        return drawing.finish(image)
