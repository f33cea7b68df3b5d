"""Tasks in tokens: verifiers against plain Python, splits, noise, exact values, and the Gold/Mold maze."""

import functools
import itertools
import re
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import optimum, refuse, start_value
from tests.test_envs import play
from vfcompare import collect
from vfcompare.envs.base import random_action, random_return
from vfcompare.envs.maze import Maze
from vfcompare.envs.tokens.addition import Addition
from vfcompare.envs.tokens.base import EOS, FILLERS, PAD, State
from vfcompare.envs.tokens.brackets import Brackets
from vfcompare.envs.tokens.countdown import Countdown
from vfcompare.envs.tokens.gold_mold import GoldMold
from vfcompare.envs.tokens.maze_text import MazeText
from vfcompare.envs.tokens.modular_sum import ModularSum
from vfcompare.envs.tokens.rearrangement import Reversal, Sorting
from vfcompare.envs.wrappers import OutcomeOnly
from vfcompare.oracle import exact
from vfcompare.types import Policy

PROMPTS = 500


def truth_of_sums(prompt, answer, env):
    left, right = "".join(prompt[:-1]).split("+")
    total, digits = int(left, env.base) + int(right, env.base), []
    for _ in range(env.digits + 1):
        total, digit = divmod(total, env.base)
        digits.append("0123456789abcdefghijklmnopqrstuvwxyz"[digit])
    wanted = digits if env.reverse else digits[::-1]
    return ending(["#", *wanted] if env.scratch else wanted, answer)


def ending(wanted, answer):
    """An answer that ends in what is wanted, and the share of it that agrees from the end."""
    places = range(-1, -len(wanted) - 1, -1)
    hits = [len(answer) >= -place and answer[place] == wanted[place] for place in places]
    return all(hits), sum(hits) / len(hits)


def truth_of_chains(prompt, answer, env):
    total = sum(int(number) for number in "".join(prompt[:-1]).split("+"))
    return ending([str(total % env.modulus)], answer)


def truth_of_brackets(prompt, answer, env):
    stack = []
    for bracket in [*prompt, *answer]:
        if bracket in "([{<":
            stack.append(bracket)
        elif not stack or stack.pop() + bracket not in ("()", "[]", "{}", "<>"):
            return False, 0.0
    return not stack, 1 / (1 + len(stack))


def truth_of_countdown(prompt, answer, env):
    numbers, operators = answer[::2], answer[1::2]
    formed = sorted(numbers) == sorted(prompt[: env.numbers])
    formed = formed and all(operator in "+-*/" for operator in operators)
    formed = formed and len(operators) == env.numbers - 1
    if not formed:
        return False, 0.0
    text = numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        if operator == "/" and eval(f"{text} % {number}"):
            return False, 0.1
        text = f"({text} {operator.replace('/', '//')} {number})"
    right = eval(text) == int(prompt[-1])
    return right, 1.0 if right else 0.1


def truth_of_mazes(prompt, answer, env):
    open_squares = {divmod(i, env.side): square for i, square in enumerate(prompt) if square != "#"}
    (start,) = (place for place, square in open_squares.items() if square == "A")
    (goal,) = (place for place, square in open_squares.items() if square == "B")

    def moved(place, arrow):
        down, right = {"↑": (-1, 0), "→": (0, 1), "↓": (1, 0), "←": (0, -1)}[arrow]
        there = (place[0] + down, place[1] + right)
        return there if there in open_squares else place

    distance, queue = {goal: 0}, deque([goal])
    while queue:
        here = queue.popleft()
        for there in (moved(here, arrow) for arrow in "↑→↓←"):
            if there not in distance:
                distance[there] = distance[here] + 1
                queue.append(there)
    here = functools.reduce(moved, answer, start)
    return here == goal, max(0.0, 1 - distance[here] / distance[start])


def truth_of_sorting(prompt, answer, env):
    return ending(sorted(prompt[:-1]), answer)


def truth_of_reversal(prompt, answer, env):
    return ending(prompt[:-1][::-1], answer)


TRUTHS = {
    Addition: truth_of_sums,
    ModularSum: truth_of_chains,
    Sorting: truth_of_sorting,
    Reversal: truth_of_reversal,
    Brackets: truth_of_brackets,
    Countdown: truth_of_countdown,
    MazeText: truth_of_mazes,
}

