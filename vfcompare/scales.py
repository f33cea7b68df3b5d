"""What credit minus baseline is divided by: scales, `(advantage, sample) -> [B, G, T]`.

They look at the same returns as baselines, see `vfcompare.baselines`.
"""

import jax.numpy as jnp

from vfcompare import baselines, masked
from vfcompare.baselines import Sample
from vfcompare.types import Array


def unscaled(advantage: Array, sample: Sample) -> Array:
    """Divide by nothing."""
    del sample
    return advantage


def group_std(advantage: Array, sample: Sample, *, ddof: int, eps: float) -> Array:
    """Divide by the group's standard deviation: `A / (std_g R + eps)`.

    Shao et al., 2024 (arXiv:2402.03300). Frameworks differ in both numbers: verl `ddof=1, eps=1e-6`, TRL
    `ddof=1, eps=1e-4`. A group of one has no deviation: it is divided by `1 + eps` (verl).
    """
    count = sample.scored.sum(1, keepdims=True)
    square = jnp.square(sample.return_ - baselines.group_mean(sample)) * sample.scored
    variance = square.sum(1, keepdims=True) / jnp.maximum(count - ddof, 1.0)
    return advantage / (jnp.where(count > ddof, jnp.sqrt(variance), 1.0) + eps)


def batch_std(advantage: Array, sample: Sample, *, ddof: int, eps: float) -> Array:
    """Divide by the standard deviation of all returns of the batch: `A / (std_{b,g} R + eps)`.

    Liu et al., 2025 (Lite PPO, arXiv:2508.08221), with the group's mean as baseline.
    """
    _, variance = masked.moments(sample.return_, sample.scored, ddof=ddof)
    return advantage / (jnp.sqrt(variance) + eps)


def group_mean(advantage: Array, sample: Sample) -> Array:
    """Divide by the group's mean return, nothing where it is not positive: `A / mean_g R`.

    MaxRL, with the same as baseline: for returns of 0 and 1 the expected gradient follows `log p`, as far as
    a group can see it, `E[(1 - m) 1{m > 0}]` instead of `p (1 - p)` for a single logit. Hard prompts count
    more.
    """
    mean = baselines.group_mean(sample)
    return masked.ratio(advantage, mean)


def paid_share(advantage: Array, sample: Sample) -> Array:
    """Divide by the share of rollouts that were paid anything: `A / (#{R ≠ 0} / N)`, GPG.

    Chu et al., 2025 (arXiv:2504.02546), as verl has it.
    """
    paid = ((sample.return_ != 0) * sample.scored).sum()
    return advantage * sample.scored.sum() / jnp.maximum(paid, 1.0)


def step_whitened(advantage: Array, sample: Sample, *, ddof: int, eps_of_variance: float) -> Array:
    """Centre and scale over all steps of the batch: `(A - mean) / sqrt(var + e_v)`.

    REINFORCE++ (Hu, 2025, arXiv:2501.03262), as verl has it: `ddof=1, eps_of_variance=1e-8`. Long episodes
    count more.
    """
    return masked.whitened(
        advantage, sample.rollout.mask * sample.scored, ddof=ddof, eps_of_variance=eps_of_variance
    )


def episode_whitened(advantage: Array, sample: Sample, *, ddof: int, eps: float) -> Array:
    """Centre and scale over the episodes of the batch: `(A - mean) / (std + eps)`.

    By the advantage of their first steps. TRL's RLOO with `normalize_advantages` (`ddof=1, eps=1e-4`); SPO
    (`eps=1e-8`).
    """
    mean, variance = masked.moments(advantage[..., :1], sample.scored, ddof=ddof)
    return (advantage - mean) / (jnp.sqrt(variance) + eps)
