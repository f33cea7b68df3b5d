"""Flax networks: a body that reads observations, and heads that read the body.

Every network is written for any number of leading axes. `Gru` alone has a memory, and an axis of time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vfcompare.streams import stream
from vfcompare.types import Array, Carry, Env, Key, Params, Spec

from .initializers import orthogonal
from .transformer import Transformer

Activation = Callable[[Array], Array]


@jax.custom_vjp
def product(x: Array, kernel: Array) -> Array:
    """`x @ kernel`, `[..., in] @ [in, out] -> [..., out]`, with a derivative that is fast on CPUs.

    The derivative by the kernel, `x^T g`, adds up along the rows of both, for which XLA has only a slow
    routine: ten times slower where `out` is two. The narrower of the two is therefore laid out anew first.
    """
    return x @ kernel


def _remember(x: Any, kernel: Any) -> tuple[Array, tuple[Array, Array | None]]:
    # Nobody asks for the derivative by an observation.
    return x.value @ kernel.value, (x.value, kernel.value if x.perturbed else None)


def _derive(saved: tuple[Array, Array | None], g: Array) -> tuple[Array | None, Array]:
    x, kernel = saved
    # Without barriers the compiler puts the layouts back.
    laid_out = jax.lax.optimization_barrier
    left, right = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    if left.shape[-1] <= right.shape[-1]:
        by_kernel = laid_out(left.T) @ right
    else:
        by_kernel = laid_out(laid_out(right.T) @ left).T
    return None if kernel is None else g @ kernel.T, by_kernel


product.defvjp(_remember, _derive, symbolic_zeros=True)


def linear(features: int, gain: float) -> nn.Dense:
    """A linear layer with orthogonal weights of gain `gain` and no bias at first."""
    return nn.Dense(
        features,
        kernel_init=orthogonal(gain),
        dot_general=lambda x, kernel, *_, **__: product(x, kernel),
    )


def build(network: Callable[..., nn.Module], spec: Spec) -> nn.Module:
    """A body for the observations of a task.

    Raises:
      ValueError: where it would take tokens for numbers.
    """
    body = network(obs_ndim=len(spec.observation_space.shape or ()))
    if isinstance(body, Transformer):
        return body.clone(layout=spec.layout)
    if spec.layout is not None:
        raise ValueError(
            "network: this one does not embed tokens; allowed: network@agent.network=transformer, or "
            "env.view=one_hot"
        )
    return body


def example(env: Env, key: Key) -> Array:
    """An observation of a task, by whose shape parameters are made."""
    key = stream(key, "example")
    return env.observation(env.initial(key), key)


def activation(name: str) -> Activation:
    """An activation by its name in `flax.linen`."""
    return getattr(nn, name)


def require_hidden(ok: bool, hidden: Any, allowed: str) -> None:
    """Raise a ValueError that names the width of layers, which only the kind of network tells the form of."""
    if not ok:
        raise ValueError(f"agent.network.hidden={hidden} is not allowed; allowed: {allowed}")


def apply(module: nn.Module, params: Params, *args: Any, method: str | None = None) -> Any:
    """`module.apply` for modules without mutable state: what it returns is what the method returns."""
    return module.apply(params, *args, method=method)


class Mlp(nn.Module):
    """`[..., *obs] -> [..., hidden[-1]]`; an observation of several axes is flattened.

    Attributes:
      obs_ndim: number of axes of one observation.
      hidden: widths.
      activation: name of a function of `flax.linen`.
      gain: of the orthogonal initialisation.
    """

    obs_ndim: int
    hidden: Sequence[int]
    activation: str = "tanh"
    gain: float = 2.0**0.5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Features of observations."""
        require_hidden(not isinstance(self.hidden, int), self.hidden, "a list of widths")
        x = x.reshape(*x.shape[: x.ndim - self.obs_ndim], -1)
        for width in self.hidden:
            x = activation(self.activation)(linear(width, self.gain)(x))
        return x


