"""How far an agent's estimates are from the truth, on tasks where the truth is known.

The policy is held still. Batches are drawn from it, the agent's own estimator says its advantages, and these
and the gradients they make are compared with `vfcompare.oracle.exact`. Whole batches are one sample: what a
group or a batch shares counts as noise, as it does for the learner.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vfcompare.batching import zeros
from vfcompare.columns import BINS
from vfcompare.masked import ratio
from vfcompare.oracle import exact
from vfcompare.streams import stream
from vfcompare.types import Access, Array, Env, Key, Metrics, Params, Policy, Rollout
from vfcompare.valuation import Estimator

COSINE = 0.9
"""The agreement with the true gradient at which a batch is called large enough."""

NOTHING = 1e-6
"""Variance relative to the square it is told from below which it counts as none, but rounding."""


class Lab(NamedTuple):
    """How much is measured.

    Attributes:
      batches: independent batches, each of as many episodes as an update has.
      starts: start states that prompts are drawn from; the truth is their mean.
      fade: weight of each step in the true gradient relative to the one before it: 1 for agents that leave
        out the factor `γ^t`, None for γ itself, which whole discounted returns have in them.
    """

    batches: int
    starts: int
    fade: float | None = 1.0


class Examined(NamedTuple):
    """What is examined.

    Attributes:
      env: an enumerable environment.
      policy: who acts.
      estimator: whose advantages are judged.
      shape: `(B, G)` of a batch.
      shared: whether the `G` rollouts of a prompt begin in the same state.
      rollouts: `(policy params, start states [N], key) -> Rollout [N, 1, T]`, with environment states.
      access: `(policy params, progress) -> Access`.
      gamma: the agent's discount.
    """

    env: exact.Enumerable
    policy: Policy
    estimator: Estimator
    shape: tuple[int, int]
    shared: bool
    rollouts: Callable[[Params, Any, Key], Rollout]
    access: Callable[[Params, Array], Access]
    gamma: float


class Truth(NamedTuple):
    """What is known of the policy; tables have a leading axis of contexts, one unless places depend on it.

    Attributes:
      tables: `[contexts, ...]`, values and advantages by time and place; visits are means over the start
        states of a context.
      gradient: `[P]`, the mean over start states.
      between: `E|∇J(s_0) - ∇J|²`, how much start states differ in their gradients.
      survival: length of `E Σ_t f^t ∇log π(a_t|s_t) 1[the episode goes on after t]`, what a constant error of
        one adds to the gradient at λ = 0, per γ; `f` is `Lab.fade`.
    """

    tables: exact.Exact
    gradient: Array
    between: Array
    survival: Array


class PaysForGoingOn:
    """An enumerable environment that pays one for every step after which the episode goes on."""

    def __init__(self, env: exact.Enumerable) -> None:
        """Everything but the reward stays."""
        self._env = env

    def __getattr__(self, name: str) -> Any:
        """The inner environment's."""
        return getattr(self._env, name)

    def outcomes(self, start: Any, time: Array) -> exact.Outcomes:
        """The inner ones, paid for going on."""
        found = self._env.outcomes(start, time)
        # Not every task has an end where its clock runs out.
        return found._replace(reward=(1.0 - found.terminal) * (time + 1 < self._env.horizon))


def examine(lab: Lab, subject: Examined, state: Any, key: Key, progress: Array) -> Metrics:
    """Compare estimates with the truth.

    Args:
      lab: how much.
      subject: of what.
      state: the learner's, of which `params` and the estimator's `memory` are read.
      key: one key for all.
      progress: share of the budget that is used up, on which lesions depend.

    Returns:
      Scalars, each described in `docs/oracle.md`.
    """
    env, params = subject.env, state.params
    starts = pool_of(env, lab, key)
    truth = solve(subject, params["policy"], starts, lab.fade)
    read_keys = jax.random.split(stream(key, "batches"), lab.batches)

    def batch(sums: Any, key: Key) -> tuple[Any, None]:
        found = measure(subject, state, starts, truth, key, progress)
        return added(sums, found), None

    nothing = zeros(lambda key: measure(subject, state, starts, truth, key, progress), key)
    sums, _ = jax.lax.scan(batch, nothing, read_keys)
    metrics = summarise_gradient(sums["gradient"], truth.gradient, lab.batches, subject.shape)
    metrics |= {"gradient_between": truth.between, "survival_gradient": truth.survival}
    metrics |= summarise_advantage(sums["advantage"])
    metrics |= summarise_score(sums["score"])
    metrics["signal_share"] = sums["signal"] / lab.batches
    if "value" in sums:
        metrics |= summarise_value(sums["value"])
    read = reader(subject, state)
    if read is not None:
        metrics["rank_accuracy"] = rank_accuracy(subject, read, starts, truth)
    return metrics


