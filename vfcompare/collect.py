"""Gather experience from a functional environment: whole episodes in groups, or fragments of fixed length.

What both play, and the clock that ends it, are in `vfcompare.play`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vfcompare import returns
from vfcompare.masked import choose
from vfcompare.play import (
    Running,
    State,
    advance,
    at_start,
    clocked,
    in_each,
    initial_carry,
    observe,
    randomness,
    to_rollout,
    unroll,
)
from vfcompare.streams import stream
from vfcompare.types import (
    Array,
    Carry,
    Charge,
    Collected,
    Collector,
    Env,
    Judge,
    Key,
    Metrics,
    Params,
    Policy,
    Rollout,
)


def episodes(env: Env, *, prompts: int, group: int, start: str, chunk: int = 16) -> Collector:
    """Whole episodes: `group` rollouts of each of `prompts` start states.

    The metric `padding` is the share of computed steps that were taken after an episode's end.

    Args:
      env: the environment; `env.horizon` bounds an episode.
      prompts: `B`.
      group: `G`.
      start: `shared`, the rollouts of a group begin in the same state (resets are allowed), or
        `independent`, every rollout draws its own (a group is then a slice of the batch).
      chunk: steps between two looks at who is alive.
    """
    number = prompts * group

    def start_groups(policy: Policy, params: Params, key: Key) -> Running:
        clock = at_start(number)
        keys = jax.random.split(stream(key, "start"), prompts if start == "shared" else number)
        state = jax.vmap(env.initial)(keys)
        each = state, initial_carry(env, policy, params, state, key)
        state, carry = jax.tree.map(lambda x: jnp.repeat(x, number // keys.shape[0], 0), each)
        return Running(state, carry, *clock)

    def play(
        policy: Policy, params: Params, running: Running, key: Key, each: int, keep_state: bool
    ) -> Rollout:
        steps, obs, states = unroll(
            env, policy, params, running, key, chunk=chunk, keep_state=keep_state
        )
        first = jnp.zeros_like(steps.mask).at[0].set(1.0)
        lanes = running.time.shape[0]
        blank = in_each(policy.carry, lanes)
        return to_rollout(steps, obs, states, first, blank, (lanes // each, each))

    def collect(
        state: tuple[()], policy: Policy, params: Params, key: Key, *, keep_state: bool
    ) -> Collected:
        running = start_groups(policy, params, key)
        rollout = play(policy, params, running, key, group, keep_state)
        length = rollout.mask.sum(-1)
        size = min(chunk, env.horizon)
        rows = jnp.ceil(length.max() / size) * size
        ended, metrics = finished(rollout.reward.sum(-1), length, jnp.ones(1))
        metrics |= {"padding": 1.0 - length.mean() / rows}
        return Collected(state, rollout, Charge(length.sum(), ended), metrics)

    def simulate(
        state: State,
        policy: Policy,
        params: Params,
        key: Key,
        *,
        time: Array | None = None,
        alive: Array | None = None,
        keep_state: bool = False,
    ) -> Rollout:
        many = len(jax.tree.leaves(state)[0])
        clock = at_start(many)
        time = clock[0] if time is None else time
        alive = clock[1] if alive is None else alive.astype(bool)
        alive &= time < env.horizon
        running = Running(state, initial_carry(env, policy, params, state, key), time, alive)
        return play(policy, params, running, key, 1, keep_state)

    shape = (prompts, group, env.horizon)
    shared = start == "shared"
    return Collector(
        lambda key, policy: (), collect, simulate, shape, whole_episodes=True, shared=shared
    )


def judged(inner: Collector, judge: Judge) -> Collector:
    """Whole episodes of a task in tokens, paid at their end by a judge instead of the task's verifier.

    The metric `return_true` is what the verifier would have paid.
    """

    def pay(rollout: Rollout) -> Rollout:
        each = jax.vmap(jax.vmap(judge.score))(rollout.obs[:, :, -1])
        return rollout.replace(reward=each[..., None] * rollout.terminated)

    def collect(
        state: Any, policy: Policy, params: Params, key: Key, *, keep_state: bool
    ) -> Collected:
        found = inner.collect(state, policy, params, key, keep_state=keep_state)
        rollout = pay(found.rollout)
        told = {"return": rollout.reward.sum(-1).mean(), "return_true": found.metrics["return"]}
        return found._replace(rollout=rollout, metrics=found.metrics | told)

    def simulate(*args: Any, **options: Any) -> Rollout:
        return pay(inner.simulate(*args, **options))

    return inner._replace(collect=collect, simulate=simulate)


def finished(return_: Array, length: Array, weight: Array) -> tuple[Array, Metrics]:
    """How many episodes ended, and their mean return and length."""
    weight = jnp.broadcast_to(weight, return_.shape)
    count = weight.sum()
    mean = lambda x: jnp.where(count > 0, (x * weight).sum() / jnp.maximum(count, 1), jnp.nan)  # noqa: E731
    return count, {"return": mean(return_), "length": mean(length)}


class FragmentState(NamedTuple):
    """Where each lane of fragments stands; fields are `[N, ...]`.

    Attributes:
      state: of the environment.
      carry: of the policy.
      time: steps taken in the present episode.
      return_: reward so far in the present episode.
      first: one where the next row begins an episode.
      cut: one where the next row is the boundary row of a truncated episode.
    """

    state: State
    carry: Carry
    time: Array
    return_: Array
    first: Array
    cut: Array


def fresh_starts(env: Env, key: Key, length: int, number: int) -> State:
    """`[length, number]` states in which lanes may begin anew.

    One a lane for as many rows as no two episodes can begin in.
    """
    gap = min(env.shortest, env.horizon, length)
    keys = jax.random.split(key, (-(-length // gap), number))
    fresh = jax.vmap(jax.vmap(env.initial))(keys)
    return jax.tree.map(lambda x: jnp.repeat(x, gap, 0)[:length], fresh)


def fragments(env: Env, *, number: int, length: int, time_limit: str = "truncates") -> Collector:
    """`length` steps of each of `number` environments that go on across updates and reset by themselves.

    Args:
      env: the environment; `env.horizon` bounds an episode.
      number: environments side by side, `B`; there are no groups, `G = 1`.
      length: `T`.
      time_limit: `truncates`, the final observation is kept in a boundary row and bootstrapped, or
        `terminates`, as CleanRL and PureJaxRL take it: the clock is treated like the task's own end.
    """

    def init(key: Key, policy: Policy) -> FragmentState:
        if policy.begin is not None:
            raise ValueError(
                "collector: this policy reads whole episodes from their start; allowed: episodes"
            )
        state = jax.vmap(env.initial)(jax.random.split(stream(key, "start"), number))
        zero = jnp.zeros(number)
        carry = in_each(policy.carry, number)
        return FragmentState(state, carry, zero.astype(jnp.int32), zero, zero + 1, zero)

    def collect(
        lane: FragmentState, policy: Policy, params: Params, key: Key, *, keep_state: bool
    ) -> Collected:
        step_lanes = jax.vmap(lambda s, c, n, k: advance(env, policy, params, s, c, n, k))
        blank = in_each(policy.carry, number)

        def body(lane: FragmentState, xs: Any) -> tuple[FragmentState, Any]:
            noise, keys, fresh = xs
            held = choose(lane.first > 0, blank, lane.carry)
            after, held, step = step_lanes(lane.state, held, noise, keys)
            live, time = 1.0 - lane.cut, lane.time + 1
            out = (time >= env.horizon).astype(jnp.float32)
            step = clocked(step, live, out, ends=time_limit == "terminates")
            step = step.replace(first=lane.first, state=lane.state if keep_state else None)
            return_, reset = lane.return_ + step.reward, step.terminated + lane.cut
            state, going = choose(reset > 0, fresh, after), step.trace
            lane = FragmentState(
                state, held, time * going.astype(jnp.int32), return_ * going, reset, step.truncated
            )
            return lane, (step, return_, time.astype(jnp.float32))

        fresh = fresh_starts(env, stream(key, "start"), length, number)
        draws = (*randomness(key, length, number, policy.noise_shape), fresh)
        # Of more steps at once the compiler makes the earlier ones anew for each of the later.
        after, (steps, return_, lengths) = jax.lax.scan(body, lane, draws, unroll=2)
        last_keys = jax.random.split(stream(key, "last"), number)
        last = jax.vmap(lambda s, k: observe(env, s, k)[0])(after.state, last_keys)
        append = lambda xs, x: jnp.concatenate([xs, x[None]])  # noqa: E731
        states = jax.tree.map(append, steps.state, after.state) if keep_state else None
        rollout = to_rollout(
            steps, append(steps.obs, last), states, steps.first, lane.carry, (number, 1)
        )
        ended, metrics = finished(return_, lengths, steps.terminated + steps.truncated)
        return Collected(after, rollout, Charge(rollout.mask.sum(), ended), metrics)

    # Fresh episodes from given states are whole episodes, whatever the updates are made of.
    simulate = episodes(env, prompts=1, group=1, start="shared").simulate
    return Collector(init, collect, simulate, (number, 1, length), whole_episodes=False)


def informative(
    env: Env,
    *,
    prompts: int,
    group: int,
    start: str,
    attempts: int,
    gamma: float,
    chunk: int = 16,
) -> Collector:
    """`episodes` of which groups without a signal are drawn again: see there, and `drawn_again`."""
    drawn = episodes(env, prompts=prompts, group=group, start=start, chunk=chunk)
    return drawn_again(drawn, attempts=attempts, gamma=gamma)


def drawn_again(drawn: Collector, *, attempts: int, gamma: float) -> Collector:
    """Draw again the groups whose returns are all equal, from new start states.

    DAPO's dynamic sampling (Yu et al., 2025, arXiv:2503.14476): such groups have no advantage under any
    group-relative baseline. What was drawn in vain is charged to the budget. After the last attempt the
    batch keeps what it has. Metrics are those of the first batch, so that `return` stays the policy's, and
    not that of what was picked.

    Args:
      drawn: of whole episodes in groups.
      attempts: most batches that are drawn for one update.
      gamma: the agent's discount, under which returns are equal or not.
    """

    def collect(
        state: Any, policy: Policy, params: Params, key: Key, *, keep_state: bool
    ) -> Collected:
        def draw(state: Any, key: Key) -> Collected:
            return drawn.collect(state, policy, params, key, keep_state=keep_state)

        def signal(rollout: Rollout) -> Array:
            return_ = returns.outcome(rollout, gamma=gamma)[..., 0]
            # What could not be scored tells nothing.
            scored = jnp.isfinite(return_)
            best = jnp.where(scored, return_, -jnp.inf).max(1)
            return best > jnp.where(scored, return_, jnp.inf).min(1)

        def again(loop: Any) -> Any:
            attempt, state, kept, good, steps = loop
            found = draw(state, jax.random.fold_in(key, attempt))
            fresh = signal(found.rollout)
            # The k-th new group with signal takes the place of the k-th old one without.
            source, place = jnp.argsort(~fresh), jnp.argsort(good)
            taken = jnp.arange(len(good)) < jnp.minimum(fresh.sum(), (~good).sum())
            chosen = jnp.zeros_like(good).at[place].set(taken)
            origin = jnp.zeros_like(place).at[place].set(source)
            kept = choose(chosen, jax.tree.map(lambda x: x[origin], found.rollout), kept)
            return attempt + 1, found.state, kept, good | chosen, steps + found.charge.steps

        def unfinished(loop: Any) -> Array:
            attempt, _, _, good, _ = loop
            return (attempt < attempts) & ~good.all()

        first = draw(state, key)
        begun = first.state, first.rollout, signal(first.rollout), first.charge.steps
        loop = jax.lax.while_loop(unfinished, again, (jnp.int32(1), *begun))
        attempt, state, rollout, _, steps = loop
        charge = Charge(steps, attempt * first.charge.episodes)
        metrics = first.metrics | {"attempts": attempt.astype(jnp.float32)}
        return Collected(state, rollout, charge, metrics)

    return drawn._replace(collect=collect)
