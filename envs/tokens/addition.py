"""Addition of two numbers, digit by digit."""

from typing import Any

import jax
import jax.numpy as jnp

from ..base import require, require_count
from .base import DIGITS, FIRST, Computed


class Addition(Computed):
    """`57+68=`, and the answer `125<eos>`: two numbers of `digits` digits, their sum of one digit more.

    Isolates an algorithm with a carry that runs against the order of writing (or along it, with `reverse`);
    the number of decisions grows with `digits`.

    *Scratch pad.* With `scratch` there is room before the result, which then begins with `#`:
    `57+68=5121#125<eos>`. Only what follows the last `#` counts. Demonstrations write the column sums from
    the last column on, each as digit and carry.
    *Optimum.* 1; random `(base + 1)^-(digits + 2)` without a scratch pad.
    *Source.* Nye et al. (2021), "Show your work", for the scratch pad; Lee et al. (2023), "Teaching
    arithmetic to small transformers", for the reversed order.
    """

    def __init__(
        self,
        digits: int = 2,
        base: int = 10,
        scratch: bool = False,
        reverse: bool = False,
        **options: Any,
    ):
        """An addition.

        Args:
          digits: of each number, leading zeros written.
          base: of the digits.
          scratch: whether there is room for working.
          reverse: whether the sum is written from its last digit on.
          **options: of `TokenTask`.
        """
        require_count("digits", digits, 1)
        require(base in range(2, len(DIGITS) + 1), "base", base, f"2 to {len(DIGITS)}")
        self.digits, self.base, self.scratch, self.reverse = digits, base, scratch, reverse
        figures = [*DIGITS[:base]]
        mark = ["#"] if scratch else []
        super().__init__(
            symbols=[*figures, "+", "=", *mark],
            answers=[*figures, *mark],
            prompt_length=2 * digits + 2,
            result_length=digits + 1 + scratch,
            working_length=2 * digits if scratch else 0,
            **options,
        )

    def prompt(self, key) -> jax.Array:
        """Two numbers, all equally probable."""
        digits = FIRST + jax.random.randint(key, (2, self.digits), 0, self.base, jnp.int32)
        plus, equals = (jnp.full(1, FIRST + self.base + i, jnp.int32) for i in range(2))
        return jnp.concatenate([digits[0], plus, digits[1], equals])

    def result(self, prompt) -> jax.Array:
        """The sum, after `#` if there is a scratch pad."""
        sums, carries = self._columns(prompt)
        total = jnp.stack([*sums, carries[-1]])
        written = FIRST + (total if self.reverse else total[::-1])
        return jnp.pad(written, (int(self.scratch), 0), constant_values=FIRST + self.base + 2)

    def working(self, prompt) -> jax.Array:
        """Digit and carry of each column, from the last one on."""
        sums, carries = self._columns(prompt)
        pairs = [number for pair in zip(sums, carries, strict=True) for number in pair]
        return FIRST + jnp.stack(pairs) if self.scratch else jnp.zeros(0, jnp.int32)

    def _columns(self, prompt):
        """Digit and carry of each column, from the last one on: two lists of int32[]."""
        left, right = prompt[: self.digits], prompt[self.digits + 1 : 2 * self.digits + 1]
        sums, carries = [], [jnp.int32(0)]
        for column in reversed(range(self.digits)):
            total = left[column] + right[column] - 2 * FIRST + carries[-1]
            carries.append((total >= self.base).astype(jnp.int32))
            sums.append(total - self.base * carries[-1])
        return sums, carries[1:]
