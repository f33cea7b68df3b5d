"""What theory predicts of variances, held against the suite's own estimators by enumeration, and its lab."""

from functools import partial
from itertools import product
from math import comb, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import GOLDEN, access, ask
from vfcompare import advantages, baselines, estimators, lesions, returns, scales
from vfcompare.agents import measures
from vfcompare.envs.lock import Lock
from vfcompare.oracle import exact, theory
from vfcompare.types import Rollout, Spec

VARIANCES = [name for name in GOLDEN if name.startswith("theory_variance")]
SIGNALS = [name for name in GOLDEN if name.startswith("theory_group_signal")]
KEY = jax.random.key(11)


def act_out(env, start, actions):
    """The episodes `[N, 1, T]` of an environment without chance from the actions `[N, T]`, with states."""
    key = jax.random.key(0)

    def episode(actions):
        def step(carry, inputs):
            state, live = carry
            action, time = inputs
            after = env.transition(state, action, key)
            end = jnp.float32(env.terminal(after, key)) * live
            cut = (time == env.horizon - 1) * (1.0 - end) * live
            row = {
                "obs": env.observation(state, key),
                "reward": env.reward(state, action, after, key) * live,
                "terminated": end,
                "truncated": cut,
                "mask": live,
                "state": state,
            }
            held = jax.tree.map(lambda new, old: jnp.where(live > 0, new, old), after, state)
            return (held, live - end - cut), row

        inputs = (actions, jnp.arange(env.horizon))
        (state, _), rows = jax.lax.scan(step, (start, jnp.float32(1.0)), inputs)
        last = {"obs": env.observation(state, key), "state": state}
        for name, x in last.items():
            rows[name] = jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), rows[name], x)
        return rows

    rows = jax.tree.map(lambda x: x[:, None], jax.jit(jax.vmap(episode))(actions))
    actions, shape = actions[:, None], actions[:, None].shape
    first = jnp.zeros(shape).at[..., 0].set(1.0)
    return Rollout(action=actions, log_prob=jnp.zeros(shape), first=first, **rows)


def regroup(rollout, index):
    """The groups `[B, G]` of episodes `[N, 1, T]` that an index `[B, G]` names."""
    return jax.tree.map(lambda x: x[:, 0][index], rollout)


class Chain:
    """All episodes of a lock, their probabilities, and the score of the one logit of each step."""

    def __init__(self, model, length, q):
        self.q, self.length = q, length
        reward = "each" if model == "additive" else "all"
        decisive = None if model in ("lock", "additive") else int(model[-1])
        where = "late" if model.startswith("late") else "early"
        self.env = Lock(length, 2, None, reward, decisive, where)
        actions = np.array(list(product(range(2), repeat=length)))
        # Action 0 is the right one.
        right = 1 - actions
        self.probability = np.prod(np.where(right, q, 1 - q), -1)
        self.score = right - q
        self.rollout = act_out(self.env, self.env.initial(KEY), jnp.asarray(actions))
        self.log_probs = lambda obs, legal: jnp.broadcast_to(
            jnp.log(jnp.array([q, 1 - q])), (obs.shape[0], 2)
        )
        self.value = jax.jit(lambda rollout: self.access().exact_value(rollout, 1.0))(self.rollout)

    def access(self):
        def value(rollout, sharpness):
            chances = exact.sharpened(self.log_probs, sharpness)
            return exact.along(self.env, chances, rollout.state, gamma=1.0)

        return access(exact_value=value)

    def alone(self, estimator):
        """Mean and summed variance of the gradient of one episode."""
        known = access(exact_value=lambda rollout, sharpness: self.value)
        estimate = ask(estimator, self.rollout, known)
        gradient = self.score * np.asarray(estimate.advantage, float)[:, 0]
        return spread(gradient, self.probability)

    def grouped(self, index):
        """The leave-one-out gradients `[B, P]` of groups, an index `[B, G]` of episodes."""
        rollout = regroup(self.rollout, index)
        estimate = ask(self.free(baselines.leave_one_out), rollout, self.access())
        return (self.score[index] * np.asarray(estimate.advantage, float)).mean(1)

    def groups(self, size):
        """The leave-one-out gradients of all groups of a size, and their probabilities."""
        index = np.array(list(product(range(len(self.probability)), repeat=size)))
        return self.grouped(index), self.probability[index].prod(1)

    def spec(self):
        shape = (1, 1, self.length)
        return Spec(self.env.observation_space, self.env.action_space, shape, whole_episodes=True)

    def oracle(self, advantage):
        return estimators.exact(
            spec=self.spec(), advantage=advantage, lesion=lesions.none(), sharpness=1.0
        )

    def free(self, baseline):
        return estimators.value_free(spec=self.spec(), advantage=outcome_above(baseline))