class Cnn(nn.Module):
    """`[..., height, width, planes] -> [..., hidden]`: small convolutions for grids.

    Attributes:
      obs_ndim: number of axes of one observation, which must be three.
      channels: of each 3x3 convolution.
      hidden: width of the last layer.
      activation: name of a function of `flax.linen`.
      gain: of the orthogonal initialisation of the last layer.
    """

    obs_ndim: int
    channels: Sequence[int]
    hidden: int
    activation: str = "relu"
    gain: float = 2.0**0.5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Features of grids."""
        if self.obs_ndim != 3:
            raise ValueError(
                f"network: a cnn reads [height, width, planes], not {self.obs_ndim} axes"
            )
        require_hidden(isinstance(self.hidden, int), self.hidden, "one width")
        lead = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for width in self.channels:
            x = activation(self.activation)(nn.Conv(width, (3, 3))(x))
        x = x.reshape(*lead, -1)
        return activation(self.activation)(linear(self.hidden, self.gain)(x))


class Pair(nn.Module):
    """`[..., *obs] -> [..., 2 F]`: two networks of the same kind side by side.

    What a critic-free agent is given so that it has as many parameters, and does as much work, as a policy
    and a critic.

    Attributes:
      obs_ndim: number of axes of one observation.
      part: `(obs_ndim) -> body`.
    """

    obs_ndim: int
    part: Callable[..., nn.Module]

    def setup(self) -> None:
        """Two bodies."""
        self.first, self.second = (
            self.part(obs_ndim=self.obs_ndim),
            self.part(obs_ndim=self.obs_ndim),
        )

    def __call__(self, x: Array) -> Array:
        """Features of observations."""
        return jnp.concatenate([self.first(x), self.second(x)], -1)


class Gru(nn.Module):
    """`[..., T, *obs] -> [..., T, hidden]`, forgetting where an episode begins.

    Attributes:
      obs_ndim: number of axes of one observation.
      hidden: width of the input layer and of the memory.
      activation: name of a function of `flax.linen`, for the input layer.
      gain: of the orthogonal initialisation of the input layer.
    """

    obs_ndim: int
    hidden: int
    activation: str = "tanh"
    gain: float = 2.0**0.5

    def setup(self) -> None:
        """Two layers: one that reads the observation, one that remembers."""
        require_hidden(isinstance(self.hidden, int), self.hidden, "one width")
        self.read = Mlp(self.obs_ndim, (self.hidden,), self.activation, self.gain)
        self.cell = nn.GRUCell(self.hidden, recurrent_kernel_init=orthogonal())

    def initial(self) -> Array:
        """The memory at the start of an episode: `[hidden]` zeros."""
        return jnp.zeros(self.hidden)

    def step(self, carry: Carry, obs: Array) -> tuple[Carry, Array]:
        """One observation: `(carry, obs) -> (carry, features)`."""
        return self.cell(carry, self.read(obs))

    def __call__(self, x: Array, first: Array, carry: Carry) -> Array:
        """Features of whole sequences.

        Args:
          x: `[..., T, *obs]`.
          first: `[..., T]`, one where an episode begins.
          carry: `[..., hidden]`, the memory before the first row.
        """
        inputs = jnp.moveaxis(self.read(x), -2, 0)
        first = jnp.moveaxis(first, -1, 0)

        def body(cell: nn.Module, carry: Carry, xs: tuple[Array, Array]) -> tuple[Carry, Array]:
            x, first = xs
            carry = jnp.where(first[..., None] > 0, jnp.zeros_like(carry), carry)
            return cell(carry, x)

        scan = nn.scan(body, variable_broadcast="params", split_rngs={"params": False})
        _, features = scan(self.cell, carry, (inputs, first))
        return jnp.moveaxis(features, 0, -2)


class Table(nn.Module):
    """`[..., obs] -> [..., out]`: a row of outputs for each entry of a one-hot observation.

    Attributes:
      out: number of outputs.
      columns: entries of the observation that are read, from the first on; None means all.
      first: value of output 0 at the start; the others are 0.
    """

    out: int
    columns: int | None
    first: float | Array

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Outputs, the row of the entry that is one."""
        x = x[..., : self.columns]
        shape = (x.shape[-1], self.out)
        rows = self.param("rows", lambda key: jnp.zeros(shape).at[:, 0].set(self.first))
        return x @ rows


class Head(nn.Module):
    """A body and one linear layer on it.

    Attributes:
      body: reads observations.
      out: number of outputs.
      gain: of the orthogonal initialisation of the outputs.
    """

    body: nn.Module
    out: int
    gain: float

    def setup(self) -> None:
        """The output layer."""
        self.last = linear(self.out, self.gain)

    def __call__(self, *args: Array) -> Array:
        """Outputs, `[..., out]`."""
        return self.last(self.body(*args))

    def features(self, obs: Array) -> Array:
        """What the body makes of observations, `[..., F]`."""
        return self.body(obs)

    def step(self, carry: Carry, obs: Array) -> tuple[Carry, Array]:
        """One step of a body with a memory."""
        carry, features = self.body.step(carry, obs)
        return carry, self.last(features)


class MeanAndLogStd(nn.Module):
    """A head and a learned vector beside it: mean and state-independent log standard deviation.

    Attributes:
      head: gives the mean.
    """

    head: Head

    def setup(self) -> None:
        """The log standard deviation, zero at first."""
        self.log_std = self.param("log_std", nn.initializers.zeros, (self.head.out,))

    def _both(self, mean: Array) -> Array:
        return jnp.concatenate([mean, jnp.broadcast_to(self.log_std, mean.shape)], -1)

    def __call__(self, *args: Array) -> Array:
        """`[..., 2 out]`: means, then log standard deviations."""
        return self._both(self.head(*args))

    def features(self, obs: Array) -> Array:
        """What the head's body makes of observations, `[..., F]`."""
        return self.head.features(obs)

    def step(self, carry: Carry, obs: Array) -> tuple[Carry, Array]:
        """One step of a body with a memory."""
        carry, mean = self.head.step(carry, obs)
        return carry, self._both(mean)
