"""Optimisers that know how much of the budget is used up."""

import jax
import jax.numpy as jnp
import optax

from vfcompare.types import Array


def adam(
    *, learning_rate: float, eps: float, max_grad_norm: float | None, norm: str, anneal: bool
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma and Ba, 2015) behind a clip of the gradient's global norm.

    Args:
      learning_rate: at the start.
      eps: of the denominator.
      max_grad_norm: largest norm of a gradient, or None.
      norm: whose norm: `own`, this network's, or `joint`, that of all networks together, as implementations
        do that sum the losses. A critic far from its targets then shortens the policy's steps as well.
      anneal: whether the learning rate falls linearly to zero over the budget.
    """
    parts = [optax.adam(learning_rate, eps=eps)]
    if max_grad_norm is not None:
        clips = {"own": optax.clip_by_global_norm, "joint": clip_by_joint_norm}
        parts.insert(0, clips[norm](max_grad_norm))
    if anneal:
        parts.append(scale_by_remaining_budget())
    # As one vector: on small networks the cost of a step is the number of arrays it touches.
    return optax.with_extra_args_support(optax.flatten(optax.chain(*parts)))


def clip_by_joint_norm(max_norm: float) -> optax.GradientTransformationExtraArgs:
    """Scale a network's gradient by `min(1, max_norm / |g|)`, `|g|` the norm over all networks."""

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        joint_norm: Array,
        **others: object,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, others
        factor = max_norm / jnp.maximum(joint_norm, max_norm)
        return jax.tree.map(lambda x: x * factor, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


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