def pool_of(env: Env, lab: Lab, key: Key) -> Any:
    """The start states that prompts are drawn from, the same wherever the key is: `[starts, ...]`."""
    return jax.vmap(env.initial)(jax.random.split(stream(key, "pool"), lab.starts))


def solve(subject: Examined, params: Params, pool: Any, fade: float | None = 1.0) -> Truth:
    """Solve the policy from every start state of the pool; see `vfcompare.oracle.exact.policy_gradient`."""
    env, gamma = subject.env, subject.gamma
    weight = gamma if fade is None else fade

    log_probs = partial(exact.listed, subject.policy)

    def tables_from(start: Any) -> exact.Exact:
        return exact.evaluate(env, log_probs(params), start, gamma=gamma)

    def gradient(env: exact.Enumerable, gamma: float, start: Any) -> Array:
        found = exact.policy_gradient(env, log_probs, params, start, gamma=gamma, fade=weight)
        return ravel_pytree(found)[0]

    def over_pool(f: Callable[[Any], Any]) -> Any:
        return jax.lax.map(f, pool)

    tables, each = over_pool(tables_from), over_pool(partial(gradient, env, gamma))
    # With γ = 0, because a TD error sees one step ahead; steps weigh as they do in the agent's own gradient.
    survival = jnp.linalg.norm(over_pool(partial(gradient, PaysForGoingOn(env), 0.0)).mean(0))
    if not env.contextual:
        # Start states differ in where one begins, not in what anything is worth.
        visits = tables.visits.mean(0, keepdims=True)
        tables = jax.tree.map(lambda x: x[:1], tables)._replace(visits=visits)
    mean = each.mean(0)
    return Truth(tables, mean, jnp.square(each - mean).sum(1).mean(), survival)


def measure(
    subject: Examined, state: Any, pool: Any, truth: Truth, key: Key, progress: Array
) -> dict[str, Any]:
    """Draw one batch, and add up what it says."""
    env, params, (prompts, group) = subject.env, state.params, subject.shape
    number = len(jax.tree.leaves(pool)[0])
    each = (prompts, 1 if subject.shared else group)
    chosen = jax.random.randint(stream(key, "prompts"), each, 0, number)
    chosen = jnp.broadcast_to(chosen, (prompts, group))
    starts = jax.tree.map(lambda x: x[chosen.reshape(-1)], pool)
    flat = subject.rollouts(params["policy"], starts, stream(key, "rollouts"))
    rollout = jax.tree.map(lambda x: x.reshape(prompts, group, *x.shape[2:]), flat)
    estimate = subject.estimator.estimate(
        state.memory,
        params,
        rollout,
        subject.access(params["policy"], progress),
        stream(key, "advantage"),
    )

    def objective(params: Params, rollout: Rollout, weight: Array) -> Array:
        return (subject.policy.evaluate(params, rollout.steps)[0] * weight).sum()

    weight = estimate.advantage * rollout.mask / (prompts * group)
    gradient = ravel_pytree(jax.grad(objective)(params["policy"], rollout, weight))[0]

    def score(one: Rollout) -> Array:
        whole = jax.tree.map(lambda x: x[None], one)
        found = ravel_pytree(jax.grad(objective)(params["policy"], whole, whole.mask))[0]
        return jnp.square(found).sum()

    place = jax.vmap(jax.vmap(jax.vmap(env.place)))(rollout.state)
    context = chosen if env.contextual else jnp.zeros_like(chosen)
    cell = (
        jnp.broadcast_to(context[:, :, None], rollout.mask.shape),
        jnp.broadcast_to(jnp.arange(env.horizon), rollout.mask.shape),
        place[..., :-1],
        rollout.action,
    )
    error = estimate.advantage - jax.vmap(lambda table: table.advantage)(truth.tables)[cell]
    sums = {
        "gradient": gradient_sums(gradient, truth.gradient),
        "advantage": cell_sums(truth.tables.action_value.shape, cell, error, rollout.mask),
        "score": pair_moments(jax.lax.map(score, flat), flat.reward.sum((1, 2)), jnp.float32(1.0)),
        "signal": (abs(estimate.advantage * rollout.mask) > 0).any((1, 2)).mean(),
    }
    if estimate.value is not None:
        true = truth.tables.value[(cell[0], cell[1], cell[2])]
        sums["value"] = value_sums(estimate.value[..., :-1], true, rollout.mask)
    return sums


def gradient_sums(gradient: Array, true: Array) -> dict[str, Array]:
    """Of one batch's gradient: itself, its squared length and its cosine with the true one."""
    length = jnp.linalg.norm(gradient)
    cosine = ratio(gradient @ true, length * jnp.linalg.norm(true))
    return {"sum": gradient, "square": jnp.square(length), "cosine": cosine}


