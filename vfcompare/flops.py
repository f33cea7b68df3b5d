"""What a computation costs: multiplications and additions of its matrix products and convolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from vfcompare.types import Array, Batch, Networks, Params, Policy, Rollout


def acting(policy: Policy, params: Params, rollout: Rollout) -> tuple[float, float]:
    """FLOPs of one environment step, and of reading what an episode begins with.

    Args:
      policy: who acts.
      params: its parameters.
      rollout: any one; of this as of the parameters, shapes are enough.
    """
    one = lambda x: jax.ShapeDtypeStruct(x.shape[3:], x.dtype)  # noqa: E731
    obs, legal = jax.tree.map(one, (rollout.obs, rollout.legal))
    noise = jax.ShapeDtypeStruct(policy.noise_shape, jnp.float32)
    if policy.begin is None:
        return count(policy.act, params, policy.carry, obs, legal, noise), 0.0
    carry = jax.eval_shape(policy.begin, params, obs)
    return count(policy.act, params, carry, obs, legal, noise), count(policy.begin, params, obs)


def learning(
    policy: Policy,
    losses: Callable[[Networks, Batch], dict[str, Array]],
    params: Networks,
    batch: Batch,
    *,
    epochs: int,
    anchored: bool,
) -> float:
    """FLOPs of learning from one step of a batch: what is read beforehand, and the losses of all epochs.

    A critic is read for its values, which costs what its loss costs forward, and the initial policy for its
    probabilities.

    Args:
      policy: who learns.
      losses: of each network, `(params, rows [n]) -> losses`.
      params: of the networks; of these as of the batch, shapes are enough.
      batch: rows, with the `mask` of the steps of each.
      epochs: passes over the batch.
      anchored: whether the initial policy is asked.
    """
    row = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), batch)
    total = lambda params, row: sum(x.sum() for x in losses(params, row).values())  # noqa: E731
    evaluated = count(policy.evaluate, params["policy"], row.steps)
    critic = count(losses, params, row) - evaluated
    reference = evaluated if anchored else 0.0
    descended = epochs * count(jax.grad(total), params, row)
    return (critic + reference + descended) / row.mask.size


def count(f: Callable[..., Any], *args: Any) -> float:
    """FLOPs of `f(*args)`, of which nothing is computed: shapes are enough.

    A matrix product `[m, k] [k, n]` counts `2 m k n`, a convolution twice its outputs times what each sums
    up. Additions, activations and the like are left out. A scan counts as often as it is long, a loop of
    unknown length once, of branches the dearest.
    """
    return _of(jax.make_jaxpr(f)(*args).jaxpr)


def _of(jaxpr: Any) -> float:
    return sum(_one(equation) for equation in jaxpr.eqns)


def _one(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * summed
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / outputs
    inside = [_of(jaxpr) for jaxpr in _within(params)]
    if name == "cond":
        return max(inside, default=0.0)
    return sum(inside) * (params["length"] if name == "scan" else 1)


def _within(params: dict[str, Any]) -> Iterator[Any]:
    """The computations that an equation runs."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                yield inner
