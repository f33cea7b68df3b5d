"""How much what was believed beforehand is worth: confidence against what came out."""

import jax.numpy as jnp

from vfcompare.types import Array


def brier(confidence: Array, outcome: Array) -> Array:
    """`mean (p - y)^2` (Brier, 1950): 0 is clairvoyance, `y̅ (1 - y̅)` knowing the mean alone.

    Args:
      confidence: `p`, in 0 to 1, `[n]`.
      outcome: `y`, bool `[n]`.
    """
    return jnp.square(confidence - outcome).mean()


def auroc(confidence: Array, outcome: Array) -> Array:
    """`P(p_i > p_j) + P(p_i = p_j) / 2` for `i` that came out and `j` that did not; 0.5 tells nothing.

    Mann & Whitney (1947), by ranks; not a number where all came out, or none.

    Args:
      confidence: `p`, `[n]`.
      outcome: `y`, bool `[n]`.
    """
    ordered = jnp.sort(confidence)
    below = jnp.searchsorted(ordered, confidence, side="left")
    upto = jnp.searchsorted(ordered, confidence, side="right")
    # In shares of n, since squares of a count leave float32 no digits.
    n = confidence.shape[0]
    rank, share = (below + upto + 1) / (2 * n), outcome.mean()
    return ((rank * outcome).mean() / share - (share + 1 / n) / 2) / (1 - share)
