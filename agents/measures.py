"""What an update looks like from outside: its advantages, and how far it moved the policy."""

import jax.numpy as jnp

from vfcompare import masked
from vfcompare.columns import ADVANTAGE_EDGES
from vfcompare.types import Array, Batch, Metrics, Params, Policy


def advantages(advantage: Array, mask: Array) -> Metrics:
    """Of the advantages of steps: mean, deviation, distribution; and the share of groups that have one.

    `advantage_below_k` is the share of steps whose advantage is below the k-th of `ADVANTAGE_EDGES` times the
    root mean square of all.

    Args:
      advantage: `[B, G, T]`.
      mask: `[B, G, T]`.
    """
    mean = masked.mean(advantage, mask)
    variance = masked.mean(jnp.square(advantage - mean), mask)
    size = jnp.sqrt(variance + jnp.square(mean))
    below = {
        f"advantage_below_{k}": masked.mean(advantage < edge * size, mask)
        for k, edge in enumerate(ADVANTAGE_EDGES, 1)
    }
    return {
        "advantage_mean": mean,
        "advantage_std": jnp.sqrt(variance),
        "signal_fraction": (abs(advantage) > 0).any((1, 2)).mean(),
        **below,
    }


def step_sizes(policy: Policy, params: Params, row: Batch) -> tuple[Array, Metrics]:
    """How far a policy with these parameters is from the one that collected, for each row.

    Returns:
      `|log π - log μ|`, and what to log.
    """
    log_prob, entropy = policy.evaluate(params, row.steps)
    log_ratio = log_prob - row.log_prob
    excess = jnp.expm1(log_ratio)
    return abs(log_ratio), {
        "entropy": entropy,
        "kl": excess - log_ratio,
        "ratio_deviation": abs(excess),
        "probability_before": jnp.exp(row.log_prob),
        "probability": jnp.exp(log_prob),
    }