MAKES = {
    "addition": lambda **k: Addition(**k),
    "long addition": lambda **k: Addition(digits=12, **k),
    "reversed hexadecimal addition": lambda **k: Addition(base=16, reverse=True, **k),
    "addition with a scratch pad": lambda **k: Addition(digits=3, scratch=True, **k),
    "modular sum": lambda **k: ModularSum(**k),
    "modular sum with a scratch pad": lambda **k: ModularSum(5, 13, scratch=True, **k),
    "sorting": lambda **k: Sorting(5, 12, **k),
    "reversal": lambda **k: Reversal(**k),
    "brackets": lambda **k: Brackets(**k),
    "many brackets": lambda **k: Brackets(12, kinds=4, depth=5, **k),
    "countdown": lambda **k: Countdown(**k),
    "countdown of four": lambda **k: Countdown(4, largest=12, limit=40, **k),
    "maze": lambda **k: MazeText(**k),
    "large maze with loops": lambda **k: MazeText(7, loops=0.5, **k),
}

LARGE = [
    *("long addition", "reversed hexadecimal addition", "modular sum with a scratch pad"),
    *("many brackets", "countdown of four", "large maze with loops"),
]
ALL = [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in MAKES]

TINY = {
    "addition": lambda **k: Addition(digits=1, base=2, **k),
    "addition with a scratch pad": lambda **k: Addition(digits=1, base=2, scratch=True, **k),
    "modular sum with a scratch pad": lambda **k: ModularSum(4, 3, scratch=True, **k),
    "sorting": lambda **k: Sorting(2, 3, **k),
    "brackets": lambda **k: Brackets(3, kinds=2, depth=2, spare=2, **k),
    "countdown": lambda **k: Countdown(2, largest=2, limit=4, **k),
    "maze": lambda **k: MazeText(5, spare=0, **k),
}


@functools.cache
def make(name, **options):
    """A task, by default without a split."""
    return MAKES[name](**{"held_out": 0, **options})


def keys(number, seed=0):
    return jax.random.split(jax.random.key(seed), number)


def words(env, tokens):
    """The prompt without distractors, and the answer up to its end: lists of words; None if it has no end."""
    told = [env.vocabulary[token] for token in tokens]
    prompt = [word for word in told[: env.prompt_length] if word not in FILLERS]
    answer = told[env.prompt_length :]
    return prompt, answer[: answer.index("<eos>")] if "<eos>" in answer else None


def truth(env, tokens):
    """`(correct, credit)` by plain Python."""
    prompt, answer = words(env, tokens)
    legal = {env.vocabulary[token] for token in np.flatnonzero(env.legal)}
    if answer is None or not legal.issuperset(answer):
        return False, 0.0
    return TRUTHS[type(env)](prompt, answer, env)


@functools.cache
def demonstrated(env):
    """`PROMPTS` start states and right answers to them: int32[PROMPTS, L] each."""

    def one(key):
        start_key, answer_key = jax.random.split(key)
        start = env.initial(start_key)
        return start.tokens, env.demonstration(start, answer_key)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys(PROMPTS)))


def answers(env):
    """Right ones, some with one token replaced, two tokens exchanged or no end, and random ones."""
    random, right = np.random.default_rng(0), demonstrated(env)[1]
    legal, rows = np.flatnonzero(env.legal), np.arange(len(right))
    change, swap, noise = right.copy(), right.copy(), right.copy()
    start = env.prompt_length
    change[rows, random.integers(start, env.length, len(right))] = random.choice(legal, len(right))
    one, two = (random.integers(start, env.length, len(right)) for _ in range(2))
    swap[rows, one], swap[rows, two] = right[rows, two], right[rows, one]
    noise[:, start:] = random.choice(legal, (len(right), env.length - start))
    endless = np.where(right == EOS, legal[1], right)
    return np.concatenate([right, change, swap, noise, endless])


def judged(env, tokens):
    correct, credit = jax.jit(jax.vmap(env.verdict))(jnp.asarray(tokens))
    return np.asarray(correct), np.asarray(credit)


def assert_judged_as_in_plain_python(env, tokens):
    correct, credit = judged(env, tokens)
    expected = [truth(env, row) for row in tokens]
    np.testing.assert_array_equal(correct, [right for right, _ in expected])
    np.testing.assert_allclose(credit, [share for _, share in expected], rtol=1e-6)
    assert (credit >= 0).all()
    assert ((credit == 1) == correct).all()


