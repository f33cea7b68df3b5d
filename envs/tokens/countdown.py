"""Countdown: reach a number with given numbers and the four operations."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import require, require_count
from .base import EOS, FIRST, TokenTask, Verdict

OPERATORS = "+-*/"
FORMAT_CREDIT = 0.1


class Countdown(TokenTask):
    """`3 5 2 -> 16`, and for example the answer `5 + 3 * 2 <eos>`.

    Isolates search: an answer is checked at once, but nothing in the prompt says which of the
    `numbers! 4^(numbers - 1)` candidates it is.

    *Answer.* Every number of the prompt exactly once, in any order, with operators between them. It is
    evaluated from left to right without precedence, as on a pocket calculator, in whole numbers; a division
    must have no remainder.
    *Prompt.* The numbers are drawn independently from 1 to `largest`. The target is what they make in this
    order when each operator is uniform among those that keep the intermediate result whole and within 1 to
    `limit`; then they are shuffled. So there is an answer always, and often several.
    *Partial credit.* 0.1 for an answer of this form with another value.
    *Optimum.* 1. *Source.* Gandhi et al. (2024), "Stream of search", and TinyZero (2025), which allow
    brackets; the credit for the form is TinyZero's.
    """

    def __init__(self, numbers: int = 3, largest: int = 9, limit: int = 24, **options: Any):
        """A game.

        Args:
          numbers: how many are given, 2 to 5.
          largest: of the given numbers.
          limit: largest target, at least twice `largest`.
          **options: of `TokenTask`.
        """
        require(numbers in range(2, 6), "numbers", numbers, "2 to 5")
        require_count("largest", largest, 1)
        fits = isinstance(largest, int) and largest**numbers < 2**31
        require(fits, "largest", largest, f"a power of {numbers} below 2^31")
        require_count("limit", limit, 2 * largest)
        self.numbers, self.largest, self.limit = numbers, largest, limit
        self.operator = FIRST + limit  # id of the first one
        names = [str(number) for number in range(1, limit + 1)]
        super().__init__(
            symbols=[*names, *OPERATORS, "->"],
            answers=[*names[:largest], *OPERATORS],
            prompt_length=numbers + 2,
            answer_length=2 * numbers,
            **options,
        )

    def prompt(self, key) -> jax.Array:
        """Numbers, and a target that they reach."""
        number_key, operator_key, order_key = jax.random.split(key, 3)
        shape = (self.numbers,)
        numbers = jax.random.randint(number_key, shape, 1, self.largest + 1, jnp.int32)
        target = numbers[0]
        for place, draw in enumerate(jax.random.split(operator_key, self.numbers - 1), 1):
            values, whole = operate(target, numbers[place])
            fits = whole & (values >= 1) & (values <= self.limit)
            target = values[jax.random.categorical(draw, jnp.where(fits, 0.0, -jnp.inf))]
        shown = jax.random.permutation(order_key, numbers)
        arrow = jnp.full(1, self.operator + len(OPERATORS), jnp.int32)
        return jnp.concatenate([shown + FIRST - 1, arrow, target[None] + FIRST - 1])

    def judge(self, prompt, answer) -> Verdict:
        """The form, and the value."""
        numbers, operators = answer[: 2 * self.numbers : 2], answer[1 : 2 * self.numbers - 1 : 2]
        formed = (jnp.sort(numbers) == jnp.sort(prompt[: self.numbers])).all()
        formed &= (operators >= self.operator).all() & (answer[-1] == EOS)
        value, whole = calculate(numbers - FIRST + 1, jnp.maximum(operators - self.operator, 0))
        correct = formed & whole & (value == prompt[-1] - FIRST + 1)
        credit = jnp.where(correct, 1.0, jnp.where(formed, FORMAT_CREDIT, 0.0))
        return Verdict(correct, credit)

    def solve(self, prompt, key) -> jax.Array:
        """One of the right answers, drawn uniformly from all candidates that are."""
        orders, operators = self._candidates()
        hits = self._hits(prompt)
        best = jnp.argmax(jnp.where(hits, jax.random.uniform(key, hits.shape), -1.0))
        order, operation = jnp.divmod(best, len(operators))
        numbers = prompt[: self.numbers][jnp.asarray(orders)[order]]
        signs = self.operator + jnp.asarray(operators)[operation]
        signs = jnp.append(signs, jnp.int32(EOS))
        return jnp.stack([numbers, signs], 1).ravel()

    def chance(self, prompt) -> jax.Array:
        """Number of right answers times `A^-(2 numbers)`, `A` legal tokens."""
        same = prompt[: self.numbers][:, None] == prompt[None, : self.numbers]
        # Orders of equal numbers are the same answer: the product of the factorials of how often each occurs.
        alike = jnp.tril(same).astype(jnp.float32).sum(1).prod()
        answers = self._hits(prompt).astype(jnp.float32).sum() / alike
        return answers * float(self.legal.sum()) ** -(2 * self.numbers)

    def _candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """Orders `[numbers!, numbers]` and operators `[4^(numbers - 1), numbers - 1]`."""
        orders = [*itertools.permutations(range(self.numbers))]
        operators = [*itertools.product(range(len(OPERATORS)), repeat=self.numbers - 1)]
        return np.array(orders, np.int32), np.array(operators, np.int32)

    def _hits(self, prompt):
        """Which candidates reach the target: bool[numbers!, 4^(numbers - 1)]."""
        orders, operators = map(jnp.asarray, self._candidates())
        numbers = prompt[: self.numbers][orders] - FIRST + 1
        each = jax.vmap(jax.vmap(calculate, (None, 0)), (0, None))
        value, whole = each(numbers, operators)
        return whole & (value == prompt[-1] - FIRST + 1)


def operate(left, right):
    """Sum, difference, product and quotient, int32[4], and which of them are whole, bool[4]."""
    divisor = jnp.where(right == 0, 1, right)
    values = jnp.stack([left + right, left - right, left * right, left // divisor])
    return values, jnp.array([True, True, True, False]).at[3].set(
        (right != 0) & (left % divisor == 0)
    )


def calculate(numbers, operators):
    """A chain of operations from left to right: its value, int32[], and whether every step was whole."""
    value, whole = numbers[0], jnp.bool_(True)
    for place in range(operators.shape[0]):
        values, fits = operate(value, numbers[place + 1])
        value, whole = values[operators[place]], whole & fits[operators[place]]
    return value, whole
