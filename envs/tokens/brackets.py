"""Brackets that are to be closed in the right order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import require, require_count
from .base import EOS, FIRST, TokenTask, Verdict

PAIRS = "()[]{}<>"


class Brackets(TokenTask):
    """`([](`, and the answer `))<eos>` or `)())<eos>`: any that leaves all brackets balanced.

    Isolates a memory in the form of a stack, and outcomes that many answers reach: an answer may open more
    brackets, as far as there is room to close them.

    *Prompt.* A walk of `length` brackets. Where none is open one opens; where `depth` are open one closes;
    else either happens with probability 1/2. The kind of what opens is uniform.
    *Partial credit.* `1 / (1 + n)` where `n` brackets are left open, 0 if one is closed by another kind.
    *Optimum.* 1. *Source.* The Dyck languages, as in Hewitt et al. (2020), "RNNs can generate bounded
    hierarchical languages".
    """

    def __init__(
        self, length: int = 5, kinds: int = 2, depth: int = 3, spare: int = 2, **options: Any
    ):
        """A task of brackets.

        Args:
          length: of the prompt.
          kinds: of brackets, 1 to 4.
          depth: most that are open in the prompt.
          spare: room in the answer beyond `depth` and `<eos>`.
          **options: of `TokenTask`.
        """
        require_count("length", length, 1)
        require(kinds in range(1, 5), "kinds", kinds, "1 to 4")
        require_count("depth", depth, 1)
        require_count("spare", spare, 0)
        self.size, self.kinds, self.depth = length, kinds, min(depth, length)
        symbols = [*PAIRS[: 2 * kinds]]
        super().__init__(
            symbols=symbols,
            answers=symbols,
            prompt_length=length,
            answer_length=self.depth + spare + 1,
            **options,
        )

    def prompt(self, key) -> jax.Array:
        """A walk; what closes is the kind that opened last."""
        turn_key, kind_key = jax.random.split(key)
        opens = jax.random.bernoulli(turn_key, shape=(self.size,))
        kinds = jax.random.randint(kind_key, (self.size,), 0, self.kinds, jnp.int32)

        def step(carry, draw):
            stack, height = carry
            opens, kind = draw
            opens = (height == 0) | (opens & (height < self.depth))
            top = jnp.where(opens, height, height - 1)
            stack = stack.at[top].set(jnp.where(opens, kind, stack[top]))
            token = FIRST + 2 * stack[top] + 1 - opens.astype(jnp.int32)
            return (stack, top + opens.astype(jnp.int32)), token

        carry = (jnp.zeros(self.depth, jnp.int32), jnp.int32(0))
        return jax.lax.scan(step, carry, (opens, kinds))[1]

    def judge(self, prompt, answer) -> Verdict:
        """Depth never below zero, zero at the end, and each bracket closed by its kind."""
        tokens = jnp.concatenate([prompt, answer])
        opens, change = self._changes(tokens)
        height = jnp.cumsum(change)
        index = jnp.arange(len(tokens), dtype=jnp.int32)
        # A bracket closes the last one before it that opened one level higher than where it leads.
        may = opens[None] & (height[None] == height[:, None] + 1) & (index[None] < index[:, None])
        partner = jnp.where(may, index[None], -1).max(1)
        fits = (change >= 0) | ((partner >= 0) & (tokens[partner] == tokens - 1))
        valid = fits.all() & (height >= 0).all()
        left = height[-1]
        credit = jnp.where(valid, 1.0 / (1.0 + jnp.maximum(left, 0).astype(jnp.float32)), 0.0)
        return Verdict(valid & (left == 0), credit)

    def solve(self, prompt, key) -> jax.Array:
        """Close what is open, the last first."""
        del key
        opens, change = self._changes(prompt)
        height = jnp.cumsum(change)
        left = height[-1]
        index = jnp.arange(self.size, dtype=jnp.int32)
        level = left - jnp.arange(self.depth + 1, dtype=jnp.int32)
        last = jnp.where(opens[None] & (height[None] == level[:, None]), index[None], -1).max(1)
        return jnp.where(level > 0, prompt[last] + 1, jnp.where(level == 0, EOS, 0))

    def chance(self, prompt) -> jax.Array:
        """`Σ_m N(d, m) A^-(m + 1)`, `N` the number of answers of length `m` that close `d` brackets.

        `N(d, m) = k N(d + 1, m - 1) + N(d - 1, m - 1)`, for `k` kinds; `A` legal tokens.
        """
        room = self.answer_length - 1
        number = np.zeros(self.depth + room + 2)
        number[0], closing = 1.0, np.zeros(self.depth + 1)
        for length in range(room + 1):
            closing += number[: self.depth + 1] * float(self.legal.sum()) ** -(length + 1)
            above, below = np.append(number[1:], 0.0), np.append(0.0, number[:-1])
            number = self.kinds * above + below
        return jnp.asarray(closing, jnp.float32)[self._changes(prompt)[1].sum()]

    def _changes(self, tokens):
        """Where a bracket opens, bool[n], and the change of depth, int32[n]."""
        is_bracket = tokens >= FIRST
        opens = is_bracket & ((tokens - FIRST) % 2 == 0)
        return opens, opens.astype(jnp.int32) * 2 - is_bracket.astype(jnp.int32)