@pytest.mark.parametrize("name", ALL)
def test_the_verifier_agrees_with_plain_python(name):
    env = make(name)
    tokens = answers(env)
    assert_judged_as_in_plain_python(env, tokens)
    assert 0.15 < judged(env, tokens)[0].mean() < 0.9


@pytest.mark.parametrize("name", ["addition with a scratch pad", "brackets"])
def test_distractors_change_no_verdict(name):
    env = make(name, distractors=3)
    fillers = np.isin(np.array(env.vocabulary), FILLERS)[
        demonstrated(env)[0][:, : env.prompt_length]
    ]
    assert (fillers.sum(1) == 3).all()
    # Everywhere: each place of the prompt holds a distractor in some prompts.
    assert fillers.any(0).all()
    assert_judged_as_in_plain_python(env, answers(env))


@pytest.mark.parametrize("name", TINY)
def test_all_answers_to_some_prompts_are_judged_as_in_plain_python(name):
    env = TINY[name](held_out=0)
    every = np.array([*itertools.product(np.flatnonzero(env.legal), repeat=env.answer_length)])
    # Random ones of those that are too many to be listed twice over.
    chosen = np.random.default_rng(0).permutation(len(every))[:3000]
    for key in keys(3, seed=5):
        prompt = np.asarray(env.initial(key).tokens)[: env.prompt_length]
        rows = np.concatenate([np.tile(prompt, (len(chosen), 1)), every[chosen]], 1)
        assert_judged_as_in_plain_python(env, rows)


@pytest.mark.parametrize("name", ALL)
def test_demonstrations_are_right_and_legal_and_keep_the_prompt(name):
    env = make(name)
    (begun, right), start = demonstrated(env), env.prompt_length
    assert judged(env, right)[0].all()
    assert right.dtype == np.int32
    assert right.shape == (PROMPTS, env.length)
    answer = right[:, start:]
    after_end = np.cumsum(answer == EOS, 1) - (answer == EOS) > 0
    assert (answer[after_end] == PAD).all()
    assert env.legal[answer[~after_end]].all()
    np.testing.assert_array_equal(right[:, :start], begun[:, :start])
    assert (begun[:, start:] == PAD).all()


def test_demonstrations_differ_where_several_answers_are_right():
    env = make("countdown")
    # 3 + 5 + 2, in any order.
    prompt = jnp.array([env.vocabulary.index(word) for word in ("3", "5", "2", "->", "10")])
    found = jax.jit(jax.vmap(lambda key: env.solve(prompt, key)))(keys(100))
    texts = {env.decode(row) for row in np.asarray(found)}
    assert {"3 + 5 + 2 <eos>", "2 + 3 + 5 <eos>"} < texts


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (Addition(held_out=0), "57+68=125<eos>"),
        (Addition(scratch=True, held_out=0), "57+68=5121#125<eos>"),
        (Addition(reverse=True, held_out=0), "57+68=521<eos>"),
        (ModularSum(held_out=0), "3+4+1=3<eos>"),
        (ModularSum(scratch=True, held_out=0), "3+4+1=23<eos>"),
        (Sorting(4, held_out=0), "3102>0123<eos>"),
        (Reversal(4, held_out=0), "3102>2013<eos>"),
        (Brackets(held_out=0), "([()])<eos>"),
        (MazeText(held_out=0), "A.B.#..#.→→<eos>"),
    ],
)
def test_the_examples_of_the_documentation_are_demonstrations(env, text):
    ids = [env.vocabulary.index(word) for word in re.findall(r"<eos>|.", text)]
    tokens = np.pad(np.array(ids, np.int32), (0, env.length - len(ids)))
    prompt = jnp.where(jnp.arange(env.length) < env.prompt_length, tokens, 0)
    shown = jax.jit(env.demonstration)(State(prompt, jnp.int32(0)), jax.random.key(0))
    assert env.decode(shown) == env.decode(tokens) == text


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("addition", "0123456789"),
        ("addition with a scratch pad", "0123456789#"),
        ("reversal", "0123"),
        ("brackets", "()[]"),
        ("maze", "↑→↓←"),
        ("countdown", "123456789+-*/"),
        ("modular sum", "01234"),
    ],
)
def test_the_mask_is_what_may_stand_in_an_answer(name, wanted):
    env = make(name, distractors=1)
    mask = env.state_info(None)["action_mask"]
    legal = {env.vocabulary[token] for token in np.flatnonzero(mask)}
    assert legal == {"<eos>", *wanted}
    assert mask.shape == (env.action_space.n,) == (len(env.vocabulary),)