def summarise_gradient(
    sums: dict[str, Array], true: Array, batches: int, shape: tuple[int, int]
) -> Metrics:
    """Bias, variance and what follows from them; the variance is per episode, `N` times that of a batch."""
    episodes = shape[0] * shape[1]
    mean = sums["sum"] / batches
    variance = (sums["square"] - batches * jnp.square(mean).sum()) / (batches - 1)
    norm = jnp.linalg.norm(true)
    # The mean of finitely many batches is off by chance too: that part is not bias.
    square = jnp.square(mean - true).sum() - variance / batches
    along = mean @ true / norm
    spare = jnp.square(along / COSINE) - jnp.maximum(
        jnp.square(mean).sum() - variance / batches, jnp.square(along)
    )
    return {
        "gradient_norm": norm,
        "gradient_bias": jnp.sign(square) * jnp.sqrt(abs(square)) / norm,
        "gradient_scale": along / norm,
        "gradient_variance": variance * episodes,
        "gradient_snr": jnp.square(norm) / (variance * episodes),
        "gradient_cosine": sums["cosine"] / batches,
        "episodes_to_cosine": jnp.where(
            (spare > 0) & (along > 0), variance * episodes / spare, jnp.inf
        ),
    }


def cell_sums(shape: tuple[int, ...], cell: Any, error: Array, mask: Array) -> dict[str, Array]:
    """Number, sum and sum of squares of errors by context, time, place and action."""
    empty = jnp.zeros(shape)
    return {
        "count": empty.at[cell].add(mask),
        "sum": empty.at[cell].add(error * mask),
        "square": empty.at[cell].add(jnp.square(error) * mask),
    }


def summarise_advantage(sums: dict[str, Array]) -> Metrics:
    """Bias and variance of the advantage, given time, place and action, as the visits weigh them."""
    count, total = sums["count"], sums["count"].sum()
    repeated = count > 1
    mean = sums["sum"] / jnp.maximum(count, 1)
    spread = jnp.maximum(sums["square"] - count * jnp.square(mean), 0.0)
    variance = jnp.where(repeated, spread / jnp.maximum(count - 1, 1), 0.0)
    known = jnp.where(repeated, count, 0.0)
    weight = known / jnp.maximum(known.sum(), 1)
    square = (weight * (jnp.square(mean) - variance / jnp.maximum(count, 1))).sum()
    return {
        "advantage_bias": jnp.sign(square) * jnp.sqrt(abs(square)),
        "advantage_variance": (weight * variance).sum(),
        "advantage_mse": sums["square"].sum() / total,
    }


class PairMoments(NamedTuple):
    """Number, means, and sums of squares and products about the means, of pairs `(x, y)`."""

    n: Array
    x: Array
    y: Array
    xx: Array
    yy: Array
    xy: Array


def pair_moments(x: Array, y: Array, weight: Array) -> PairMoments:
    """Weighted moments; weights are zero or one.

    About their own means, because `E x² - (E x)²` in float32 is rounding where numbers differ little.
    """
    weight = jnp.broadcast_to(weight, x.shape)
    n = weight.sum()
    mean_x, mean_y = ((weight * z).sum() / jnp.maximum(n, 1) for z in (x, y))
    dx, dy = x - mean_x, y - mean_y
    squares = ((weight * z).sum() for z in (dx * dx, dy * dy, dx * dy))
    return PairMoments(n, mean_x, mean_y, *squares)


def pooled(a: PairMoments, b: PairMoments) -> PairMoments:
    """The moments of both together: `M = M_a + M_b + δ² n_a n_b / n` (Chan, Golub and LeVeque, 1983)."""
    n = a.n + b.n
    share = b.n / jnp.maximum(n, 1)
    dx, dy = b.x - a.x, b.y - a.y
    return PairMoments(
        n=n,
        x=a.x + share * dx,
        y=a.y + share * dy,
        xx=a.xx + b.xx + dx * dx * a.n * share,
        yy=a.yy + b.yy + dy * dy * a.n * share,
        xy=a.xy + b.xy + dx * dy * a.n * share,
    )


def added(sums: Any, found: Any) -> Any:
    """What two batches say together: sums add up, moments are pooled."""
    return jax.tree.map(
        lambda x, y: pooled(x, y) if isinstance(x, PairMoments) else x + y,
        sums,
        found,
        is_leaf=lambda x: isinstance(x, PairMoments),
    )


def centred(sums: PairMoments) -> tuple[Array, Array, Array]:
    """`Var(x)`, `Var(y)` and `Cov(x, y)`."""
    return sums.xx / sums.n, sums.yy / sums.n, sums.xy / sums.n


def nan_unless(known: Array, x: Array) -> Array:
    """`x`, and NaN where there was nothing to measure."""
    return jnp.where(known, x, jnp.nan)


