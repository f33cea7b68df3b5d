"""What a critic's outputs mean: a number, or a distribution whose mean is the number.

All heads but `scalar` expect values within [0, 1] or near it: use them with a `vfcompare.scaling` that sees
to it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import rlax

from vfcompare.types import Array


class ValueHead(NamedTuple):
    """A reading of outputs.

    Attributes:
      outputs: number of outputs.
      decode: `(outputs [..., n]) -> value [...]`.
      loss: `(outputs [..., n], target [...], old [...]) -> [...]`; `old` is the value before the fit.
    """

    outputs: int
    decode: Callable[[Array], Array]
    loss: Callable[[Array, Array, Array], Array]


def scalar(*, clip: float | None) -> ValueHead:
    """One output, fitted by squared error: `½ (V - target)²`.

    With `clip` the error is the larger one of the value and of the value kept within `±clip` of the value
    before the fit (PPO's implementations; Huang et al., 2022). It depends on the scale of the return.

    Args:
      clip: range of a value's change in one fit, or None.
    """

    def loss(outputs: Array, target: Array, old: Array) -> Array:
        value = outputs[..., 0]
        error = optax.squared_error(value, target)
        if clip is not None:
            limited = old + jnp.clip(value - old, -clip, clip)
            error = jnp.maximum(error, optax.squared_error(limited, target))
        return 0.5 * error

    return ValueHead(1, lambda outputs: outputs[..., 0], loss)


def require_ends(low: float, high: float) -> None:
    """Raise a ValueError where the ends of a head are not in order."""
    if not low < high:
        raise ValueError(f"critic.head.low={low} is not allowed; allowed: below head.high={high}")


def bounded(*, low: float, high: float) -> ValueHead:
    """One output through a sigmoid, fitted by squared error: `V = low + (high - low) σ(x)`.

    For outcomes that are bounded, as in BPCO (arXiv:2608.23566): no value promises more than can be paid.

    Args:
      low: smallest value.
      high: largest value.
    """
    require_ends(low, high)

    def decode(outputs: Array) -> Array:
        return low + (high - low) * jax.nn.sigmoid(outputs[..., 0])

    def loss(outputs: Array, target: Array, old: Array) -> Array:
        del old
        return 0.5 * optax.squared_error(decode(outputs), target)

    return ValueHead(1, decode, loss)


def hl_gauss(*, bins: int, low: float, high: float, sigma: float) -> ValueHead:
    """A histogram fitted by cross-entropy to a normal distribution around the target.

    Farebrother et al., 2024 (arXiv:2403.03950). The support should reach some `3 σ` beyond the values: near
    its ends the mean of the cut normal distribution is not the target.

    Args:
      bins: number of bins.
      low: begin of the support.
      high: end of the support.
      sigma: deviation of the normal distribution, in widths of a bin (0.75 in the paper).
    """
    require_ends(low, high)
    edges = jnp.linspace(low, high, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    width = (high - low) / bins

    def project(target: Array) -> Array:
        # Far beyond the support nothing of the normal distribution is left to divide by.
        target = jnp.clip(target, low, high)
        below = jax.scipy.special.erf((edges - target[..., None]) / (2**0.5 * sigma * width))
        return (below[..., 1:] - below[..., :-1]) / (below[..., -1:] - below[..., :1])

    return histogram(centres, project)


def two_hot(*, bins: int, low: float, high: float) -> ValueHead:
    """A histogram over `h(V)`, fitted by cross-entropy to the two bins next to the target (MuZero).

    `h(x) = sign(x) (√(|x| + 1) - 1) + 0.001 x` squeezes large values (Schrittwieser et al., 2020; by rlax).
    The mean is taken of the squeezed values: of a return that is 1 with probability 0.2 it is 0.17.

    Args:
      bins: number of bins, the ends of the support included.
      low: smallest value.
      high: largest value.
    """
    require_ends(low, high)
    ends = rlax.signed_hyperbolic(jnp.array([low, high]))
    if bins == 1:
        return histogram(jnp.array([(low + high) / 2]), lambda target: jnp.ones((*target.shape, 1)))
    support = jnp.linspace(ends[0], ends[1], bins)

    def project(target: Array) -> Array:
        squeezed = rlax.signed_hyperbolic(jnp.clip(target, low, high))
        return onto(support, squeezed)

    def decode(outputs: Array) -> Array:
        return rlax.signed_parabolic(jax.nn.softmax(outputs) @ support)

    return histogram(support, project)._replace(decode=decode)


def categorical(*, bins: int, low: float, high: float) -> ValueHead:
    """A histogram fitted by cross-entropy to the projection of the target onto its support.

    C51's projection (Bellemare et al., 2017, arXiv:1707.06887; by rlax) of a return that is a single number.

    Args:
      bins: number of bins, the ends of the support included.
      low: smallest value.
      high: largest value.
    """
    require_ends(low, high)
    if bins == 1:
        return histogram(jnp.array([(low + high) / 2]), lambda target: jnp.ones((*target.shape, 1)))
    support = jnp.linspace(low, high, bins)
    return histogram(support, lambda target: onto(support, target))


def onto(support: Array, target: Array) -> Array:
    """All mass of each target on the two points of the support next to it: `[...] -> [..., n]`."""
    one = lambda x: rlax.categorical_l2_project(x[None], jnp.ones(1), support)  # noqa: E731
    return jax.vmap(one)(target.reshape(-1)).reshape(*target.shape, -1)


def histogram(centres: Array, project: Callable[[Array], Array]) -> ValueHead:
    """Probabilities of bins, whose mean is the value."""

    def loss(outputs: Array, target: Array, old: Array) -> Array:
        del old
        return optax.softmax_cross_entropy(outputs, project(target))

    return ValueHead(len(centres), lambda outputs: jax.nn.softmax(outputs) @ centres, loss)


def quantile(*, quantiles: int, huber: float) -> ValueHead:
    """Quantiles of the return, whose mean is the value, fitted by the quantile Huber loss.

    Dabney et al., 2018 (arXiv:1710.10044), by rlax; the return is a single number. Where every error is below
    `huber` the outputs are expectiles: the mean of a return that is 1 with probability 0.2 is then read as
    0.28.

    Args:
      quantiles: number of quantiles, at `(i + 1/2) / n`.
      huber: up to which error the loss is quadratic.
    """
    levels = (jnp.arange(quantiles) + 0.5) / quantiles

    def loss(outputs: Array, target: Array, old: Array) -> Array:
        del old
        one = lambda x, y: rlax.quantile_regression_loss(x, levels, y[None], huber)  # noqa: E731
        flat = jax.vmap(one)(outputs.reshape(-1, quantiles), target.reshape(-1))
        return flat.reshape(target.shape)

    return ValueHead(quantiles, lambda outputs: outputs.mean(-1), loss)
