"""All or nothing: a chain of decisions that pays only if every one of them was right."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from . import drawing
from .base import Reference, Task, require_count


class State(NamedTuple):
    """Where the episode is.

    Attributes:
      time: int32[], decisions taken.
      right: bool[], whether all of them were right.
    """

    time: jax.Array
    right: jax.Array


class Lock(Task):
    """`length` decisions; reward 1 at the last step if all were right.

    Isolates the joint success of many steps, as in the answer of a language model: with per-step accuracy
    q the value is q^length, and a mistake settles the outcome although the episode goes on.

    *Action.* One of `actions`; the right one of each step is drawn once from `combination`, not per episode.
    *Observation.* float32[length + 1] in 0 to 1: the step as one-hot (all zero at the end), and 1 while no
    mistake has happened.
    *Reward.* 0, and 1 after the last step if all actions were right. *End.* Always after `length` steps.
    *Optimum.* 1; the uniform policy gets `actions ** -length`. *Source.* The all-or-nothing chain of bsuite's
    deep sea (Osband et al., 2020), without early end and without a cost of moving.
    """

    time_aware = True

    def __init__(self, length: int = 8, actions: int = 2, combination: int = 0):
        super().__init__()
        require_count("length", length, 1)
        require_count("actions", actions, 2)
        self.length, self.actions = length, actions
        self.horizon = length
        generator = np.random.default_rng(combination)
        self.right_actions = generator.integers(actions, size=length, dtype=np.int32)
        self.action_space = Discrete(actions)
        self.observation_space = Box(0.0, 1.0, (length + 1,), np.float32)

    @property
    def reference(self) -> Reference:
        """Exact: `length` independent guesses, and no mistake."""
        return Reference(random=float(self.actions) ** -self.length, optimal=1.0)

    def initial(self, rng, params=None):
        """No decision taken, none wrong."""
        del rng, params
        return State(jnp.int32(0), jnp.bool_(True))

    def transition(self, state, action, rng, params=None):
        """Compare the action with the right one."""
        del rng, params
        wanted = jnp.asarray(self.right_actions)[jnp.minimum(state.time, self.length - 1)]
        return State(state.time + 1, state.right & (action == wanted))

    def observation(self, state, rng, params=None):
        """Step as one-hot, and whether all was right: float32[length + 1]."""
        del rng, params
        step = (jnp.arange(self.length, dtype=jnp.int32) == state.time).astype(jnp.float32)
        return jnp.append(step, state.right.astype(jnp.float32))

    def reward(self, state, action, next_state, rng, params=None):
        """One after the last step if all actions were right: float32[]."""
        del state, action
        return (self.terminal(next_state, rng, params) & next_state.right).astype(jnp.float32)

    def terminal(self, state, rng, params=None):
        """After `length` steps."""
        del rng, params
        return state.time >= self.length

    def draw(self, state) -> np.ndarray:
        """A row of pins: grey to come, green while all is right, red after a mistake."""
        scale = 48
        image = drawing.canvas(2 * scale, (self.length + 1) * scale)
        taken = drawing.GREEN if bool(state.right) else drawing.RED
        for step in range(self.length):
            colour = taken if step < int(state.time) else drawing.GREY
            drawing.disk(image, ((step + 1) * scale, scale), 0.36 * scale, colour)
        return drawing.finish(image)