def outcome_above(baseline):
    return lambda rollout, access: advantages.relative(
        rollout,
        gamma=1.0,
        credit=returns.outcome,
        baseline=baseline,
        scale=scales.unscaled,
    )


def generalised(lambda_):
    return lambda rollout, value: advantages.gae(rollout, value, gamma=1.0, lambda_=lambda_)


def from_start(rollout, value):
    return advantages.above_start(rollout, value, gamma=1.0)


def spread(gradient, probability):
    """Mean, and variance summed over the components, of gradients `[n, P]`."""
    mean = probability @ gradient
    return mean, float(probability @ np.square(gradient).sum(-1) - mean @ mean)


@pytest.fixture(scope="module")
def chain():
    """`(vector's inputs) -> Chain`, each made once."""
    made = {}

    def get(model, length, q):
        if (model, length, q) not in made:
            made[model, length, q] = Chain(model, length, q)
        return made[model, length, q]

    return get


def of(name, chain):
    inputs = GOLDEN[name]["inputs"]
    return chain(inputs["model"], inputs["T"], inputs["q"]), GOLDEN[name]["outputs"]


@pytest.mark.parametrize("name", VARIANCES)
def test_the_exact_values_of_a_chain_are_those_of_the_vector(name, chain):
    chain, want = of(name, chain)
    value = np.asarray(chain.value[:, 0], float)
    assert value[0, 0] == pytest.approx(want["V0"], abs=1e-6)
    left = np.asarray(returns.reward_to_go(chain.rollout, gamma=1.0)[:, 0], float)
    unknown = chain.probability @ np.square(left - value[:, :-1])
    np.testing.assert_allclose(unknown, want["E_Var_R_given_s_t"][:-1], atol=1e-6)


@pytest.mark.parametrize("name", VARIANCES)
def test_gradients_of_all_episodes_have_the_variance_of_the_vector(name, chain):
    chain, want = of(name, chain)
    parts = {
        "none": chain.free(baselines.none),
        "mean_V0": chain.oracle(from_start),
        "state_MC": chain.oracle(generalised(1.0)),
        "td0_oracle": chain.oracle(generalised(0.0)),
        "gae0.95_oracle": chain.oracle(generalised(0.95)),
    }
    for part, estimator in parts.items():
        mean, variance = chain.alone(estimator)
        assert variance == pytest.approx(want[part]["var"], abs=GOLDEN[name]["tol"]), part
        assert mean @ mean == pytest.approx(want[part]["grad_norm2"], abs=GOLDEN[name]["tol"]), part


def group_variances(chain, sizes):
    """The mean of a group's gradient, and `G` times its variance by size, from all pairs.

    The leave-one-out gradient of a group is the mean of those of its pairs (a test below shows it), and so a
    U-statistic, of variance `(4 (G - 2) ζ_1 + 2 ζ_2) / (G (G - 1))` (Hoeffding, 1948).
    """
    pairs, probability = chain.groups(2)
    mean, both = spread(pairs, probability)
    number = len(chain.probability)
    given_one = np.einsum("j,ijp->ip", chain.probability, pairs.reshape(number, number, -1))
    one = spread(given_one, chain.probability)[1]
    return mean, {size: (4 * (size - 2) * one + 2 * both) / (size - 1) for size in sizes}


@pytest.mark.parametrize("name", VARIANCES)
def test_gradients_of_groups_have_the_variance_of_the_vector(name, chain):
    chain, want = of(name, chain)
    mean, variances = group_variances(chain, (2, 4, 8, 16))
    for size, variance in variances.items():
        known = want[f"rloo_G{size}"]
        assert variance == pytest.approx(known["var"], abs=GOLDEN[name]["tol"]), size
        assert mean @ mean == pytest.approx(known["grad_norm2"], abs=GOLDEN[name]["tol"]), size