def summarise_score(sums: PairMoments) -> Metrics:
    """Mean squared score `E|∇ log π(episode)|²`, its correlation with the return, and the mean return."""
    var_score, var_return, covariance = centred(sums)
    return {
        "score_square": sums.x,
        "score_return_correlation": ratio(
            covariance, jnp.sqrt(jnp.maximum(var_score * var_return, 0.0))
        ),
        "lab_return": sums.y,
        "return_variance": var_return,
    }


def value_sums(value: Array, true: Array, mask: Array) -> dict[str, Any]:
    """Of the values' errors against the truth, over all steps and by time-to-go.

    Errors and not values: what differs little from large numbers would drown in their rounding.
    """
    horizon = mask.shape[-1]
    part = (horizon - 1 - jnp.arange(horizon)) * BINS // horizon
    inside = (part[:, None] == jnp.arange(BINS)) * mask[..., None]
    error = value - true
    return {
        "all": pair_moments(error, true, mask),
        "error": (jnp.square(error)[..., None] * inside).sum((0, 1, 2)),
        "count": inside.sum((0, 1, 2)),
    }


def summarise_value(sums: dict[str, Any]) -> Metrics:
    """Error of the values against the exact ones, and of which kind it is.

    `value_slope` is that of the regression of the truth on the values: below 1 they exaggerate. NaN where
    there is nothing to measure: explained variance and slope if the truth is constant, the slope also if the
    values are, and the error in a part of the horizon that no episode reached.
    """
    found, bias = sums["all"], sums["all"].x
    var_error, var_true, shared = centred(found)
    covariance, var_value = var_true + shared, var_error + var_true + 2 * shared
    varies = var_true > NOTHING * jnp.square(found.y)
    told = varies & (var_value > NOTHING * (var_error + var_true + jnp.square(found.y + bias)))
    metrics = {
        "value_rmse": jnp.sqrt(var_error + jnp.square(bias)),
        "value_bias": bias,
        "value_explained": nan_unless(varies, 1.0 - ratio(var_error, var_true)),
        "value_slope": nan_unless(told, ratio(covariance, var_value)),
    }
    for part in range(BINS):
        count = sums["count"][part]
        rmse = jnp.sqrt(sums["error"][part] / jnp.maximum(count, 1))
        metrics[f"value_rmse_to_go_{part + 1}_of_{BINS}"] = nan_unless(count > 0, rmse)
    return metrics


Reader = Callable[[Any, Array], Array]
"""`(start, time) -> [S]`, what a critic says of every place at a time."""


def reader(subject: Examined, state: Any) -> Reader | None:
    """The critic's values of places, None without one.

    What a critic with a memory says of a place depends on how the episode came there: it has none either.
    """
    critics, value = subject.estimator.critics, subject.estimator.value
    if value is None or any(critic.recurrent for critic in critics.values()):
        return None

    def read(start: Any, time: Array) -> Array:
        # Places stand where a rollout has steps.
        obs = exact.observations(subject.env, start, time)[0]
        ones = jnp.ones((1, 1, obs.shape[0] - 1))
        blank = jnp.zeros_like(ones)
        rollout = Rollout(
            obs=obs[None, None],
            action=blank,
            log_prob=blank,
            reward=blank,
            terminated=blank,
            truncated=blank,
            mask=ones,
            first=blank,
        )
        return value(state.memory, state.params, rollout)[0, 0]

    return read


def rank_accuracy(subject: Examined, read: Reader, pool: Any, truth: Truth) -> Array:
    """Share of pairs of actions, weighed by visits, that the critic's lookahead orders as the truth does.

    Both are legal. Pairs of equal worth do not count; a tie of the critic is half right. NaN where no pair
    counts.
    """
    env, gamma = subject.env, subject.gamma
    times = jnp.arange(env.horizon)

    def agreement(start: Any, table: exact.Exact) -> tuple[Array, Array]:
        def at(time: Array) -> tuple[Array, Array]:
            after = jnp.where(time + 1 < env.horizon, read(start, time + 1), 0.0)
            guess = exact.backup(env.outcomes(start, time), after, gamma)
            known = table.action_value[time]
            gap, told = (q[:, :, None] - q[:, None, :] for q in (known, guess))
            counts = (gap > 1e-6) * table.visits[time][:, None, None]
            legal = exact.observations(env, start, time)[1]
            if legal is not None:
                counts *= legal[:, :, None] * legal[:, None, :]
            right = (told > 0) + 0.5 * (told == 0)
            return (counts * right).sum(), counts.sum()

        right, counts = jax.lax.map(at, times)
        return right.sum(), counts.sum()

    if not env.contextual:
        pool = jax.tree.map(lambda x: x[:1], pool)
    right, counts = jax.lax.map(lambda x: agreement(*x), (pool, truth.tables))
    return nan_unless(counts.sum() > 0, ratio(right.sum(), counts.sum()))
