"""What parameters are taken over: a policy's from its prior, a body from another network."""

import jax
import jax.numpy as jnp

from vfcompare.types import Params


def fitting(params: Params, fresh: Params) -> Params:
    """Parameters that were made elsewhere.

    Raises:
      ValueError: if they are not those of the same network.
    """
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)  # noqa: E731
    if shapes(params) != shapes(fresh):
        raise ValueError(
            "agent.prior: these parameters are not those of this network; were they made by another version? "
            "`vfcompare prior` makes them anew where the old ones are gone"
        )
    return jax.tree.map(jnp.asarray, params)


def inheriting(critic: Params, policy: Params) -> Params:
    """A critic's parameters with the policy's body in place of its own, or of each of its parts'.

    What is of another size, such as `critic=mini`, or reads the policy's own body, stays as it is.
    """
    if isinstance(critic, list):
        return [inheriting(part, policy) for part in critic]
    shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree.get("params", {}).get("body"))  # noqa: E731
    if shapes(critic) is None or shapes(critic) != shapes(policy):
        return critic
    return with_body(critic, policy)


def with_body(params: Params, donor: Params) -> Params:
    """Parameters with the donor's body in place of their own."""
    return {**params, "params": {**params["params"], "body": donor["params"]["body"]}}