@pytest.mark.parametrize("name", [n for n in VARIANCES if n.endswith("T4_q0.5")])
def test_gradients_of_all_groups_of_four_have_the_variance_of_the_vector(name, chain):
    # All 65536 groups of four: what the pairs alone predict.
    chain, want = of(name, chain)
    _, variance = spread(*chain.groups(4))
    assert 4 * variance == pytest.approx(want["rloo_G4"]["var"], abs=GOLDEN[name]["tol"])


@pytest.mark.parametrize("size", [3, 16])
def test_the_leave_one_out_gradient_of_a_group_is_the_mean_of_those_of_its_pairs(size, chain):
    chain = chain("lock", 4, 0.5)
    index = np.random.default_rng(0).integers(16, size=(1, size))
    pairs = np.array([(i, j) for i in index[0] for j in index[0]])
    off = ~np.eye(size, dtype=bool).reshape(-1)
    want = chain.grouped(pairs[off]).mean(0)
    np.testing.assert_allclose(chain.grouped(index)[0], want, atol=1e-6)


def closed_form(inputs):
    model, length, q = inputs["model"], inputs["T"], inputs["q"]
    if model == "lock":
        return theory.lock_variance(q, length)
    if model == "additive":
        return theory.additive_variance(q, length)
    return theory.decisive_variance(q, length, int(model[-1]), model[:-1])


@pytest.mark.parametrize("name", VARIANCES)
def test_closed_forms_are_the_enumerated_vectors(name):
    got, want = closed_form(GOLDEN[name]["inputs"]), GOLDEN[name]["outputs"]
    names = {"none": "none", "start": "mean_V0", "state": "state_MC", "td": "td0_oracle"}
    for ours, theirs in names.items():
        # Both are double precision.
        assert got[ours] == pytest.approx(want[theirs]["var"], abs=1e-9), ours


@pytest.mark.parametrize("name", [n for n in VARIANCES if GOLDEN[n]["inputs"]["model"] == "lock"])
def test_closed_forms_of_a_lock_are_the_enumerated_vectors_for_every_group_and_decay(name):
    inputs, want = GOLDEN[name]["inputs"], GOLDEN[name]["outputs"]
    q, length = inputs["q"], inputs["T"]
    decayed = theory.lock_gae_variance(q, length, 0.95)
    assert decayed == pytest.approx(want["gae0.95_oracle"]["var"], abs=1e-9)
    for group in (2, 4, 8, 16):
        got = theory.lock_group_variance(q, length, group)
        assert got == pytest.approx(want[f"rloo_G{group}"]["var"], abs=1e-9), group


@pytest.mark.parametrize("q", [0.3, 0.5, 0.8, 0.95])
def test_the_constant_of_the_closed_form_is_the_best_one(q, chain):
    chain = chain("lock", 4, q)

    def variance(constant):
        return chain.alone(chain.free(lambda sample: jnp.full_like(sample.return_, constant)))[1]

    best = q**4 * (1 - q) / q
    assert variance(best) == pytest.approx(theory.lock_variance(q, 4)["constant"], abs=1e-6)
    assert variance(best) < min(variance(best + 0.1), variance(best - 0.1))


@pytest.mark.parametrize("group", [2, 3, 4, 8, 64])
def test_the_variance_at_two_sizes_of_groups_tells_that_at_every_other(group):
    # c = 0.02, a = 1, b = 0.5 in G c + a + b / (G - 1), written out.
    known = {4: 0.08 + 1.0 + 0.5 / 3, 2: 0.04 + 1.0 + 0.5}
    want = 0.02 * group + 1.0 + 0.5 / (group - 1)
    assert theory.group_variance(group, 0.02, known) == pytest.approx(want, abs=1e-12)


def test_noise_in_a_start_value_adds_its_square_over_the_variance_of_the_return():
    # A success in 2, and one in 10: Var(R) is 0.25 and 0.09.
    assert theory.residual_variance(0.5, 0.5) == pytest.approx(2.0, abs=1e-12)
    assert theory.residual_variance(0.1, 0.3) == pytest.approx(2.0, abs=1e-12)
    assert theory.residual_variance(0.1, 0.6) == pytest.approx(5.0, abs=1e-12)