@pytest.mark.parametrize("name", ["addition", "brackets", "maze"])
def test_an_episode_writes_one_token_a_step_and_ends_after_eos_or_without_room(name):
    env = make(name)
    episodes = jax.jit(jax.vmap(lambda key: play(env, key, env.horizon)))(keys(200))
    tokens, terminal = np.asarray(episodes.state.tokens), np.asarray(episodes.terminal)
    answer = tokens[:, -1, env.prompt_length :]
    for time in range(env.horizon):
        np.testing.assert_array_equal(answer[:, time], episodes.action[:, time])
        np.testing.assert_array_equal(
            tokens[:, time], np.where(np.arange(env.length) < env.prompt_length + time, tokens[:, -1], 0)
        )  # fmt: skip
        last = time == env.horizon - 1
        np.testing.assert_array_equal(terminal[:, time], (answer[:, time] == EOS) | last)
    # What is paid, and when: the verdict on what is written, once.
    ended = terminal.argmax(1)
    paid = np.asarray(episodes.reward)
    final = tokens[np.arange(200), ended + 1]
    np.testing.assert_array_equal(paid[np.arange(200), ended], judged(env, final)[0])
    assert (paid[np.arange(env.horizon) < ended[:, None]] == 0).all()


def test_the_rollouts_of_a_group_share_the_prompt_and_groups_differ():
    env = make("addition")

    def act(params, carry, obs, legal, noise):
        return carry, jnp.argmax(jnp.where(legal, noise, 0.0)), jnp.float32(0.0)

    policy = Policy(refuse, (), (len(env.vocabulary),), act, refuse, refuse)
    gatherer = collect.episodes(env, prompts=8, group=4, start="shared")
    run = jax.jit(lambda key: gatherer.collect((), policy, (), key, keep_state=False).rollout)
    rollout = run(jax.random.key(1))
    prompt = np.asarray(rollout.obs)[:, :, :, : env.prompt_length]
    np.testing.assert_array_equal(prompt, np.broadcast_to(prompt[:, :1, :1], prompt.shape))
    assert len(np.unique(prompt[:, 0, 0], axis=0)) == 8
    assert len(np.unique(rollout.action[0], axis=0)) == 4


def hashed(prompt):
    """The hash of a prompt in whole numbers of Python."""
    total, factor = 0, 1
    for token in prompt:
        factor = factor * 0x9E3779B1 % 2**32
        total += int(token) * factor
    total %= 2**32
    for shift, times in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        total = (total ^ (total >> shift)) * times % 2**32
    return total


@pytest.mark.parametrize(("name", "share"), [("addition", 0.1), ("maze", 0.3), ("brackets", 0.2)])
def test_training_and_evaluation_never_share_a_prompt(name, share):
    env = make(name, held_out=share)
    sides = []
    for side in (env, env.held_out()):
        tokens = np.asarray(jax.jit(jax.vmap(side.initial))(keys(2000)).tokens)
        sides.append({tuple(row) for row in tokens[:, : env.prompt_length].tolist()})
    train, test = sides
    assert not train & test
    assert all(hashed(prompt) >= share * 2**32 for prompt in train)
    assert all(hashed(prompt) < share * 2**32 for prompt in test)


def test_the_split_of_addition_stays_what_it_is():
    env = make("addition", held_out=0.1)
    digits = np.stack(np.unravel_index(np.arange(10_000), (10,) * 4), 1)
    ids = np.insert(digits + 2, 2, env.vocabulary.index("+"), 1)
    prompts = np.insert(ids, 5, env.vocabulary.index("="), 1)
    held = np.asarray(jax.vmap(env.is_held_out)(jnp.asarray(prompts)))
    first = ["".join(env.vocabulary[token] for token in row) for row in prompts[held][:3]]
    assert (held.sum(), first) == (1005, ["00+04=", "00+10=", "00+14="])


