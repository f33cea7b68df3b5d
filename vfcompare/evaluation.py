"""How good a policy is: whole episodes by sampled and by greedy actions, on a stream of their own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vfcompare.oracle import calibration
from vfcompare.play import Running, at_start, initial_carry, unroll
from vfcompare.streams import stream
from vfcompare.types import Array, Carry, Env, Key, Metrics, Params, Policy

CHUNK = 16
"""Steps between two looks at who is alive."""


def evaluate(
    env: Env,
    policy: Policy,
    params: Params,
    key: Key,
    *,
    number: int,
    attempts: int = 1,
) -> Metrics:
    """Mean return and length of episodes by sampled and by greedy actions, and the sampled ones' entropy.

    Both begin in the same start states. One loop runs them all: which lane is greedy is part of its carry.

    Args:
      env: the task as it is evaluated.
      policy: who acts.
      params: its parameters.
      key: of the random stream.
      number: start states.
      attempts: `n`, episodes by sampled actions from each; there is one greedy one.

    Returns:
      `return_sampled`, `return_greedy`, `length_sampled`, `length_greedy`, `entropy` (mean `-log π(a|s)` of a
      sampled action), and `return_split`, half of what the sampled episodes from the first half of the start
      states return more than those from the last, which has mean zero and, of an even number, the standard
      deviation of `return_sampled`; not a number of a single start state. Where episodes can pass
      (`env.passes`), also `pass_at_1`, `pass_at_2`, `pass_at_4`, ... up to `n`, see `pass_at`, and the mean
      length of those that pass, `length_passed`, and that do not, `length_failed`, not a number where there
      are none. Where the first step says which it will be (`env.report`), also the mean probability of saying
      `<yes>`, `confidence`, and what it is worth, `brier` and `auroc`, see `vfcompare.oracle.calibration`.
    """

    def act(
        params: Params, held: tuple[Carry, Array], obs: Array, legal: Array | None, noise: Array
    ) -> tuple[Any, Array, Array]:
        carry, greedy = held
        carry, sampled, log_prob = policy.act(params, carry, obs, legal, noise)
        mode = policy.mode(params, held[0], obs, legal)[1]
        return (carry, greedy), jnp.where(greedy, mode, sampled), log_prob

    state = jax.vmap(env.initial)(jax.random.split(stream(key, "start"), number))
    begun = state, initial_carry(env, policy, params, state, key)
    each = lambda x: jnp.concatenate([jnp.repeat(x, attempts, 0), x])  # noqa: E731
    state, carry = jax.tree.map(each, begun)
    samples, total = attempts * number, (attempts + 1) * number
    greedy = jnp.arange(total) >= samples
    running = Running(state, (carry, greedy), *at_start(total))
    steps, _, _ = unroll(
        env, policy._replace(act=act), params, running, key, chunk=CHUNK, keep_state=False
    )
    return_, length = steps.reward.sum(0), steps.mask.sum(0)
    half = number // 2 * attempts
    first, last = return_[:half].mean(), return_[samples - half : samples].mean()
    surprise = -(steps.log_prob * steps.mask)[:, :samples].sum()
    metrics = {
        "return_sampled": return_[:samples].mean(),
        "return_greedy": return_[samples:].mean(),
        "return_split": (first - last) / 2,
        "length_sampled": length[:samples].mean(),
        "length_greedy": length[samples:].mean(),
        "entropy": surprise / length[:samples].sum(),
    }
    if env.passes is None:
        return metrics
    passed = return_[:samples] >= env.passes
    metrics |= passing(passed, length[:samples], attempts)
    if env.report is None:
        return metrics
    chance = jnp.exp(steps.log_prob[0, :samples])
    belief = jnp.where(steps.action[0, :samples] == env.report(True), chance, 1.0 - chance)
    return metrics | {
        "confidence": belief.mean(),
        "brier": calibration.brier(belief, passed),
        "auroc": calibration.auroc(belief, passed),
    }


def passing(passed: Array, length: Array, attempts: int) -> Metrics:
    """`pass_at_k` for k = 1, 2, 4, ..., and the mean lengths of what passed and of what did not.

    Args:
      passed: `[number * attempts]`, attempts at the same start side by side.
      length: of each.
      attempts: `n`.
    """
    count = passed.reshape(-1, attempts).sum(1)
    sizes = [2**i for i in range(attempts.bit_length())]
    rates = {f"pass_at_{k}": pass_at(count, attempts, k).mean() for k in sizes}
    lengths = {
        f"length_{name}": jnp.mean(length, where=chosen)
        for name, chosen in (("passed", passed), ("failed", ~passed))
    }
    return rates | lengths


def pass_at(passed: Array, attempts: int, k: int) -> Array:
    """pass@k, `1 - C(n - c, k) / C(n, k)`: the chance that one of `k` attempts out of `n` passes.

    Unbiased for `1 - (1 - p)^k` (Chen et al., 2021, arXiv:2107.03374), as the product
    `1 - Π_{i<k} (n - c - i) / (n - i)`.

    Args:
      passed: `c`, of any shape.
      attempts: `n`.
      k: at most `n`.
    """
    i = np.arange(k)
    left = jnp.maximum(attempts - passed[..., None] - i, 0) / (attempts - i)
    return 1.0 - left.prod(-1)
