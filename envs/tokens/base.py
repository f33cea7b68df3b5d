"""What tasks in tokens have in common: how an episode is written down, judged, split and enumerated.

Shapes: `P` tokens of the prompt, `N` steps at most, `L = P + stride N` tokens in all, `V` in the vocabulary.
"""

import copy
import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from vfcompare.oracle.exact import Outcomes, deterministic
from vfcompare.schema.tree import is_number
from vfcompare.types import Layout

from .. import drawing
from ..base import Reference, Task, random_return, require, require_count, require_fraction

PAD, EOS, FIRST = 0, 1, 2
"""Padding, the end of an answer, and the first symbol of a task's own."""

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

FILLERS = ("?", "!", "&")
"""Tokens that mean nothing."""

SAMPLE = 256
"""Prompts that a chance which depends on the prompt is averaged over."""


class Transcript(Task):
    """An episode as a row of tokens: the prompt, and at each step the token that was chosen.

    Before step `t` everything up to index `P + stride t` is written, and the token that is chosen in it is
    written there. `stride` is 1, or more where the world has its say after each choice.

    *Observation.* The tokens so far: int32[L], 0 where nothing is written yet. With `view="one_hot"`
    float32[L, V], for networks that do not embed tokens. *Action.* The next token; `state_info` tells which
    are legal, the same ones at every step.

    Attributes:
      vocabulary: the tokens as words, by id; 0 is padding.
      prompt_length: `P`.
      answer_length: `N`, the horizon.
      stride: tokens that a step writes.
      legal: bool[V], tokens that may be chosen.
      layout: what a network that reads tokens has to know; None where it is shown something else.
    """

    time_aware = True

    def __init__(
        self,
        *,
        vocabulary: Sequence[str],
        legal: Iterable[int],
        prompt_length: int,
        answer_length: int,
        stride: int = 1,
        view: str = "tokens",
    ):
        super().__init__()
        require(view in ("tokens", "one_hot"), "view", view, "'tokens' or 'one_hot'")
        self.vocabulary, self.view = list(vocabulary), view
        self.prompt_length, self.answer_length, self.stride = prompt_length, answer_length, stride
        self.horizon = answer_length
        self.length = prompt_length + stride * answer_length
        number = len(self.vocabulary)
        self.layout = Layout(number, prompt_length, stride) if view == "tokens" else None
        self.legal = np.isin(np.arange(number), list(legal))
        self.action_space = Discrete(number)
        self.observation_space = (
            Box(0, number - 1, (self.length,), np.int32)
            if view == "tokens"
            else Box(0.0, 1.0, (self.length, number), np.float32)
        )

    def observation(self, state, rng, params=None):
        """The tokens so far: int32[L], or float32[L, V]."""
        del rng, params
        if self.view == "tokens":
            return state.tokens
        kinds = jnp.arange(len(self.vocabulary), dtype=jnp.int32)
        return (state.tokens[:, None] == kinds[None]).astype(jnp.float32)

    def state_info(self, state, params=None):
        """`{"action_mask": bool[V]}`."""
        del state, params
        return {"action_mask": jnp.asarray(self.legal)}

    def demonstration(self, state, key) -> jax.Array:
        """The tokens of a good episode from a start state: int32[L]."""
        raise NotImplementedError

    def decode(self, tokens) -> str:
        """Tokens as text, without padding; with spaces if any word is longer than a character."""
        words = [self.vocabulary[int(token)] for token in np.asarray(tokens) if token != PAD]
        space = " " if any(len(word) > 1 for word in self.vocabulary[FIRST:]) else ""
        return space.join(words)


class State(NamedTuple):
    """Where the episode is.

    Attributes:
      tokens: int32[L], prompt and answer so far.
      time: int32[], tokens of the answer.
    """

    tokens: jax.Array
    time: jax.Array


class Verdict(NamedTuple):
    """What an answer is worth: whether it is right, bool[], and how much of it, float32[] in 0 to 1."""

    correct: jax.Array
    credit: jax.Array