def test_distractors_do_not_move_a_prompt_to_the_other_side():
    plain, busy = (make("addition", held_out=0.1, distractors=number) for number in (0, 4))
    tokens = np.asarray(jax.jit(jax.vmap(busy.held_out().initial))(keys(300)).tokens)
    prompts = [[plain.vocabulary.index(word) for word in words(busy, row)[0]] for row in tokens]
    assert jax.vmap(plain.is_held_out)(jnp.array(prompts)).all()


def test_twins_are_evaluated_on_the_prompts_that_the_inner_task_holds_out():
    inner, maze = make("addition", held_out=0.1), Maze(5)
    twin = OutcomeOnly(inner).held_out()
    assert isinstance(twin, OutcomeOnly)
    tokens = jax.vmap(twin.initial)(keys(20)).inner.tokens
    assert jax.vmap(inner.is_held_out)(tokens[:, : inner.prompt_length]).all()
    for env in (maze, OutcomeOnly(maze), GoldMold()):
        assert env.held_out() is env


def test_evaluation_asks_the_true_verifier_for_the_whole_outcome():
    env = make("addition", noise=0.3)
    noisy = env.reference
    twin = env.held_out()
    assert (twin.noise, twin.partial, env.noise) == (0.0, False, 0.3)
    assert twin.reference == make("addition").reference
    assert noisy.optimal == pytest.approx(0.7)
    assert noisy.random == pytest.approx(0.3 + 0.4 * twin.reference.random)
    assert not make("addition", partial=True).held_out().partial
    # Without a split there are no other prompts.
    start = jax.random.key(1)
    np.testing.assert_array_equal(twin.initial(start).tokens, env.initial(start).tokens)


@pytest.mark.statistical
def test_a_noisy_verifier_is_wrong_as_often_as_it_says():
    env, number = make("addition", noise=0.2), 20_000
    right = jnp.asarray(demonstrated(env)[1][0])
    wrong = right.at[env.prompt_length].set(EOS)
    pay = jax.jit(jax.vmap(env.outcome, (None, 0)))
    error = 4 * np.sqrt(0.2 * 0.8 / number)  # four standard errors
    assert float(pay(right, keys(number)).mean()) == pytest.approx(0.8, abs=error)
    assert float(pay(wrong, keys(number)).mean()) == pytest.approx(0.2, abs=error)
    assert bool(env.correct(right))
    assert not bool(env.correct(wrong))


def test_partial_credit_pays_the_credit_at_the_end():
    env = make("addition", partial=True)
    tokens = answers(env)
    paid = jax.vmap(lambda row: env.outcome(row, jax.random.key(0)))(jnp.asarray(tokens))
    np.testing.assert_array_equal(paid, judged(env, tokens)[1])
    assert len(np.unique(paid)) == 4  # none to three of three digits


def uniform(obs, legal):
    return jax.nn.log_softmax(jnp.where(legal, 0.0, -1e9)) + 0.0 * obs[:, :1].astype(jnp.float32)


def uneven(obs, legal):
    """Some policy that depends on everything written so far."""
    seen = obs.astype(jnp.float32)
    weight = jax.random.normal(jax.random.key(3), (seen.shape[-1], legal.shape[-1]))
    return jax.nn.log_softmax(jnp.where(legal, jnp.sin(seen @ weight), -1e9))


def brute_force(env, start, log_probs):
    """Expected outcome over every answer, one by one."""
    rows, seen = [], set()
    for answer in itertools.product(np.flatnonzero(env.legal), repeat=env.answer_length):
        cut = answer[: answer.index(EOS) + 1] if EOS in answer else answer
        if cut not in seen:
            seen.add(cut)
            rows.append(cut)
    prompt = np.asarray(start.tokens)[: env.prompt_length]
    tokens = np.zeros((len(rows), env.length), np.int32)
    for row, answer in zip(tokens, rows, strict=True):
        row[: len(prompt) + len(answer)] = [*prompt, *answer]
    chance = np.zeros(len(rows))
    legal = jnp.broadcast_to(jnp.asarray(env.legal), (len(rows), len(env.legal)))
    for time in range(env.answer_length):
        here = env.prompt_length + time
        seen_so_far = np.where(np.arange(env.length) < here, tokens, 0)
        listed = np.asarray(log_probs(jnp.asarray(seen_so_far), legal))
        chosen = listed[np.arange(len(rows)), tokens[:, here]]
        chance += np.where(np.array([len(row) for row in rows]) > time, chosen, 0.0)
    paid = [truth(env, row)[1 if env.partial else 0] for row in tokens]
    paid = env.noise + (1 - 2 * env.noise) * np.array(paid, float)
    assert np.exp(chance).sum() == pytest.approx(1.0, abs=1e-5)
    return float((np.exp(chance) * paid).sum())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("addition", {}),
        ("addition", {"noise": 0.2}),
        ("addition", {"partial": True, "distractors": 1}),
        ("sorting", {}),
        ("brackets", {"partial": True}),
        ("countdown", {"noise": 0.1, "partial": True}),
        ("modular sum with a scratch pad", {}),
    ],
)
def test_the_prefix_tree_gives_the_value_that_brute_force_gives(name, options):
    env = TINY[name](held_out=0, **options)
    start = env.initial(jax.random.key(2))
    value = jax.jit(lambda start: start_value(env, uneven, start, gamma=1.0))(start)
    assert float(value) == pytest.approx(brute_force(env, start, uneven), rel=1e-4, abs=1e-7)
    best = jax.jit(lambda start: optimum(env, start, gamma=1.0))(start)
    assert float(best[0, env.place(start)]) == pytest.approx(env.reference.optimal, rel=1e-6)


