"""Play episodes in a functional environment: one step, and one episode in each of many lanes.

The clock lives here: an environment that does not end by itself is truncated at its `horizon`. Gymnasium's
own functional vector environment is not used, because it keeps the old state of every environment on the
step where any one resets.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vfcompare.masked import choose
from vfcompare.streams import stream
from vfcompare.types import Array, Carry, Env, Key, Params, Policy, Rollout

State = Any


class Running(NamedTuple):
    """Episodes that go on, one in each of `N` lanes; fields are `[N, ...]`.

    Attributes:
      state: of the environment.
      carry: of the policy.
      time: steps of the horizon that are used up.
      alive: lanes that have an episode to run.
    """

    state: State
    carry: Carry
    time: Array
    alive: Array


def at_start(number: int) -> tuple[Array, Array]:
    """`time` and `alive` of `number` lanes whose episodes are at their start."""
    return jnp.zeros(number, jnp.int32), jnp.ones(number, bool)


def observe(env: Env, state: State, key: Key) -> tuple[Array, Array | None]:
    """Observation and legality mask (None where every action is legal) of one state."""
    return env.observation(state, key), env.state_info(state).get("action_mask")


def in_each(carry: Carry, number: int) -> Carry:
    """The same carry in each of `number` lanes."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *jnp.shape(x))), carry)


def initial_carry(env: Env, policy: Policy, params: Params, state: State, key: Key) -> Carry:
    """The policy's carry in each lane, where episodes go on from given states."""
    number = len(jax.tree.leaves(state)[0])
    if policy.begin is None:
        return in_each(policy.carry, number)
    keys = jax.random.split(stream(key, "begin"), number)
    obs = jax.vmap(lambda s, k: observe(env, s, k)[0])(state, keys)
    return jax.vmap(policy.begin, (None, 0))(params, obs)


def advance(
    env: Env,
    policy: Policy,
    params: Params,
    state: State,
    carry: Carry,
    noise: Array,
    key: Key,
) -> tuple[State, Carry, Rollout]:
    """One step of one environment, as a rollout without axes; whether it counted `clocked` says."""
    obs_key, transition_key, reward_key = jax.random.split(key, 3)
    obs, legal = observe(env, state, obs_key)
    carry, action, log_prob = policy.act(params, carry, obs, legal, noise)
    after = env.transition(state, action, transition_key)
    reward = env.reward(state, action, after, reward_key)
    terminated = env.terminal(after, reward_key)
    zero = jnp.float32(0.0)
    step = Rollout(
        obs=obs,
        action=action,
        log_prob=log_prob,
        reward=jnp.float32(reward),
        terminated=jnp.float32(terminated),
        truncated=zero,
        mask=zero,
        first=zero,
        legal=legal,
        state=state,
    )
    return after, carry, step


def clocked(step: Rollout, live: Array, out: Array, *, ends: bool = False) -> Rollout:
    """A step of each lane as it counts, `[N, ...]`: nothing where none was taken, cut where time is up.

    Args:
      step: as `advance` says.
      live: `[N]`, one where it was taken.
      out: `[N]`, one where it is the last that the clock allows.
      ends: whether the clock is treated like the task's own end.
    """
    terminated = (jnp.maximum(step.terminated, out) if ends else step.terminated) * live
    truncated = (1.0 - terminated) * out * live
    return step.replace(
        reward=step.reward * live, terminated=terminated, truncated=truncated, mask=live
    )