@pytest.mark.parametrize(("q", "std"), [(0.7, 0.5), (0.4, 0.25)])
@pytest.mark.parametrize("kind", ["start", "state", "td"])
def test_independent_errors_of_a_critic_add_the_predicted_variance(kind, q, std, chain):
    length, chain = 3, chain("lock", 3, q)
    # Every combination of errors of plus and minus one standard deviation; the end is known to be worth 0.
    errors = std * np.array(list(product((-1.0, 1.0), repeat=length)))
    gradients = []
    for error in errors:
        value = chain.value.at[:, 0, :-1].add(jnp.asarray(error))
        if kind == "start":
            left = np.asarray(returns.outcome(chain.rollout, gamma=1.0))[:, 0]
            advantage = left - q**length - error
        else:
            decay = {"state": 1.0, "td": 0.0}[kind]
            advantage = np.asarray(generalised(decay)(chain.rollout, value), float)[:, 0]
            advantage *= np.asarray(chain.rollout.mask)[:, 0]
        gradients.append(chain.score * advantage)
    weight = np.tile(chain.probability, len(errors)) / len(errors)
    _, variance = spread(np.concatenate(gradients), weight)
    clean = theory.lock_variance(q, length)[kind]
    assert variance == pytest.approx(clean * theory.noisy_variance(kind, q, length, std), abs=1e-6)


# T, V_0; variance over that of the V(s_0) baseline: none, best constant, V(s_t), TD.
P3 = """
8 .01 1.007 .999 .892 .162
8 .5 .100 .091 1.34 1.29
32 .001 .998 .998 1.28 .438
32 .1 .441 .437 2.55 2.26
32 .5 .022 .022 1.42 1.41
128 .01 .796 .796 5.09 4.47
128 .5 .005 .005 1.44 1.43
"""


@pytest.mark.parametrize("row", P3.strip().splitlines())
def test_a_perfect_critic_helps_on_long_locks_only_where_steps_are_uncertain(row):
    length, success, *ratios = row.split()
    found = theory.lock_variance(float(success) ** (1 / int(length)), int(length))
    for name, ratio in zip(("none", "constant", "state", "td"), ratios, strict=True):
        half_a_digit = 0.5 * 10.0 ** -len(ratio.split(".")[1])
        assert found[name] / found["start"] == pytest.approx(float(ratio), abs=half_a_digit), name


@pytest.mark.parametrize(
    ("q", "none", "state", "td"), [(0.5, 10, 0.50, 0.0), (0.8, 23, 0.62, 0.24), (0.95, 40, 0.85, 0.71)]
)  # fmt: skip
def test_a_state_value_at_best_halves_the_variance_where_information_comes_evenly(
    q, none, state, td
):
    found = theory.additive_variance(q, 8)
    assert found["none"] / found["start"] == pytest.approx(none, abs=0.5)
    assert found["state"] / found["start"] == pytest.approx(state, abs=0.005)
    assert found["td"] / found["start"] == pytest.approx(td, abs=0.005)


@pytest.mark.parametrize(
    ("where", "q", "state", "td"),
    [
        ("early", 0.5, 0.136, 0.045),
        ("early", 0.8, 0.30, 0.285),
        ("late", 0.5, 0.955, 0.045),
        ("late", 0.8, 1.03, 0.285),
    ],
)
def test_a_state_value_gains_where_the_decisive_steps_come_early(where, q, state, td):
    found = theory.decisive_variance(q, 8, 2, where)
    assert found["state"] / found["start"] == pytest.approx(state, abs=0.005)
    assert found["td"] / found["start"] == pytest.approx(td, abs=0.0005)


@pytest.mark.parametrize("model", ["lock", "additive", "early2", "late2"])
def test_all_but_a_decisive_lock_of_full_length_agree_with_the_lock(model):
    inputs = {"model": model, "T": 2, "q": 0.7}
    if model == "additive":
        # One step pays the same either way.
        inputs["T"] = 1
    want = theory.lock_variance(inputs["q"], inputs["T"])
    got = closed_form(inputs)
    for name in ("none", "start", "state", "td"):
        assert got[name] == pytest.approx(want[name], abs=1e-12), name


