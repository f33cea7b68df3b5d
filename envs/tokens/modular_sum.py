"""Sums of a chain of numbers, modulo a small one."""

from typing import Any

import jax
import jax.numpy as jnp

from ..base import require_count
from .base import FIRST, Computed


class ModularSum(Computed):
    """`3+4+1=`, and for modulus 5 the answer `3<eos>`.

    Isolates a chain of `terms - 1` steps that one token must hold, or that a scratch pad takes apart: every
    term changes the result, none of them tells anything alone.

    *Scratch pad.* With `scratch` there is room for the running sums, `23<eos>`; only the last token
    counts.
    *Optimum.* 1; random `(modulus + 1)^-2` without a scratch pad.
    *Source.* Parities and their kin, as in Shalev-Shwartz et al. (2017), "Failures of gradient-based deep
    learning".
    """

    def __init__(self, terms: int = 3, modulus: int = 5, scratch: bool = False, **options: Any):
        """A chain.

        Args:
          terms: numbers to add.
          modulus: of the sum; numbers are below it.
          scratch: whether there is room for the sums on the way.
          **options: of `TokenTask`.
        """
        require_count("terms", terms, 2)
        require_count("modulus", modulus, 2)
        self.terms, self.modulus, self.scratch = terms, modulus, scratch
        numbers = [str(number) for number in range(modulus)]
        super().__init__(
            symbols=[*numbers, "+", "="],
            answers=numbers,
            prompt_length=2 * terms,
            result_length=1,
            working_length=terms - 2 if scratch else 0,
            **options,
        )

    def prompt(self, key) -> jax.Array:
        """Numbers drawn independently."""
        numbers = FIRST + jax.random.randint(key, (self.terms,), 0, self.modulus, jnp.int32)
        signs = jnp.full(self.terms, FIRST + self.modulus, jnp.int32).at[-1].add(1)
        return jnp.stack([numbers, signs], 1).ravel()

    def result(self, prompt) -> jax.Array:
        """The sum."""
        return self._sums(prompt)[-1:]

    def working(self, prompt) -> jax.Array:
        """The sums of the first two terms, of the first three, and so on."""
        return self._sums(prompt)[1 : 1 + self.working_length]

    def _sums(self, prompt):
        return FIRST + jnp.cumsum(prompt[::2] - FIRST) % self.modulus
