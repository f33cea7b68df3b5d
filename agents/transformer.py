"""A small decoder-only transformer: reads a whole episode at once, or token by token with a cache."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vfcompare.types import Array, Carry, Layout, Params

PAD = 0
"""Stands where nothing is written yet."""


class Cache(NamedTuple):
    """What one sequence leaves for its next token.

    Attributes:
      keys: of each block, `[heads, D, front + L]`; only columns from `front` to `end` mean something. The
        tokens come last, as attention reads them: turning a cache round at every step costs more than
        the step.
      values: the same.
      end: column of the next token.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    end: Array


def flat(f: Callable[[Array], Array], x: Array) -> Array:
    """`f` over the last axis of `x`, called with the others merged into one.

    The gradient of a matrix that multiplies more than two axes is several times as slow on a CPU.
    """
    out = f(x.reshape(-1, x.shape[-1]))
    return out.reshape(*x.shape[:-1], *out.shape[1:])


class Block(nn.Module):
    """Attention and a perceptron, each after a norm and beside a residual path (Xiong et al., 2020).

    Attributes:
      width: `W`.
      heads: `W / D` of them.
      expansion: width of the perceptron over `W`.
      activation: name of a function of `flax.linen`.
    """

    width: int
    heads: int
    expansion: int
    activation: str

    def setup(self) -> None:
        """Two norms and six matrices without bias."""
        shape = (self.heads, self.width // self.heads)
        init = nn.initializers.normal(0.02)
        self.before_attention, self.before_mlp = nn.RMSNorm(), nn.RMSNorm()
        self.query, self.key, self.value = (
            nn.DenseGeneral(shape, use_bias=False, kernel_init=init) for _ in range(3)
        )
        self.out = nn.Dense(self.width, use_bias=False, kernel_init=init)
        self.up = nn.Dense(self.expansion * self.width, use_bias=False, kernel_init=init)
        self.down = nn.Dense(self.width, use_bias=False, kernel_init=init)

    def project(self, x: Array, position: Array) -> tuple[Array, Array, Array]:
        """Queries `[..., S, heads, D]`, keys and values `[..., heads, D, S]` of tokens `[..., S, W]`."""
        x = self.before_attention(x)
        query, key, value = (flat(each, x) for each in (self.query, self.key, self.value))
        last = lambda x: jnp.moveaxis(x, -3, -1)  # noqa: E731
        return rotate(query, position), last(rotate(key, position)), last(value)

    def attend(self, x: Array, query: Array, keys: Array, values: Array, seen: Array) -> Array:
        """The block's outputs `[..., S, W]`.

        Args:
          x: `[..., S, W]`, its inputs.
          query: `[..., S, heads, D]`.
          keys: `[..., heads, D, K]`.
          values: `[..., heads, D, K]`.
          seen: bool `[S, K]`, which keys a token may look at.
        """
        scores = jnp.einsum("...shd,...hdk->...hsk", query, keys) / query.shape[-1] ** 0.5
        share = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
        heads = jnp.einsum("...hsk,...hdk->...shd", share, values)
        x = x + flat(self.out, heads.reshape(x.shape))
        return x + flat(self.perceptron, self.before_mlp(x))

    def perceptron(self, x: Array) -> Array:
        """`down(activation(up(x)))`."""
        return self.down(getattr(nn, self.activation)(self.up(x)))


def rotate(x: Array, position: Array) -> Array:
    """Rotary positions: each pair of `[..., S, heads, D]` turned by `position · 10000^(-2i/D)`.

    Su et al., 2021 (arXiv:2104.09864); pairs are an entry of the first and one of the second half.
    """
    half = x.shape[-1] // 2
    angle = position[:, None] * 10_000.0 ** (-np.arange(half, dtype=np.float32) / half)
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


class Transformer(nn.Module):
    """`[..., T, L]` tokens so far, at each of `T` steps, to features `[..., T, W]` of the last one written.

    The rows of an episode repeat each other, so that it is read in one pass over its last row. What lies
    behind an episode's end has no influence on what comes before.

    Attributes:
      obs_ndim: number of axes of one observation, which must be one.
      layers: number of blocks.
      width: `W`.
      heads: of each block.
      expansion: width of the perceptrons over `W`.
      activation: name of a function of `flax.linen`.
      layout: how an episode is written, or None where the observation is not one of tokens.
    """

    obs_ndim: int
    layers: int
    width: int
    heads: int
    expansion: int = 4
    activation: str = "gelu"
    layout: Layout | None = None

    def setup(self) -> None:
        """Embedding, blocks and a last norm.

        Raises:
          ValueError: where the width cannot be divided among the heads, or there are no tokens.
        """
        if self.layout is None:
            raise ValueError(
                "network: a transformer reads tokens, which this environment does not show; allowed: tasks "
                "in tokens with env.view=tokens, or another network, such as network@agent.network=mlp"
            )
        if self.width % (2 * self.heads):
            raise ValueError(
                f"agent.network.width={self.width} is not a multiple of {2 * self.heads}, twice the heads"
            )
        self.embed = nn.Embed(
            self.layout.vocabulary, self.width, embedding_init=nn.initializers.normal(0.02)
        )
        self.blocks = [
            Block(self.width, self.heads, self.expansion, self.activation)
            for _ in range(self.layers)
        ]
        self.norm = nn.RMSNorm()

    @property
    def written(self) -> Layout:
        """The layout, which is there once `setup` has passed."""
        assert self.layout is not None
        return self.layout

    def initial(self) -> Carry:
        """Nothing is known of an episode before its prompt is read: see `begin`."""
        return ()

    @property
    def front(self) -> int:
        """Rows before the first token, so that the first step reads as many tokens as the others."""
        return max(self.written.stride - self.written.prompt, 0)

    def read(self, tokens: Array) -> tuple[Array, list[Array], list[Array]]:
        """All tokens `[..., S]` at once: features `[..., S, W]`, and each block's keys and values."""
        position = self.front + jnp.arange(tokens.shape[-1])
        seen = position[:, None] >= position
        x, keys, values = self.embed(tokens), [], []
        for block in self.blocks:
            query, key, value = block.project(x, position)
            x = block.attend(x, query, key, value, seen)
            keys.append(key)
            values.append(value)
        return self.norm(x), keys, values

    def begin(self, obs: Array) -> Cache:
        """Read what is written, but for what the next step reads: `obs [L] -> carry`."""
        _, keys, values = self.read(obs)
        rows = lambda xs: tuple(jnp.pad(x, ((0, 0), (0, 0), (self.front, 0))) for x in xs)  # noqa: E731
        end = self.front + last(obs) + 1 - self.written.stride
        return Cache(rows(keys), rows(values), end)

    def step(self, carry: Cache, obs: Array) -> tuple[Cache, Array]:
        """The tokens that were written since: `(carry, obs [L]) -> (carry, features [W])`."""
        stride, obs = self.written.stride, jnp.pad(obs, (self.front, 0))
        position, row = (carry.end + jnp.arange(stride))[:, None], jnp.arange(obs.shape[0])
        # Rows in front see themselves, as a softmax must be over something; nothing looks at them.
        seen = (row == position) | (row < position) & (row >= self.front)
        x = self.embed(jax.lax.dynamic_slice(obs, (carry.end,), (stride,)))
        keys, values = [], []
        for index, block in enumerate(self.blocks):
            query, key, value = block.project(x, position[:, 0])
            keys.append(write(carry.keys[index], key, carry.end))
            values.append(write(carry.values[index], value, carry.end))
            x = block.attend(x, query, keys[-1], values[-1], seen)
        cache = Cache(tuple(keys), tuple(values), carry.end + stride)
        return cache, self.norm(x)[-1]

    def __call__(self, obs: Array, first: Array, carry: Carry) -> Array:
        """Features of whole episodes; each begins at its first row and has no memory of another."""
        del first, carry
        layout, steps = self.written, obs.shape[-2]
        features = self.read(transcript(obs, layout))[0]
        return features[..., layout.prompt - 1 + layout.stride * np.arange(steps), :]

    def row(self, obs: Array) -> Array:
        """Features of single observations, `[..., L] -> [..., W]`, each read by itself."""
        place = last(obs)[..., None, None]
        return jnp.take_along_axis(self.read(obs)[0], place, -2)[..., 0, :]

    def attend(self, features: Array) -> Array:
        """Logits of the tokens by the embedding itself, `[..., W] -> [..., V]` (Press & Wolf, 2017)."""
        return self.embed.attend(features)


@jax.custom_batching.custom_vmap
def write(cache: Array, new: Array, start: Array) -> Array:
    """`cache [..., K]` with `new [..., S]` in its columns from `start` on."""
    return jax.lax.dynamic_update_slice_in_dim(cache, new, start, -1)


@write.def_vmap
def write_lanes(number: int, mapped: Sequence[bool], *args: Array) -> tuple[Array, bool]:
    """`write` in `number` lanes: at once where all stand at the same place, as they do from a start on.

    An update at an index of each lane's own is a scatter, which is slow; so lanes that stand apart compare.
    """
    lanes = (
        x if is_mapped else jnp.broadcast_to(x, (number, *x.shape))
        for x, is_mapped in zip(args, mapped, strict=True)
    )

    def together(cache: Array, new: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, start[0], -1)

    def apart(cache: Array, new: Array, start: Array) -> Array:
        column, start = jnp.arange(cache.shape[-1]), start.reshape(-1, *(1,) * (cache.ndim - 1))
        for offset in range(new.shape[-1]):
            cache = jnp.where(column == start + offset, new[..., offset, None], cache)
        return cache

    cache, new, start = lanes
    return jax.lax.cond((start == start[0]).all(), together, apart, cache, new, start), True


def last(obs: Array) -> Array:
    """Index of the last token that is written."""
    return (jnp.arange(obs.shape[-1]) * (obs != PAD)).max(-1)


def transcript(obs: Array, layout: Layout) -> Array:
    """The tokens that the rows `[..., R, L]` of an episode show, each taken from the first row that shows it.

    So a row behind the end of an episode contributes nothing but tokens behind that end.
    """
    steps = obs.shape[-2]
    row = np.repeat(np.arange(1, steps), layout.stride)
    column = layout.prompt + np.arange(layout.stride * (steps - 1))
    return jnp.concatenate([obs[..., 0, : layout.prompt], obs[..., row, column]], -1)


class Tied(nn.Module):
    """A transformer whose embedding is its output layer, too.

    Attributes:
      body: reads tokens.
    """

    body: Transformer

    def __call__(self, *args: Array) -> Array:
        """Logits of whole episodes, `[..., T, V]`."""
        return self.body.attend(self.body(*args))

    def step(self, carry: Cache, obs: Array) -> tuple[Cache, Array]:
        """Logits of the next token."""
        carry, features = self.body.step(carry, obs)
        return carry, self.body.attend(features)

    def begin(self, obs: Array) -> Cache:
        """See `Transformer.begin`."""
        return self.body.begin(obs)

    def row(self, obs: Array) -> Array:
        """Logits after single observations, `[..., L] -> [..., V]`."""
        return self.body.attend(self.body.row(obs))

    def features(self, *args: Array) -> Array:
        """What the body makes of whole episodes, `[..., T, W]`."""
        return self.body(*args)


def sharpened(params: Params, factor: Array) -> Params:
    """Parameters of a `Tied` transformer whose logits are `factor` times as large.

    Logits are linear in what the last norm returns, so that its gains carry the factor.
    """
    body = params["params"]["body"]
    norm = {"scale": factor * body["norm"]["scale"]}
    return {**params, "params": {**params["params"], "body": {**body, "norm": norm}}}