class Bandit:
    """One step of two actions, of which one pays 1: all numbers of successes in a group of `G`."""

    def __init__(self, p, size):
        self.p, self.size = p, size
        successes = np.arange(size + 1)
        self.right = (np.arange(size) < successes[:, None]).astype(float)
        self.probability = np.array(
            [comb(size, k) * p**k * (1 - p) ** (size - k) for k in successes]
        )

    def advantage(self, baseline, scale):
        shape = (self.size + 1, self.size, 1)
        rollout = Rollout(
            obs=jnp.zeros((*shape[:2], 2, 1)),
            action=jnp.zeros(shape, jnp.int32),
            log_prob=jnp.zeros(shape),
            reward=jnp.asarray(self.right[..., None], jnp.float32),
            terminated=jnp.ones(shape),
            truncated=jnp.zeros(shape),
            mask=jnp.ones(shape),
            first=jnp.ones(shape),
        )
        return advantages.relative(
            rollout, gamma=1.0, credit=returns.outcome, baseline=baseline, scale=scale
        )

    def expected(self, baseline, scale=scales.unscaled):
        """The expected gradient of the one logit."""
        advantage = np.asarray(self.advantage(baseline, scale)[..., 0], float)
        return self.probability @ (advantage * (self.right - self.p)).mean(1)

    def signal(self, baseline, scale=scales.unscaled):
        """The expected share of groups in which anything is learned."""
        advantage = self.advantage(baseline, scale)
        found = jax.vmap(lambda a: measures.advantages(a[None], jnp.ones_like(a[None])))
        return self.probability @ np.asarray(found(advantage)["signal_fraction"], float)


def over_std(ddof):
    # So small that only a deviation of zero notices.
    return partial(scales.group_std, ddof=ddof, eps=1e-20)


# Advantages are single precision: a few units of 2^-24, relative to the number.
SINGLE = 2e-6


@pytest.mark.parametrize("name", SIGNALS)
def test_groups_without_difference_teach_nothing_and_the_rest_is_weighed_as_predicted(name):
    inputs, want = GOLDEN[name]["inputs"], GOLDEN[name]["outputs"]
    p, size = inputs["p"], inputs["G"]
    bandit = Bandit(p, size)
    true = p * (1 - p)
    centred = bandit.expected(baselines.group_mean) / true
    scaled = bandit.expected(baselines.group_mean, over_std(1)) / true
    assert centred == pytest.approx(want["w_group_mean"], rel=SINGLE)
    assert scaled == pytest.approx(want["w_std_ddof1"], rel=SINGLE)
    assert theory.signal_share(p, size) == pytest.approx(want["p_signal"], abs=1e-9)
    for baseline in (baselines.group_mean, baselines.leave_one_out):
        assert bandit.signal(baseline) == pytest.approx(want["p_signal"], abs=1e-9)
    assert bandit.signal(baselines.group_mean, over_std(1)) == pytest.approx(want["p_signal"])


# G, p; the expected gradient: true, centred, leave-one-out, over the deviation (n), (n - 1), over the mean;
# P(no deviation).
BERNOULLI = [
    (2, 0.1, 0.09, 0.045, 0.09, 0.09, 0.0636396, 0.09, 0.82),
    (2, 0.5, 0.25, 0.125, 0.25, 0.25, 0.176777, 0.25, 0.5),
    (4, 0.1, 0.09, 0.0675, 0.09, 0.152125, 0.131744, 0.2439, 0.6562),
    (4, 0.5, 0.25, 0.1875, 0.25, 0.404006, 0.34988, 0.4375, 0.125),
    (8, 0.01, 0.0099, 0.0086625, 0.0099, 0.0258277, 0.0241596, 0.0672553, 0.922745),
    (8, 0.1, 0.09, 0.07875, 0.09, 0.209492, 0.195962, 0.469533, 0.430467),
    (8, 0.5, 0.25, 0.21875, 0.25, 0.463914, 0.433952, 0.496094, 0.0078125),
    (16, 0.01, 0.0099, 0.00928125, 0.0099, 0.0369566, 0.0357831, 0.138542, 0.851458),
    (16, 0.1, 0.09, 0.084375, 0.09, 0.256303, 0.248164, 0.714698, 0.185302),
    (16, 0.5, 0.25, 0.234375, 0.25, 0.483531, 0.468177, 0.499985, 3.05176e-05),
]


