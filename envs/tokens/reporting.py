"""A task in tokens before which the policy says whether it will be right."""

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Reference, require
from .base import EOS, PAD, State, TokenTask, Transcript

WORDS = ("<said>", "<yes>", "<no>")


class Reporting(Transcript):
    """The first step is a report, `<yes>` or `<no>`: will the answer be right? Then the task goes on as ever.

    *Observation.* The task's own, with `<said>` between prompt and answer. Which of the two was said is not
    shown, so that no answer can depend on it: the probability of `<yes>` is what the policy believes of
    itself, and nothing else. *Reward.* The task's. *Learning.* `mute` is one: no reward teaches the report;
    only pretraining does, see `vfcompare.agents.pretraining`. What becomes of it while answers are rewarded
    is measured at each evaluation, see `vfcompare.oracle.calibration`.
    """

    passes = 1.0
    mute = 1

    def __init__(self, task: TokenTask):
        """The same task with a report before it.

        Args:
          task: in tokens, with a verifier.
        """
        require(isinstance(task, TokenTask), "task", task, "a task in tokens with a verifier")
        self.task = task
        words = [*task.vocabulary, *WORDS]
        self.said, self.yes, self.no = range(len(words) - 3, len(words))
        answers = np.flatnonzero(task.legal)
        super().__init__(
            vocabulary=words,
            legal=[*answers, self.yes, self.no],
            prompt_length=task.prompt_length,
            answer_length=1 + task.answer_length,
            view=task.view,
        )

    @property
    def reference(self) -> Reference:
        """The task's."""
        return self.task.reference

    def held_out(self) -> "Reporting":
        """The same report before the task as it is evaluated."""
        return Reporting(self.task.held_out())

    def inner(self, tokens) -> jax.Array:
        """The task's own tokens `[L - 1]` in ours `[L]`."""
        return jnp.delete(tokens, self.prompt_length, assume_unique_indices=True)

    def initial(self, rng, params=None):
        """A prompt of the task."""
        return State(jnp.pad(self.task.initial(rng, params).tokens, (0, 1)), jnp.int32(0))

    def transition(self, state, action, rng, params=None):
        """Write the token, or that something was said."""
        del rng, params
        here = jnp.arange(self.length, dtype=jnp.int32) == self.prompt_length + state.time
        token = jnp.where(state.time == 0, self.said, jnp.asarray(action, jnp.int32))
        return State(jnp.where(here, token, state.tokens), state.time + 1)

    def state_info(self, state, params=None):
        """`{"action_mask": bool[V]}`: the report first, then the task's own tokens."""
        del params
        reports = np.isin(np.arange(len(self.vocabulary)), [self.yes, self.no])
        return {"action_mask": jnp.where(state.time == 0, reports, self.legal & ~reports)}

    def reward(self, state, action, next_state, rng, params=None):
        """What the task's verifier says of a whole answer, else zero: float32[]."""
        del state, action
        outcome = self.task.outcome(self.inner(next_state.tokens), rng)
        return jnp.where(self.terminal(next_state, rng, params), outcome, 0.0)

    def terminal(self, state, rng, params=None):
        """The task's end."""
        del rng, params
        last = state.tokens[self.prompt_length + state.time - 1]
        return (state.time > 0) & ((last == EOS) | (state.time >= self.answer_length))

    def correct(self, tokens) -> jax.Array:
        """Whether the answer is right: bool[]."""
        return self.task.correct(self.inner(tokens))

    def report(self, right) -> jax.Array:
        """The token that says so: int32[]."""
        return jnp.where(right, self.yes, self.no)

    def demonstration(self, state, key) -> jax.Array:
        """The task's own, with `<said>` before the answer: int32[L]."""
        inner = State(self.inner(state.tokens), state.time)
        return jnp.insert(self.task.demonstration(inner, key), self.prompt_length, self.said)

    def along(self, tokens) -> tuple[State, jax.Array, jax.Array]:
        """See `TokenTask.along`; what was reported is not known, so that step does not count."""
        time = np.arange(self.answer_length, dtype=np.int32)
        written = np.arange(self.length) < self.prompt_length + time[:, None]
        _, action, mask = self.task.along(self.inner(tokens))
        states = State(jnp.where(written, tokens, PAD), jnp.asarray(time))
        return states, jnp.insert(action, 0, self.no), jnp.insert(mask, 0, 0.0)

    def draw(self, state) -> np.ndarray:
        """The task's picture."""
        return self.task.draw(State(self.inner(state.tokens), jnp.maximum(state.time - 1, 0)))
