"""Learning from examples, of a prior as of a reward model."""

from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vfcompare.types import Array, Env, Params, Policy, Spec

from .networks import build


class Verified(Env, Protocol):
    """A task in tokens that knows whether an answer is right."""

    def correct(self, tokens: Array) -> Array:
        """Whether whole tokens `[L]` hold a right answer: bool[]."""


def parts(
    env: Env,
    network: Callable[..., nn.Module],
    policy: Callable[..., Policy],
    prompts: int,
    attempts: int,
) -> tuple[Policy, nn.Module]:
    """The policy of a task, for batches `[prompts, attempts]`, and a body like its own."""
    shape = prompts, attempts, env.horizon
    spec = Spec(env.observation_space, env.action_space, shape, False, layout=env.layout)
    return policy(spec=spec, network=network), build(network, spec)


def step(
    loss: Callable[..., Array],
    optimizer: optax.GradientTransformationExtraArgs,
    params: Params,
    opt_state: Any,
    *examples: Any,
) -> tuple[Params, Any, Array]:
    """One step down `loss(params, *examples)`, by the optimiser of an agent.

    It is told that none of the budget is used up, as there is none here.

    Returns:
      Parameters, the optimiser's state, and the loss before the step.
    """
    value, gradient = jax.value_and_grad(loss)(params, *examples)
    norm, progress = optax.tree.norm(gradient), jnp.float32(0.0)
    change, opt_state = optimizer.update(
        gradient, opt_state, params, joint_norm=norm, progress=progress
    )
    return optax.apply_updates(params, change), opt_state, value