def randomness(
    key: Key, steps: int, number: int, noise_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Uniforms for the actions and keys for the environments of many steps, drawn in bulk.

    Bulk draws are several times cheaper than a chain of splits, and the keys of an environment that never
    looks at them are never made.
    """
    action_key, env_key = stream(key, "action"), stream(key, "environment")
    # The smallest uniform is above zero, because a Gaussian policy takes its quantile.
    noise = jax.random.uniform(action_key, (steps, number, *noise_shape), minval=2.0**-24)
    return noise, jax.random.split(env_key, (steps, number))


def unroll(
    env: Env,
    policy: Policy,
    params: Params,
    running: Running,
    key: Key,
    *,
    chunk: int,
    keep_state: bool,
) -> tuple[Rollout, Array, State]:
    """One episode in each of `N` lanes, stopped as soon as all have ended.

    The loop runs in chunks and looks after each whether any lane is alive, so that a batch of short
    episodes does not pay for the whole horizon.

    Args:
      env: the environment.
      policy: who acts.
      params: the policy's.
      running: where each lane stands.
      key: one key for all.
      chunk: steps between two looks at who is alive.
      keep_state: whether to record environment states.

    Returns:
      Steps `[T, N, ...]`, and their observations and states with those after the last one, `[T + 1, N, ...]`.
    """
    number, horizon = running.time.shape[0], env.horizon
    chunk = min(chunk, horizon)
    rows = -(-horizon // chunk) * chunk
    step_lanes = jax.vmap(lambda s, c, n, k: advance(env, policy, params, s, c, n, k))
    view = jax.vmap(lambda s, k: observe(env, s, k)[0])

    def body(lane: Running, xs: Any) -> tuple[Running, Rollout]:
        state, carry, time, alive = lane
        after, carry, step = step_lanes(state, carry, *xs)
        live = alive.astype(jnp.float32)
        step = clocked(step, live, (time + 1 >= horizon).astype(jnp.float32))
        step = step.replace(first=jnp.zeros_like(live), state=state if keep_state else None)
        going = alive & (step.terminated + step.truncated == 0)
        return Running(choose(alive, after, state), carry, time + alive, going), step

    def run_chunk(loop: Any) -> Any:
        row, lane, buffers = loop
        draws = randomness(jax.random.fold_in(key, row), chunk, number, policy.noise_shape)
        lane, steps = jax.lax.scan(body, lane, draws)
        write = lambda buffer, x: jax.lax.dynamic_update_slice_in_dim(buffer, x, row, 0)  # noqa: E731
        return row + chunk, lane, jax.tree.map(write, buffers, steps)

    def unfinished(loop: Any) -> Array:
        row, lane, _ = loop
        return (row < rows) & lane.alive.any()

    shapes = jax.eval_shape(
        lambda k: jax.lax.scan(body, running, randomness(k, 1, number, policy.noise_shape))[1], key
    )
    buffers = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), shapes)
    row, ended, steps = jax.lax.while_loop(unfinished, run_chunk, (jnp.int32(0), running, buffers))
    steps = jax.tree.map(lambda x: x[:horizon], steps)
    last = view(ended.state, jax.random.split(stream(key, "last"), number))

    def append(xs: Array, x: Array) -> Array:
        # Lanes are frozen where they ended, so every row from `row` on shows the final state.
        xs = jnp.concatenate([xs, x[None]])
        index = jnp.arange(horizon + 1).reshape(-1, *(1,) * x.ndim)
        return jnp.where(index >= row, x, xs)

    states = jax.tree.map(append, steps.state, ended.state) if keep_state else None
    return steps, append(steps.obs, last), states


def to_rollout(
    steps: Rollout, obs: Array, states: State, first: Array, carry: Carry, shape: tuple[int, int]
) -> Rollout:
    """Time-major steps `[T, N]` as a rollout `[B, G, T]`."""

    def lay(x: Array) -> Array:
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(*shape, *x.shape[1:])

    laid = jax.tree.map(lay, steps.replace(obs=obs, state=states, first=first))
    return laid.replace(carry=jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), carry))


def greedy(policy: Policy) -> Policy:
    """The same policy by its most probable actions; their log-probability is not asked for."""

    def act(
        params: Params, carry: Carry, obs: Array, legal: Array | None, noise: Array
    ) -> tuple[Carry, Array, Array]:
        del noise
        return *policy.mode(params, carry, obs, legal), jnp.float32(0.0)

    return policy._replace(act=act)
