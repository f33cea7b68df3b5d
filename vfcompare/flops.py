"""What a computation costs: multiplications and additions of its matrix products and convolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


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
