"""Optimisers that know how much of the budget is used up."""

import jax
import optax

from vfcompare.types import Array


def adam(
    *, learning_rate: float, eps: float, max_grad_norm: float | None, anneal: bool
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma and Ba, 2015) behind a clip of the gradient's global norm.

    Args:
      learning_rate: at the start.
      eps: of the denominator.
      max_grad_norm: clip of this network's own gradient norm, or None.
      anneal: whether the learning rate falls linearly to zero over the budget.
    """
    parts = [optax.adam(learning_rate, eps=eps)]
    if max_grad_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(max_grad_norm))
    if anneal:
        parts.append(scale_by_remaining_budget())
    # As one vector: on small networks the cost of a step is the number of arrays it touches.
    return optax.with_extra_args_support(optax.flatten(optax.chain(*parts)))


def scale_by_remaining_budget() -> optax.GradientTransformationExtraArgs:
    """Multiply updates by `1 - progress`, the share of the budget that is left.

    A schedule over gradient steps would need their number, which is not known beforehand where the budget
    counts environment steps and episodes differ in length.
    """

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        progress: Array,
        **others: object,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, others
        return jax.tree.map(lambda x: x * (1.0 - progress), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