class TokenTask(Transcript):
    """A prompt, an answer that ends in `<eos>`, and a verifier. A task adds `prompt`, `judge` and `solve`.

    *Reward.* 0, and after the last token 1 if the answer is right. An answer that is cut off, because it did
    not end within `answer_length` tokens, is wrong, as is one with a token that is not legal. With `partial`
    the reward is the share that is right; it is 1 for right answers only. With probability `noise` the
    verifier says `1 - reward`.
    *End.* After `<eos>`, or after `answer_length` tokens.
    *Split.* A prompt is held out if its hash says so; only episodes of `held_out()` begin in it.
    *Exact values.* Each prefix of an answer is a place: `vfcompare.oracle.exact` takes tasks with at most 20
    million `N b^(N-1) V`, where `b` tokens may be chosen beside `<eos>`, and refuses larger ones by these
    numbers.
    """

    spread = 1
    contextual = True
    passes = 1.0

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        answers: Iterable[str],
        prompt_length: int,
        answer_length: int,
        partial: bool = False,
        distractors: int = 0,
        noise: float = 0.0,
        held_out: float = 0.1,
        view: str = "tokens",
    ):
        """A task in tokens.

        Args:
          symbols: its own tokens; they get ids from `FIRST` on.
          answers: those of them that are legal in an answer; `<eos>` always is.
          prompt_length: of prompts without distractors.
          answer_length: most tokens of an answer, `<eos>` included.
          partial: whether an answer that is right in part is paid in part.
          distractors: tokens without meaning, scattered over the prompt.
          noise: probability that the verifier is wrong.
          held_out: share of the prompts that is kept for evaluation; 0 means that evaluation has no
            prompts of its own.
          view: `tokens`, or `one_hot` for networks that do not embed.
        """
        require(isinstance(partial, bool), "partial", partial, "true or false")
        require_count("distractors", distractors, 0)
        require_fraction("noise", noise)
        is_share = is_number(held_out) and 0 <= held_out < 1
        require(is_share, "held_out", held_out, "a number from 0 to below 1")
        words = ["<pad>", "<eos>", *symbols, *(FILLERS if distractors else ())]
        super().__init__(
            vocabulary=words,
            legal=[EOS, *map(words.index, answers)],
            prompt_length=prompt_length + distractors,
            answer_length=answer_length,
            view=view,
        )
        self.partial, self.distractors, self.noise = partial, distractors, noise
        self.share, self.testing = held_out, False
        self.going = np.flatnonzero(self.legal)[1:].astype(np.int32)
        if self.share > 0:
            self._require_both_sides()

    def prompt(self, key) -> jax.Array:
        """A prompt without distractors: int32[P]."""
        raise NotImplementedError

    def judge(self, prompt, answer) -> Verdict:
        """What an answer `[N]` that ended is worth; after `<eos>` it is padded."""
        raise NotImplementedError

    def solve(self, prompt, key) -> jax.Array:
        """A right answer: int32[N] or shorter, `<eos>` included."""
        raise NotImplementedError

    def chance(self, prompt) -> jax.Array:
        """Probability that an answer of uniformly drawn legal tokens is right: float32[]."""
        raise NotImplementedError

    @functools.cached_property
    def reference(self) -> Reference:
        """Random: exact for each of 256 prompts, averaged; with partial credit 20,000 simulated episodes.

        Optimal: always right. Solved: right in nine of ten. Both as a noisy verifier pays them.
        """
        if self.partial:
            exact = copy.copy(self)
            exact.noise = 0.0
            random = random_return(exact, 20_000)[0]
        else:
            keys = jax.random.split(jax.random.key(0), SAMPLE)
            prompts = jax.jit(jax.vmap(self._draw))(keys)
            random = float(np.asarray(jax.jit(jax.vmap(self.chance))(prompts), np.float64).mean())
        optimal = max(self._noisy(1.0), self._noisy(0.0))
        return Reference(self._noisy(random), optimal, None if self.partial else self._noisy(0.9))

    def held_out(self) -> "TokenTask":
        """The same task as it is evaluated: on the prompts that were held back, by the true outcome alone.

        Its mean return is pass@1.
        """
        twin = copy.copy(self)
        twin.__dict__.pop("reference", None)
        twin.testing, twin.noise, twin.partial = self.share > 0, 0.0, False
        return twin

    def is_held_out(self, prompt) -> jax.Array:
        """Whether a prompt without distractors is kept for evaluation: bool[].

        A polynomial hash of the tokens, mixed as in MurmurHash3 (Appleby), below `held_out * 2^32`.
        """
        factors = np.cumprod(np.full(len(prompt), 0x9E3779B1, np.uint32), dtype=np.uint32)
        mixed = (prompt.astype(jnp.uint32) * factors).sum(dtype=jnp.uint32)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
        return mixed < np.uint32(self.share * 2**32)

    def initial(self, rng, params=None):
        """A prompt of this side of the split, and nothing written."""
        del params
        draw_key, scatter_key = jax.random.split(rng)
        prompt = self._scatter(self._draw(draw_key), scatter_key)
        return State(jnp.pad(prompt, (0, self.answer_length)), jnp.int32(0))

    def transition(self, state, action, rng, params=None):
        """Write the token."""
        del rng, params
        here = jnp.arange(self.length, dtype=jnp.int32) == self.prompt_length + state.time
        return State(jnp.where(here, jnp.asarray(action, jnp.int32), state.tokens), state.time + 1)

    def reward(self, state, action, next_state, rng, params=None):
        """What the verifier says of a whole answer, else zero: float32[]."""
        del state, action
        outcome = self.outcome(next_state.tokens, rng)
        return jnp.where(self.terminal(next_state, rng, params), outcome, 0.0)

    def terminal(self, state, rng, params=None):
        """After `<eos>`, or without room for another token."""
        del rng, params
        last = state.tokens[self.prompt_length + state.time - 1]
        return (last == EOS) | (state.time >= self.answer_length)

    def verdict(self, tokens) -> Verdict:
        """The truth about whole tokens `[L]`; what follows `<eos>` does not count."""
        prompt, answer = self._gather(tokens[: self.prompt_length]), tokens[self.prompt_length :]
        is_end = answer == EOS
        written = jnp.cumsum(is_end.astype(jnp.int32)) - is_end.astype(jnp.int32) == 0
        valid = is_end.any() & (jnp.asarray(self.legal)[answer] | ~written).all()
        correct, credit = self.judge(prompt, jnp.where(written, answer, PAD))
        return Verdict(valid & correct, jnp.where(valid, credit, 0.0))

    def correct(self, tokens) -> jax.Array:
        """Whether the answer is right: bool[], whatever the verifier says."""
        return self.verdict(tokens).correct

    def outcome(self, tokens, rng) -> jax.Array:
        """What the verifier pays for whole tokens `[L]`: float32[]."""
        paid = self._paid(tokens)
        if not isinstance(self.noise, jax.Array) and self.noise == 0:
            return paid
        return jnp.where(jax.random.uniform(rng) < self.noise, 1.0 - paid, paid)

    def demonstration(self, state, key) -> jax.Array:
        """The prompt with a right answer: int32[L]."""
        prompt = state.tokens[: self.prompt_length]
        answer = self.solve(self._gather(prompt), key)
        return jnp.pad(jnp.concatenate([prompt, answer]), (0, self.answer_length - answer.shape[0]))

    def along(self, tokens) -> tuple[State, jax.Array, jax.Array]:
        """The steps of an episode that is known, `[L]` tokens of it.

        Returns:
          The states before each step, `[N]` of them; the actions int32[N]; and float32[N], one up to the end.
        """
        time = np.arange(self.answer_length, dtype=np.int32)
        written = np.arange(self.length) < self.prompt_length + time[:, None]
        action = tokens[self.prompt_length :]
        ended = jnp.cumsum(action == EOS) - (action == EOS)
        states = State(jnp.where(written, tokens, PAD), jnp.asarray(time))
        return states, action, (ended == 0).astype(jnp.float32)

    @property
    def places(self) -> int:
        """Prefixes of an answer to which one token can be added."""
        return len(self.going) ** (self.answer_length - 1)

    def place(self, state) -> jax.Array:
        """The prefix as a number whose first token is the lowest digit: int32[]."""
        digit = np.zeros(len(self.vocabulary), np.int32)
        digit[self.going] = np.arange(len(self.going))
        answer = state.tokens[self.prompt_length : -1]
        return (jnp.asarray(digit)[answer] * self._powers).sum(dtype=jnp.int32)

    def states(self, start, time) -> State:
        """Every prefix of `time` tokens; from the number of these on they repeat."""
        number = jnp.arange(self.places, dtype=jnp.int32)[:, None]
        digits = number // self._powers[None] % len(self.going)
        written = np.arange(self.answer_length - 1)[None] < time
        answer = jnp.where(written, jnp.asarray(self.going)[digits], PAD)
        prompt = jnp.broadcast_to(
            start.tokens[: self.prompt_length], (self.places, self.prompt_length)
        )
        tokens = jnp.pad(jnp.concatenate([prompt, answer], 1), ((0, 0), (0, 1)))
        return State(tokens, jnp.full(self.places, time, jnp.int32))

    def outcomes(self, start, time) -> Outcomes:
        """One more token; the reward is what a noisy verifier pays on average."""

        def one(state, action):
            after = self.transition(state, action, None)
            end = self.terminal(after, None)
            paid = jnp.where(end, self._noisy(self._paid(after.tokens)), 0.0)
            return self.place(after), paid, end

        each = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
        actions = jnp.arange(len(self.vocabulary), dtype=jnp.int32)
        return deterministic(*each(self.states(start, time), actions))

    def draw(self, state) -> np.ndarray:
        """The tokens in a row: the prompt on grey, the answer on blue, and at its end on green or red."""
        tokens, answer = np.asarray(state.tokens), drawing.SKY
        if bool(self.terminal(state, None)):
            answer = MINT if bool(self.correct(state.tokens)) else ROSE
        colours = [drawing.FLOOR] * self.prompt_length + [answer] * int(state.time)
        colours += [drawing.PAPER] * (self.length - len(colours))
        widest = max(map(len, self.vocabulary[EOS:]))
        return strip([self.vocabulary[t] if t else "" for t in tokens], colours, widest)

    @property
    def _powers(self) -> np.ndarray:
        return len(self.going) ** np.arange(self.answer_length - 1, dtype=np.int32)

    def _paid(self, tokens):
        """What a verifier without noise pays: float32[]."""
        correct, credit = self.verdict(tokens)
        return credit if self.partial else correct.astype(jnp.float32)

    def _noisy(self, paid):
        """What it pays with noise, on average."""
        return paid + self.noise * (1.0 - 2.0 * paid)

    def _draw(self, key):
        """A prompt of this side of the split: int32[P]."""
        if self.share == 0:
            return self.prompt(key)

        def again(loop):
            key, draw_key = jax.random.split(loop[0])
            return key, self.prompt(draw_key)

        def unwanted(loop):
            return self.is_held_out(loop[1]) != self.testing

        return jax.lax.while_loop(unwanted, again, again((key,)))[1]

    def _scatter(self, prompt, key):
        """The prompt with distractors between its tokens."""
        if self.distractors == 0:
            return prompt
        kind_key, slot_key = jax.random.split(key)
        first = len(self.vocabulary) - len(FILLERS)
        among = jax.random.randint(
            kind_key, (self.prompt_length,), first, len(self.vocabulary), jnp.int32
        )
        slots = jax.random.permutation(slot_key, self.prompt_length)[: prompt.shape[0]]
        return among.at[jnp.sort(slots)].set(prompt)

    def _gather(self, prompt):
        """The prompt without its distractors."""
        if self.distractors == 0:
            return prompt
        is_filler = prompt >= len(self.vocabulary) - len(FILLERS)
        return prompt[jnp.argsort(is_filler)[: self.prompt_length - self.distractors]]

    def _require_both_sides(self) -> None:
        """Where a side of the split has hardly any prompt, drawing one would take for ever."""
        # Also while an update is traced the prompts are known.
        with jax.ensure_compile_time_eval():
            prompts = jax.jit(jax.vmap(self.prompt))(jax.random.split(jax.random.key(0), 1000))
            share = float(jax.vmap(self.is_held_out)(prompts).mean())
        require(
            0 < share < 1,
            "held_out",
            self.share,
            "another share, a larger task, or 0, as of 1000 prompts "
            f"{'all' if share else 'none'} would be held out",
        )