@pytest.mark.parametrize("row", BERNOULLI, ids=lambda row: f"G{row[0]}_p{row[1]}")
def test_expected_gradients_of_a_bernoulli_policy_are_the_tabled_ones(row):
    size, p, *want = row
    bandit = Bandit(p, size)
    got = [
        bandit.expected(baselines.none),
        bandit.expected(baselines.group_mean),
        bandit.expected(baselines.leave_one_out),
        bandit.expected(baselines.group_mean, over_std(0)),
        bandit.expected(baselines.group_mean, over_std(1)),
        bandit.expected(baselines.group_mean, scales.group_mean),
        1.0 - bandit.signal(baselines.group_mean),
    ]
    # Six digits are printed: half a unit of the last one.
    np.testing.assert_allclose(got, want, rtol=5e-6 + SINGLE)


BATCHES = 300
SEEDS = range(8)
AGENTS = ("reinforce", "rloo", "oracle_v0", "oracle_v", "oracle_td")


@pytest.fixture(scope="module")
def lab(build):
    """`{agent: {metric: [seeds]}}` on the shortest lock of the horizon study."""
    settings = ("+study=horizon", "env.length=8", "agent.policy.success=0.5")
    found = {}
    for agent in AGENTS:
        _, learner = build(f"agent={agent}", *settings, f"agent.lab.batches={BATCHES}")
        state = learner.init(jax.random.key(0))
        # Agents see the same episodes under the same key, so that ratios are between paired numbers.
        run = jax.jit(partial(learner.examine, progress=jnp.float32(1.0)))
        runs = [run(state, jax.random.key(seed)) for seed in SEEDS]
        found[agent] = {name: np.array([float(x[name]) for x in runs]) for name in runs[0]}
    return found


def standard_error(x):
    return x.std(ddof=1) / sqrt(len(x))


@pytest.mark.statistical
@pytest.mark.parametrize("agent", AGENTS)
def test_the_lab_finds_no_bias_where_there_is_none(lab, agent):
    bias = lab[agent]["gradient_bias"]
    # The square, of which the part by chance is subtracted, is centred: its root is not.
    square = np.sign(bias) * np.square(bias)
    assert abs(square.mean()) < 4 * standard_error(square)
    assert standard_error(square) < 0.002
    scale = lab[agent]["gradient_scale"]
    assert abs(scale.mean() - 1) < 4 * standard_error(scale)
    # 0.002 to 0.008.
    assert standard_error(scale) < 0.015


@pytest.mark.statistical
def test_the_lab_finds_the_variances_of_the_theory(lab, chain):
    q = 0.5 ** (1 / 8)
    want = theory.lock_variance(q, 8)
    want["group"] = group_variances(chain("lock", 8, q), [8])[1][8]
    names = {
        "reinforce": "none",
        "rloo": "group",
        "oracle_v0": "start",
        "oracle_v": "state",
        "oracle_td": "td",
    }
    for agent, name in names.items():
        found = lab[agent]["gradient_variance"]
        # The table has two logits in each step, with opposite scores.
        assert abs(found.mean() - 2 * want[name]) < 4 * standard_error(found), agent
        assert standard_error(found) < 0.05 * found.mean(), agent
    for agent in ("oracle_v", "oracle_td"):
        ratio = lab[agent]["gradient_variance"] / lab["oracle_v0"]["gradient_variance"]
        known = want[names[agent]] / want["start"]
        assert abs(ratio.mean() - known) < 4 * standard_error(ratio), agent
        assert standard_error(ratio) < 0.03


@pytest.mark.statistical
def test_the_lab_counts_returns_scores_and_groups_with_a_signal_as_predicted(lab):
    q = 0.5 ** (1 / 8)
    # With the largest standard error that is allowed, some twice that of these seeds.
    predicted = {
        "lab_return": (0.5, 0.007),
        "score_square": (2 * 8 * q * (1 - q), 0.01),
        "signal_share": (theory.signal_share(0.5, 8), 0.005),
    }
    for name, (number, most) in predicted.items():
        found = lab["rloo"][name]
        assert abs(found.mean() - number) < 4 * standard_error(found) + 1e-6, name
        assert standard_error(found) < most, name
    norm = lab["rloo"]["gradient_norm"]
    np.testing.assert_allclose(norm, sqrt(2 * 8) * (1 - q) * 0.5, rtol=1e-5)