@pytest.mark.parametrize("name", ["addition with a scratch pad", "brackets", "countdown", "maze"])
def test_the_chance_of_random_answers_is_the_exact_value_of_the_uniform_policy(name):
    env = TINY[name](held_out=0)
    value = jax.jit(lambda start: start_value(env, uniform, start, gamma=1.0))
    for key in keys(4, seed=9):
        start = env.initial(key)
        chance = env.chance(start.tokens[: env.prompt_length])
        assert float(chance) == pytest.approx(float(value(start)), rel=1e-4)


@pytest.mark.parametrize("name", ["addition", "brackets"])
@pytest.mark.statistical
def test_simulated_random_answers_earn_the_exact_value(name, monkeypatch):
    env, number = TINY[name](held_out=0), 20_000
    start = env.initial(jax.random.key(4))
    exactly = float(start_value(env, uniform, start, gamma=1.0))
    monkeypatch.setattr(env, "initial", lambda rng: start)
    mean, _ = random_return(env, number)
    error = 4 * np.sqrt(exactly * (1 - exactly) / number)  # four standard errors
    assert mean == pytest.approx(exactly, abs=error)


@pytest.mark.slow
@pytest.mark.statistical
def test_the_random_reference_is_what_random_answers_earn():
    for env in (make("brackets"), make("brackets", partial=True), make("maze", noise=0.1)):
        mean, error = random_return(env, 10_000, seed=1)
        # Four standard errors, and one of the 256 prompts of the reference, whose chances lie within 0.2.
        assert mean == pytest.approx(env.reference.random, abs=4 * (error + 0.05 / np.sqrt(256)))


@pytest.mark.parametrize("name", ["addition with a scratch pad", "brackets"])
def test_every_state_of_an_episode_is_in_its_place(name):
    env = TINY[name](held_out=0)
    episodes = jax.jit(jax.vmap(lambda key: play(env, key, env.horizon)))(keys(30))
    list_all = jax.jit(env.states)
    for episode in range(30):
        states = jax.tree.map(lambda x, row=episode: x[row], episodes.state)
        start = jax.tree.map(lambda x: x[0], states)
        for time in range(1 + int(np.argmax(episodes.terminal[episode]))):
            state = jax.tree.map(lambda x, now=time: x[now], states)
            listed = list_all(start, time)
            np.testing.assert_array_equal(listed.tokens[env.place(state)], state.tokens)
            assert (np.asarray(listed.time) == time).all()


def test_what_is_too_long_to_be_enumerated_is_refused_with_its_size():
    numbers = "7 steps x 1000000 places x 14 actions x 1 outcomes = 98,000,000, at most 20,000,000"
    with pytest.raises(ValueError, match=f"env=Addition is too large to be enumerated: {numbers}"):
        exact.require_enumerable(Addition(digits=5))
    with pytest.raises(ValueError, match="env=GoldMold cannot be enumerated"):
        exact.require_enumerable(GoldMold())
    assert exact.require_enumerable(Addition(digits=3)).places == 10**4


