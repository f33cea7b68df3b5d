"""Sorting, and reversal: a row of symbols, written again in another order."""

from typing import Any

import jax
import jax.numpy as jnp

from ..base import require, require_count
from .base import DIGITS, FIRST, Computed


class Rearrangement(Computed):
    """A row of symbols and `>`, and as answer the same symbols in another order."""

    def __init__(self, length: int = 3, symbols: int = 4, **options: Any):
        """A row.

        Args:
          length: of the row.
          symbols: how many there are.
          **options: of `TokenTask`.
        """
        require_count("length", length, 1)
        require(symbols in range(2, len(DIGITS) + 1), "symbols", symbols, f"2 to {len(DIGITS)}")
        self.size, self.kinds = length, symbols
        super().__init__(
            symbols=[*DIGITS[:symbols], ">"],
            answers=[*DIGITS[:symbols]],
            prompt_length=length + 1,
            result_length=length,
            **options,
        )

    def prompt(self, key) -> jax.Array:
        """Symbols drawn independently."""
        row = FIRST + jax.random.randint(key, (self.size,), 0, self.kinds, jnp.int32)
        return jnp.pad(row, (0, 1), constant_values=FIRST + self.kinds)


class Sorting(Rearrangement):
    """`3102>`, and the answer `0123<eos>`.

    Isolates decisions of which each depends on the whole prompt and on what was written.

    *Optimum.* 1; random `(symbols + 1)^-(length + 1)`. *Source.* The sorting task of many sequence models
    since Vinyals et al. (2015), "Order matters".
    """

    def result(self, prompt) -> jax.Array:
        """In order."""
        return jnp.sort(prompt[: self.size])


class Reversal(Rearrangement):
    """`3102>`, and the answer `2013<eos>`.

    Isolates decisions of which each depends on one place of the prompt: a chain of independent choices, as in
    `Lock`, where the right ones can be read.

    *Optimum.* 1; random `(symbols + 1)^-(length + 1)`. *Source.* The copy task of Graves et al. (2014),
    "Neural Turing machines", backwards.
    """

    def result(self, prompt) -> jax.Array:
        """From the last to the first."""
        return prompt[: self.size][::-1]
