"""A small decoder-only transformer: reads a whole episode at once, or token by token with a cache."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vfcompare.types import Array, Carry, Layout

PAD = 0
"""Stands where nothing is written yet."""


class Cache(NamedTuple):
    """What one sequence leaves for its next token.

    Attributes:
      keys: `[layers, front + L, heads, D]`; only rows from `front` to `end` mean something.
      values: the same.
      end: row of the next token.
    """

    keys: Array
    values: Array
    end: Array


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
        self.out = nn.DenseGeneral(self.width, axis=(-2, -1), use_bias=False, kernel_init=init)
        self.up = nn.Dense(self.expansion * self.width, use_bias=False, kernel_init=init)
        self.down = nn.Dense(self.width, use_bias=False, kernel_init=init)

    def project(self, x: Array, position: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values of tokens `[..., S, W]`, each `[..., S, heads, D]`."""
        x = self.before_attention(x)
        return rotate(self.query(x), position), rotate(self.key(x), position), self.value(x)

    def attend(self, x: Array, query: Array, keys: Array, values: Array, seen: Array) -> Array:
        """The block's outputs `[..., S, W]`.

        Args:
          x: `[..., S, W]`, its inputs.
          query: `[..., S, heads, D]`.
          keys: `[..., K, heads, D]`.
          values: `[..., K, heads, D]`.
          seen: bool `[S, K]`, which keys a token may look at.
        """
        scores = jnp.einsum("...shd,...khd->...hsk", query, keys) / query.shape[-1] ** 0.5
        share = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
        x = x + self.out(jnp.einsum("...hsk,...khd->...shd", share, values))
        return x + self.down(getattr(nn, self.activation)(self.up(self.before_mlp(x))))


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
        rows = lambda xs: jnp.pad(jnp.stack(xs), ((0, 0), (self.front, 0), (0, 0), (0, 0)))  # noqa: E731
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
            keys.append(jax.lax.dynamic_update_slice(carry.keys[index], key, (carry.end, 0, 0)))
            values.append(
                jax.lax.dynamic_update_slice(carry.values[index], value, (carry.end, 0, 0))
            )
            x = block.attend(x, query, keys[-1], values[-1], seen)
        cache = Cache(jnp.stack(keys), jnp.stack(values), carry.end + stride)
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