@pytest.mark.parametrize(
    ("refused", "field"),
    [
        (lambda: Addition(digits=0), "digits=0"),
        (lambda: Addition(base=37), "base=37"),
        (lambda: ModularSum(terms=1), "terms=1"),
        (lambda: ModularSum(modulus=1), "modulus=1"),
        (lambda: Sorting(length=0), "length=0"),
        (lambda: Reversal(symbols=1), "symbols=1"),
        (lambda: Brackets(kinds=5), "kinds=5"),
        (lambda: Brackets(depth=0), "depth=0"),
        (lambda: Countdown(numbers=6), "numbers=6"),
        (lambda: Countdown(numbers=5, largest=100), "largest=100"),
        (lambda: Countdown(limit=17), "limit=17"),
        (lambda: MazeText(size=4), "size=4"),
        (lambda: MazeText(spare=-1), "spare=-1"),
        (lambda: Addition(noise=1.5), "noise=1.5"),
        (lambda: Addition(partial="yes"), "partial='yes'"),
        (lambda: Addition(distractors=-1), "distractors=-1"),
        (lambda: Addition(held_out=1.0), "held_out=1.0"),
        (lambda: Addition(view="text"), "view='text'"),
        (lambda: Brackets(length=1, kinds=1), "held_out=0.1"),
        (lambda: GoldMold(turns=21), "turns=21"),
        (lambda: GoldMold(wind=2.0), "wind=2.0"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(refused, field):
    with pytest.raises(ValueError, match=re.escape(field)):
        refused()


def test_a_network_that_does_not_embed_sees_the_same_tokens():
    plain, hot = Addition(), Addition(view="one_hot")
    state = plain.initial(jax.random.key(0))
    seen = hot.observation(state, jax.random.key(0))
    assert seen.shape == hot.observation_space.shape == (plain.length, 14)
    np.testing.assert_array_equal(seen.argmax(-1), plain.observation(state, jax.random.key(0)))
    np.testing.assert_array_equal(seen.sum(-1), 1.0)


@functools.cache
def grids():
    env = GoldMold()
    return jax.jit(jax.vmap(env.initial))(keys(64, seed=1))


@pytest.mark.statistical
def test_grids_of_gold_and_mold_are_made_as_stated():
    starts = grids()
    mold, gold = (np.asarray(x).reshape(-1, 100, 100) for x in (starts.mold, starts.gold))
    inner = mold[:, 1:-1, 1:-1]
    count = inner.sum((1, 2))
    assert (mold.sum((1, 2)) - count == 100**2 - 98**2).all()
    assert (count >= 961).all()
    assert (count <= 4801).all()
    # Uniform on 10 % to 50 %: the mean of 64 is within four standard errors.
    assert abs(count.mean() - 2881) < 4 * 3840 / np.sqrt(12 * 64)
    np.testing.assert_array_equal(gold.sum((1, 2)), np.floor(count * 0.2))
    assert not (mold & gold).any()
    for index in range(16):
        assert int(starts.here[index]) == first_path(mold[index] | gold[index])


def first_path(blocked):
    """The first free tile met from the centre, written independently: its number."""
    seen, queue = {(50, 50)}, deque([(50, 50)])
    while queue:
        x, y = queue.popleft()
        if not blocked[y, x]:
            return 100 * y + x
        for there in ((x, y - 1), (x, y + 1), (x + 1, y), (x - 1, y)):
            if there not in seen:
                seen.add(there)
                queue.append(there)
    raise AssertionError("no path at all")


STEPS = {"N": (0, -1), "E": (1, 0), "S": (0, 1), "W": (-1, 0)}


def retold(state, told, turns):
    """Gold and mold that were entered and reports that are false, replaying what the tokens say."""
    tiles = np.where(
        np.asarray(state.mold), "mold", np.where(np.asarray(state.gold), "gold", "path")
    )
    tiles = tiles.reshape(100, 100).astype(object)
    y, x = divmod(int(state.here), 100)
    counts, paid = {"path": 0, "mold": 0, "gold": 0}, []

    def enter(direction, sign):
        nonlocal x, y
        if tiles[y, x] == "path":
            tiles[y, x] = "mold"
        x, y = x + sign * STEPS[direction][0], y + sign * STEPS[direction][1]
        counts[tiles[y, x]] += 1
        if tiles[y, x] == "gold":
            tiles[y, x] = "path"

    def report(said):
        for word in said:
            direction, kind = word.split(":")
            dx, dy = STEPS[direction]
            assert tiles[y + dy, x + dx] == kind
        return [word[0] for word in said]

    assert told[0] == "calm"
    order = report(told[1:5])
    for turn in range(turns):
        move, wind, *said = told[5 + 6 * turn : 11 + 6 * turn]
        before = dict(counts)
        enter(move, 1)
        if wind != "calm":
            enter(wind[-1], -1)
        assert report(said) == order
        gained = {kind: counts[kind] - before[kind] for kind in counts}
        paid.append(20 * gained["gold"] - 10 * gained["mold"] - 0.1)
    return paid, order


@pytest.mark.statistical
def test_a_turn_moves_then_blows_and_reports_as_an_independent_copy_does():
    env = GoldMold(wind=0.4)
    episodes = jax.jit(jax.vmap(lambda key: play(env, key, env.horizon)))(keys(60))
    orders, blown = set(), 0
    for index in range(60):
        start = jax.tree.map(lambda x, row=index: x[row, 0], episodes.state)
        told = [env.vocabulary[int(token)] for token in episodes.state.tokens[index, -1]]
        paid, order = retold(start, told, env.turns)
        np.testing.assert_allclose(episodes.reward[index], paid, rtol=1e-6)
        orders.add(tuple(order))
        blown += sum(word.startswith("wind") for word in told)
    assert len(orders) > 10
    # 900 turns; four standard errors.
    assert abs(blown / 900 - 0.4) < 4 * np.sqrt(0.4 * 0.6 / 900)


@pytest.mark.statistical
def test_the_wind_comes_from_all_sides_alike():
    env = GoldMold()
    state = env.initial(jax.random.key(0))
    told = jax.jit(jax.vmap(lambda key: env.transition(state, jnp.int32(1), key).tokens[6]))
    words = np.array(env.vocabulary)[np.asarray(told(keys(20_000)))]
    for word in ("wind:N", "wind:E", "wind:S", "wind:W"):
        assert abs((words == word).mean() - 0.025) < 4 * np.sqrt(0.025 / 20_000)  # four errors


def test_a_demonstration_of_the_gold_mold_maze_is_a_greedy_episode():
    env = GoldMold()
    start = jax.tree.map(lambda x: x[0], grids())
    tokens = env.demonstration(start, jax.random.key(0))
    told = [env.vocabulary[int(token)] for token in tokens]
    worth = {"mold": 0, "path": 1, "gold": 2}
    for turn in range(env.turns):
        seen = dict(word.split(":") for word in told[1 + 6 * turn : 5 + 6 * turn])
        assert worth[seen[told[5 + 6 * turn]]] == max(worth[kind] for kind in seen.values())
    assert len(retold(start, told, env.turns)[0]) == 15


@pytest.mark.parametrize(
    ("choose", "mean", "error", "deviation"),
    [
        (random_action, -79.4, 17.0, 32.6),
        (lambda env, state, key: env.greedy(state, key), 18.3, 23.4, 37.2),
    ],
    ids=["random", "greedy"],
)
@pytest.mark.statistical
def test_the_gold_mold_maze_has_the_known_returns(choose, mean, error, deviation):
    """Known from 400 grids x 16 episodes; `error` is the deviation between grids there and here."""
    env, number = GoldMold(), 400

    def grid(key):
        start_key, key = jax.random.split(key)
        start = env.initial(start_key)

        def step(carry, key):
            state, total = carry
            act_key, turn_key = jax.random.split(key)
            action = choose(env, state, act_key)
            new = env.transition(state, action, turn_key)
            return (new, total + env.reward(state, action, new, None)), None

        def episode(key):
            carry = (start, jnp.float32(0.0))
            return jax.lax.scan(step, carry, jax.random.split(key, env.turns))[0][1]

        return jax.vmap(episode)(jax.random.split(key, 16))

    run = jax.jit(lambda keys: jax.lax.map(grid, keys, batch_size=50))
    earned = np.asarray(run(keys(number, seed=3)), np.float64)
    # Both are of 400 grids: four standard errors of the difference.
    assert earned.mean() == pytest.approx(mean, abs=4 * error * np.sqrt(2 / number))
    squares = np.square(earned - earned.mean()).mean(1)
    error = squares.std() / (2 * earned.std())
    assert earned.std() == pytest.approx(deviation, abs=4 * error * np.sqrt(2 / number))
