"""All or nothing: a chain of decisions that pays only if every one of them was right."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from vfcompare.oracle.exact import Outcomes, deterministic

from . import drawing
from .base import Reference, Task, require, require_count


class State(NamedTuple):
    """Where the episode is.

    Attributes:
      time: int32[], decisions taken.
      right: bool[], whether all of them were right.
    """

    time: jax.Array
    right: jax.Array


class Lock(Task):
    """`length` decisions; reward 1 at the last step if all decisive ones were right.

    Isolates the joint success of many steps, as in the answer of a language model: with per-step accuracy
    q the value is q^length, and a mistake settles the outcome although the episode goes on.

    *Action.* One of `actions`; the right one of each step is drawn once from `combination`, not per episode.
    *Observation.* float32[length + 1] in 0 to 1: the step as one-hot (all zero at the end), and 1 while no
    mistake has happened.
    *Reward.* `"all"`: 0, and 1 after the last step if all decisive actions were right. `"each"`: `1 / length`
    at once for every right action, so that information is released evenly.
    *End.* Always after `length` steps.
    *Optimum.* 1; the uniform policy gets `actions ** -decisive`, or `1 / actions` where each pays.
    *Source.* The all-or-nothing chain of bsuite's deep sea (Osband et al., 2020), without early end and
    without a cost of moving.
    """

    time_aware = True
    places = 2
    spread = 1
    contextual = False

    def __init__(
        self,
        length: int = 8,
        actions: int = 2,
        combination: int | None = 0,
        reward: str = "all",
        decisive: int | None = None,
        where: str = "early",
    ):
        """A lock.

        Args:
          length: decisions.
          actions: to choose from.
          combination: seed of the right actions; None makes 0 the right one everywhere.
          reward: `all` or `each`.
          decisive: how many decisions must be right; None means all. With `reward="each"` every one pays.
          where: whether these are the first ones, `early`, or the last ones, `late`.
        """
        super().__init__()
        require_count("length", length, 1)
        require_count("actions", actions, 2)
        require(reward in ("all", "each"), "reward", reward, "'all' or 'each'")
        require(where in ("early", "late"), "where", where, "'early' or 'late'")
        if combination is not None:
            require_count("combination", combination, 0)
        if reward == "each":
            require(decisive is None, "decisive", decisive, "null with reward=each")
            require(where == "early", "where", where, "'early' with reward=each")
        needed = length if decisive is None else decisive
        require(needed in range(1, length + 1), "decisive", decisive, f"1 to {length}, or null")
        self.length, self.actions, self.reward_kind, self.needed = length, actions, reward, needed
        self.horizon = length
        generator = np.random.default_rng(combination)
        drawn = generator.integers(actions, size=length, dtype=np.int32)
        self.right_actions = drawn * 0 if combination is None else drawn
        order = np.arange(length) if where == "early" else np.arange(length)[::-1]
        self.decisive = order < needed
        self.action_space = Discrete(actions)
        self.observation_space = Box(0.0, 1.0, (length + 1,), np.float32)

    @property
    def reference(self) -> Reference:
        """Exact: independent guesses, and no mistake."""
        guesses = self.needed if self.reward_kind == "all" else 1
        return Reference(random=float(self.actions) ** -guesses, optimal=1.0)

    def initial(self, rng, params=None):
        """No decision taken, none wrong."""
        del rng, params
        return State(jnp.int32(0), jnp.bool_(True))

    def transition(self, state, action, rng, params=None):
        """Compare the action with the right one."""
        del rng, params
        time = jnp.minimum(state.time, self.length - 1)
        fits = self._fits(action, time) | ~jnp.asarray(self.decisive)[time]
        return State(state.time + 1, state.right & fits)

    def observation(self, state, rng, params=None):
        """Step as one-hot, and whether all was right: float32[length + 1]."""
        del rng, params
        step = (jnp.arange(self.length, dtype=jnp.int32) == state.time).astype(jnp.float32)
        return jnp.append(step, state.right.astype(jnp.float32))

    def reward(self, state, action, next_state, rng, params=None):
        """One after the last step, or a part of it at each right step: float32[]."""
        if self.reward_kind == "each":
            return self._fits(action, state.time).astype(jnp.float32) / self.length
        return (self.terminal(next_state, rng, params) & next_state.right).astype(jnp.float32)

    def terminal(self, state, rng, params=None):
        """After `length` steps."""
        del rng, params
        return state.time >= self.length

    def place(self, state) -> jax.Array:
        """Whether all was right: int32[]."""
        return state.right.astype(jnp.int32)

    def states(self, start, time) -> State:
        """After a mistake, and without one."""
        del start
        return State(jnp.full(2, time, jnp.int32), jnp.array([False, True]))

    def outcomes(self, start, time) -> Outcomes:
        """A wrong action leads to the first place, for good."""

        def one(state, action):
            after = self.transition(state, action, None)
            return self.place(after), self.reward(state, action, after, None), after.time

        each = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
        place, reward, after = each(self.states(start, time), jnp.arange(self.actions))
        return deterministic(place, reward, after >= self.length)

    def _fits(self, action, time):
        return action == jnp.asarray(self.right_actions)[time]

    def draw(self, state) -> np.ndarray:
        """A row of pins: grey to come, green while all is right, red after a mistake."""
        scale = 48
        image = drawing.canvas(2 * scale, (self.length + 1) * scale)
        taken = drawing.GREEN if bool(state.right) else drawing.RED
        for step in range(self.length):
            colour = taken if step < int(state.time) else drawing.GREY
            drawing.disk(image, ((step + 1) * scale, scale), 0.36 * scale, colour)
        return drawing.finish(image)
