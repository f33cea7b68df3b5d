"""What every environment of vfcompare adds to Gymnasium's functional interface.

Shapes: an environment is written for one episode; `jax.vmap` gives many. `A` is the number of actions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Discrete

from vfcompare.errors import NotAllowed
from vfcompare.schema.tree import is_number
from vfcompare.types import Layout


class Reference(NamedTuple):
    """Undiscounted episode returns to compare with; None where nobody knows.

    Attributes:
      random: expected return of the policy that is uniform over the (legal) actions.
      optimal: expected return of the best policy within the horizon.
      threshold: the return from which the task counts as solved.
    """

    random: float | None = None
    optimal: float | None = None
    threshold: float | None = None


class Task(FuncEnv):
    """A functional environment with a horizon, reference returns and a picture.

    Attributes:
      horizon: the most steps an episode has.
      time_aware: whether the task itself shows the time left and terminates at the horizon. Where it is
        False the horizon is an ordinary time limit, which the environment does not know: whoever collects
        truncates there.
      shortest: fewest steps after which an episode may end by itself.
      passes: the return from which an episode counts as passed, where it is right or wrong, else None.
      mute: first steps of an episode that no reward teaches.
      report: `(right) -> action`, what the first step says of the outcome where it is a report, else None.
      layout: how an observation in tokens is written, else None.
    """

    observation_space: Space
    action_space: Space
    horizon: int
    time_aware: bool = False
    shortest: int = 1
    passes: float | None = None
    mute: int = 0
    report: Any = None
    layout: Layout | None = None

    @property
    def reference(self) -> Reference:
        """Returns to compare with."""
        return Reference()

    def held_out(self) -> "Task":
        """The task as it is evaluated: itself, where no start state is kept back from training."""
        return self

    def render_init(self, params=None, **kwargs):
        """Pictures need no state: `()`."""
        del params, kwargs
        return ()

    def render_image(self, state, render_state, params=None):
        """The state as `(render_state, uint8[height, width, 3])`."""
        del params
        return render_state, self.draw(state)

    def render_close(self, render_state, params=None):
        """Nothing to close."""
        del render_state, params

    def draw(self, state: Any) -> np.ndarray:
        """A picture of one state: `uint8[height, width, 3]`."""
        raise NotImplementedError(f"{type(self).__name__} has no picture")


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raise a `NotAllowed` that names the field, its value and what is allowed."""
    if not ok:
        raise NotAllowed(f"{field}={value!r} is not allowed; allowed: {allowed}")


def require_count(field: str, value: object, least: int) -> None:
    """A whole number of at least `least`."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(ok, field, value, f"a whole number from {least}")


def require_fraction(field: str, value: Any) -> None:
    """A number from 0 to 1; a traced one cannot be looked at and passes."""
    if not isinstance(value, jax.Array):
        ok = is_number(value) and 0.0 <= value <= 1.0
        require(ok, field, value, "a number from 0 to 1")


def random_return(env: Task, episodes: int, seed: int = 0) -> tuple[float, float]:
    """Mean return of the uniform policy and its standard error, by simulation.

    The references that cannot be computed exactly were measured with this function; their docstrings say so:

        python -c "from vfcompare.envs.cartpole import CartPole as E; from vfcompare.envs.base import \
        random_return; print(random_return(E(), 100_000))"
    """
    keys = jax.random.split(jax.random.key(seed), episodes)
    returns = jax.jit(jax.vmap(lambda key: _random_episode(env, key)))(keys)
    returns = np.asarray(returns, np.float64)
    return float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(episodes))


def random_action(env: Task, state: Any, key: jax.Array) -> jax.Array:
    """One action, uniform over the legal ones: int32[], or float32 of the space's shape."""
    space: Any = env.action_space
    if not isinstance(space, Discrete):
        return jax.random.uniform(key, space.shape, minval=space.low, maxval=space.high)
    legal = env.state_info(state).get("action_mask", jnp.ones(space.n, bool))
    return jax.random.categorical(key, jnp.where(legal, 0.0, -jnp.inf)).astype(jnp.int32)


def _random_episode(env: Task, key: jax.Array) -> jax.Array:
    """Return of one episode of the uniform policy: float32[]."""

    def step(carry, key):
        state, alive, total = carry
        act_key, env_key = jax.random.split(key)
        action = random_action(env, state, act_key)
        following = env.transition(state, action, env_key)
        total = total + alive * env.reward(state, action, following, env_key)
        alive = alive * (1.0 - jnp.asarray(env.terminal(following, env_key), jnp.float32))
        return (following, alive, total), None

    start_key, key = jax.random.split(key)
    carry = (env.initial(start_key), jnp.float32(1.0), jnp.float32(0.0))
    (_, _, total), _ = jax.lax.scan(step, carry, jax.random.split(key, env.horizon))
    return total