class Computed(TokenTask):
    """A task with one right result, before which anything may be written where there is room.

    Right is an answer that ends in the result. A task adds `prompt`, `result` and, for demonstrations,
    `working`.

    *Partial credit.* The share of the result's tokens that are right, counted from the end.
    """

    def __init__(self, *, result_length: int, working_length: int = 0, **options: Any):
        """A task with one result.

        Args:
          result_length: tokens of the result.
          working_length: room for tokens before it.
          **options: of `TokenTask`.
        """
        self.result_length, self.working_length = result_length, working_length
        super().__init__(answer_length=working_length + result_length + 1, **options)

    def result(self, prompt) -> jax.Array:
        """The result: int32[result_length]."""
        raise NotImplementedError

    def working(self, prompt) -> jax.Array:
        """What demonstrations write before it: int32[working_length]."""
        del prompt
        return jnp.zeros(0, jnp.int32)

    def judge(self, prompt, answer) -> Verdict:
        """Compare the tokens before `<eos>` with the result."""
        place = jnp.argmax(answer == EOS) + jnp.arange(-self.result_length, 0)
        hits = (place >= 0) & (answer[jnp.maximum(place, 0)] == self.result(prompt))
        return Verdict(hits.all(), hits.astype(jnp.float32).mean())

    def solve(self, prompt, key) -> jax.Array:
        """Working, result, end."""
        del key
        end = jnp.full(1, EOS, jnp.int32)
        return jnp.concatenate([self.working(prompt), self.result(prompt), end])

    def chance(self, prompt) -> jax.Array:
        """`Σ_w ((A - 1) / A)^w A^-(n + 1)` over the lengths `w` of what comes before, `A` legal tokens."""
        del prompt
        number = float(self.legal.sum())
        before = ((number - 1) / number) ** np.arange(self.working_length + 1)
        return jnp.float32(before.sum() * number ** -(self.result_length + 1))


