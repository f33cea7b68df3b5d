"""Learned value functions."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vfcompare.batching import over_time
from vfcompare.types import Array, Batch, Key, Networks, Params, Rollout, Spec
from vfcompare.valuation import Critic, Lesion, Scaling

from .networks import Gru, Head, apply, build, linear
from .transformer import Transformer
from .value_heads import ValueHead


def learned(
    *,
    spec: Spec,
    network: Callable[..., nn.Module],
    trunk: str,
    head: ValueHead,
    optimizer: optax.GradientTransformationExtraArgs,
    gain: float,
    coef: float,
    scaling: Scaling,
    lesion: Lesion,
) -> Critic:
    """A network whose outputs a head reads; the loss is `c` times the head's.

    Args:
      spec: the facts of the task.
      network: `(obs_ndim) -> body`, where the trunk is its own.
      trunk: `own`, a body beside the policy's; `shared`, the policy's body, which learns from both losses;
        `stopped`, the policy's body, which does not learn from the critic: a linear probe.
      head: what the outputs mean.
      optimizer: of the critic's own parameters; a shared trunk is the policy's and learns by its optimiser.
      gain: of the output layer's orthogonal initialisation.
      coef: `c`, weight of the loss. Adam does not see it, unless trunks are shared or gradients clipped:
        which of them are longer than the clip depends on it.
      scaling: the unit the critic learns in.
      lesion: damage to what it says.

    Raises:
      ValueError: where a trunk is to be shared with a policy that has none, or that has a memory.
    """
    body = build(network, spec)
    own = trunk == "own"
    remembers = isinstance(body, Gru | Transformer) if own else spec.sequential
    module = Head(body, head.outputs, gain) if own else linear(head.outputs, gain)
    if not own and spec.features is None:
        raise ValueError(
            f"critic.trunk={trunk} reads the policy's last hidden layer, and this policy has none that "
            "depends on the observation alone; allowed: own"
        )

    def features(networks: Networks, obs: Array) -> Array:
        assert spec.features is not None
        found = spec.features(networks["policy"], obs)
        return jax.lax.stop_gradient(found) if trunk == "stopped" else found

    def init(key: Key, networks: Networks, obs: Array) -> Params:
        if not own:
            return module.init(key, features(networks, obs[None]))
        args = (obs[None], jnp.ones(1), body.initial()) if remembers else (obs,)
        return module.init(key, *args)

    def read(networks: Networks, obs: Array, first: Array) -> Array:
        if not own:
            return apply(module, networks["critic"], features(networks, obs))
        if not remembers:
            return apply(module, networks["critic"], obs)
        # A fragment may begin in mid-episode, where a critic's memory is not known: it starts afresh.
        blank = jax.tree.map(lambda x: jnp.zeros((*first.shape[:-1], *x.shape)), body.initial())
        return apply(module, networks["critic"], obs, first, blank)

    def value(networks: Networks, rollout: Rollout) -> Array:
        last = jnp.zeros_like(rollout.first[..., :1])
        first = jnp.concatenate([rollout.first, last], -1)
        if remembers or not spec.whole_episodes:
            return head.decode(read(networks, rollout.obs, first))
        return over_time(
            lambda obs: head.decode(read(networks, obs, first)), rollout.obs, rollout.mask
        )

    def loss(networks: Networks, rows: Batch) -> Array:
        assert rows.lesson is not None
        outputs = read(networks, rows.steps.obs, rows.steps.first)
        return coef * head.loss(outputs, rows.lesson.target, rows.lesson.old)

    return Critic(init, value, loss, optimizer, remembers, scaling, lesion)


def halves(*, spec: Spec, part: Callable[..., Critic]) -> Critic:
    """Two critics that learn from disjoint halves of each prompt's rollouts; their mean is the value.

    The mini-critics of AsyPPO (arXiv:2510.01656). The masks that it makes of their disagreement are not part
    of this.

    Args:
      spec: the facts of the task.
      part: `(spec) -> Critic`, of each; it may not share the policy's trunk.
    """
    one = part(spec=spec)

    def init(key: Key, networks: Networks, obs: Array) -> Params:
        return [one.init(each, networks, obs) for each in jax.random.split(key)]

    def each(networks: Networks) -> list[Networks]:
        return [networks | {"critic": params} for params in networks["critic"]]

    def value(networks: Networks, rollout: Rollout) -> Array:
        first, second = (one.value(networks, rollout) for networks in each(networks))
        return (first + second) / 2

    def loss(networks: Networks, rows: Batch) -> Array:
        assert rows.lesson is not None
        first, second = (one.loss(networks, rows) for networks in each(networks))
        return jnp.where(rows.lesson.episode % 2 == 0, first, second)

    return one._replace(init=init, value=value, loss=loss)
