"""Twins of a task: with the time limit as part of it, or with all reward paid at the end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from vfcompare.oracle.exact import Outcomes

from .base import Reference, Task, require


class TimedState(NamedTuple):
    """The inner state, and the steps taken: int32[]."""

    inner: Any
    time: jax.Array


class OutcomeState(NamedTuple):
    """The inner state, and the undiscounted return so far: float32[]."""

    inner: Any
    total: jax.Array


class Wrapper(Task):
    """Hands everything on to the inner task; `inner` finds its state in ours."""

    def __init__(self, env: Task):
        super().__init__()
        require(isinstance(env, Task), "env", env, "a task of vfcompare.envs")
        self.env: Any = env
        self.horizon, self.shortest = env.horizon, env.shortest
        self.passes, self.mute, self.report = env.passes, env.mute, env.report
        self.layout = env.layout
        self.observation_space, self.action_space = env.observation_space, env.action_space

    @property
    def reference(self) -> Reference:
        """The inner task's: neither twin changes the undiscounted return within the horizon."""
        return self.env.reference

    def held_out(self) -> Task:
        """The same twin of the inner task as it is evaluated."""
        inner = self.env.held_out()
        return self if inner is self.env else type(self)(inner)

    def get_default_params(self, **kwargs):
        """None, which the inner task reads as its own parameters."""
        del kwargs
        return None

    def observation(self, state, rng, params=None):
        """The inner observation."""
        return self.env.observation(state.inner, rng, params)

    def reward(self, state, action, next_state, rng, params=None):
        """The inner reward: float32[]."""
        return self.env.reward(state.inner, action, next_state.inner, rng, params)

    def terminal(self, state, rng, params=None):
        """The inner end."""
        return self.env.terminal(state.inner, rng, params)

    def state_info(self, state, params=None):
        """The inner information, such as the legality mask."""
        return self.env.state_info(state.inner, params)

    def draw(self, state) -> np.ndarray:
        """The inner picture."""
        return self.env.draw(state.inner)


class TimeAware(Wrapper):
    """Makes the time limit part of the task.

    The time left, from 1 to 0, is one more element of a vector observation or one more plane of an image,
    and the task itself terminates at the horizon, so that nothing is left to bootstrap there.
    *Optimum.* That of the finite-horizon problem, `reference.optimal` of the inner task.
    *Source.* Pardo et al. (2018), "Time limits in reinforcement learning".
    """

    time_aware = True

    def __init__(self, env: Task):
        super().__init__(env)
        kind = type(env).__name__
        require(env.layout is None, "env", kind, "a task that is not shown in tokens")
        space: Any = env.observation_space
        low, high = space.low, space.high
        left = np.zeros((*low.shape[:-1], 1), np.float32)
        self.observation_space = Box(
            np.concatenate([low, left], -1), np.concatenate([high, left + 1], -1), dtype=np.float32
        )

    def initial(self, rng, params=None):
        """The inner start, at time zero."""
        return TimedState(self.env.initial(rng, params), jnp.int32(0))

    def transition(self, state, action, rng, params=None):
        """The inner step, and one step of time."""
        inner = self.env.transition(state.inner, action, rng, params)
        return TimedState(inner, state.time + 1)

    def observation(self, state, rng, params=None):
        """The inner observation and the time left: float32[..., channels + 1]."""
        obs = self.env.observation(state.inner, rng, params)
        left = (self.horizon - state.time).astype(jnp.float32) / self.horizon
        return jnp.concatenate([obs, jnp.full((*obs.shape[:-1], 1), left, jnp.float32)], -1)

    def terminal(self, state, rng, params=None):
        """The inner end, or the horizon."""
        return self.env.terminal(state.inner, rng, params) | (state.time >= self.horizon)

    @property
    def places(self) -> int:
        """The inner ones, where these can be listed."""
        return self.env.places

    @property
    def spread(self) -> int:
        """Outcomes of an action."""
        return self.env.spread

    @property
    def contextual(self) -> bool:
        """As the inner task."""
        return self.env.contextual

    def place(self, state) -> jax.Array:
        """The inner place: int32[]."""
        return self.env.place(state.inner)

    def states(self, start, time) -> TimedState:
        """The inner ones at this time."""
        inner = self.env.states(start.inner, time)
        return TimedState(inner, jnp.full(self.places, time, jnp.int32))

    def outcomes(self, start, time) -> Outcomes:
        """The inner ones, and the end at the horizon."""
        inner = self.env.outcomes(start.inner, time)
        last = (time + 1 >= self.horizon).astype(inner.terminal.dtype)
        return inner._replace(terminal=jnp.maximum(inner.terminal, last))


class OutcomeOnly(Wrapper):
    """Pays the whole undiscounted return at the end of the episode, and nothing before.

    Isolates what dense reward is worth. With γ = 1 the optimal policies and the returns are those of the
    inner task within its horizon, only the timing of the reward differs; with less, an agent is paid
    `γ^(T-1) R` for an episode of T steps, which prefers late ends of bad episodes (R < 0) and early ends of
    good ones. The time limit becomes part of the task (`TimeAware`), since an outcome needs an end.

    The return so far is not in the observation. Where it does not follow from state and time (Pendulum,
    CliffWalking, Taxi, dense mazes), a critic cannot see the part of the outcome that is already earned and
    faces noise that it would not face with dense reward; for an outcome this is the honest situation.
    """

    time_aware = True

    def __init__(self, env: Task):
        super().__init__(env)
        self.env = env if env.time_aware else TimeAware(env)
        self.observation_space = self.env.observation_space

    def initial(self, rng, params=None):
        """The inner start, nothing earned."""
        return OutcomeState(self.env.initial(rng, params), jnp.float32(0.0))

    def transition(self, state, action, rng, params=None):
        """The inner step; its reward is kept."""
        inner = self.env.transition(state.inner, action, rng, params)
        reward = self.env.reward(state.inner, action, inner, rng, params)
        return OutcomeState(inner, state.total + reward)

    def reward(self, state, action, next_state, rng, params=None):
        """The sum of all rewards if the episode ends here, else zero: float32[]."""
        del state, action
        return jnp.where(self.terminal(next_state, rng, params), next_state.total, 0.0)