MINT: drawing.Colour = (190, 226, 200)
ROSE: drawing.Colour = (240, 200, 194)
"""Grounds on which ink can be read, of right and wrong answers."""


def strip(words: Sequence[str], colours: Sequence[drawing.Colour], widest: int) -> np.ndarray:
    """Words of at most `widest` characters in boxes, sixteen a row: uint8[height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale, columns = 48, min(16, len(words))
    wide = scale * max(1.0, 0.3 * widest)
    rows = -(-len(words) // columns)
    height, width = (rows + 1) * scale, (columns + 1) * wide
    image = drawing.canvas(height, round(width))
    places = [((c + 1) * wide, (r + 1) * scale) for r in range(rows) for c in range(columns)]
    for place, colour in zip(places, colours, strict=False):
        drawing.box(image, place, (0.94 * wide, 0.9 * scale), drawing.GREY, corner=6)
        drawing.box(image, place, (0.94 * wide - 2, 0.9 * scale - 2), colour, corner=5)
    figure = Figure((image.shape[1] / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(image / 255, origin="upper")
    for (x, y), word in zip(places, words, strict=False):
        figure.text(
            x / image.shape[1],
            1 - y / height,
            word,
            size=13,
            family="monospace",
            ha="center",
            va="center",
            parse_math=False,
        )
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
