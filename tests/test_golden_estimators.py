"""Returns, advantages, losses and heads against vectors of other libraries' own code, and naive loops."""

import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers import GOLDEN, access, ask
from vfcompare import (
    advantages,
    aggregates,
    baselines,
    estimators,
    lesions,
    masked,
    returns,
    scales,
    scaling,
    surrogates,
    targets,
)
from vfcompare.agents import policies, value_heads
from vfcompare.masked import explained_variance
from vfcompare.types import Rollout, Spec
from vfcompare.valuation import Critic


def rollout(reward, mask=None, terminated=None, truncated=None):
    """A batch of episodes `[B, G, T]`; each ends by termination at its last step unless told otherwise."""
    reward = jnp.asarray(reward, jnp.float32)
    mask = jnp.ones_like(reward) if mask is None else jnp.asarray(mask, jnp.float32)
    if terminated is None:
        following = jnp.concatenate([mask[..., 1:], jnp.zeros_like(mask[..., :1])], -1)
        terminated = mask * (1 - following)
    shape = reward.shape
    return Rollout(
        obs=jnp.zeros((*shape[:2], shape[2] + 1, 1)),
        action=jnp.zeros(shape, jnp.int32),
        log_prob=jnp.zeros(shape),
        reward=reward * mask,
        terminated=jnp.asarray(terminated, jnp.float32),
        truncated=jnp.zeros(shape) if truncated is None else jnp.asarray(truncated, jnp.float32),
        mask=mask,
        first=jnp.zeros(shape).at[..., 0].set(1),
    )


def outcomes(rewards, mask):
    """One group of episodes that are paid at their end."""
    mask = np.asarray(mask, float)
    reward = np.zeros(mask.shape)
    for row, (value, length) in enumerate(zip(rewards, mask.sum(-1).astype(int), strict=True)):
        reward[row, length - 1] = value
    return rollout(reward[None], mask[None])


def check(vector, got, want, mask=None):
    mask = np.ones(np.shape(want)) if mask is None else np.asarray(mask, float)
    # Vectors were made in double precision; ours are single.
    np.testing.assert_allclose(
        np.asarray(got) * mask, np.asarray(want) * mask, atol=max(vector["tol"], 2e-6)
    )


def grouped(vector, baseline, scale):
    """Our advantages of a vector whose samples name their group, group by group."""
    inputs = vector["inputs"]
    mask = np.asarray(inputs.get("mask") or np.ones((len(inputs["rewards"]), 1)))
    index = np.asarray(inputs.get("group_index") or np.zeros(len(mask)))
    rewards = np.asarray(inputs["rewards"], float)
    out = np.zeros(mask.shape)
    for group in np.unique(index):
        rows = index == group
        found = advantages.relative(
            outcomes(rewards[rows], mask[rows]),
            gamma=1.0,
            credit=returns.outcome,
            baseline=baseline,
            scale=scale,
        )
        out[rows] = found[0]
    return out, mask


def std(vector):
    inputs = vector["inputs"]
    return partial(scales.group_std, ddof=inputs["ddof"], eps=inputs["eps"])


@pytest.mark.parametrize("name", [n for n in GOLDEN if n.startswith("grpo_verl")])
def test_group_mean_over_group_std_is_verl_grpo(name):
    vector = GOLDEN[name]
    got, mask = grouped(vector, baselines.group_mean, std(vector))
    check(vector, got, vector["outputs"]["advantages"], mask)


@pytest.mark.parametrize("name", [n for n in GOLDEN if n.startswith("grpo_trl")])
def test_group_mean_over_group_std_is_trl_grpo(name):
    vector = GOLDEN[name]
    inputs = vector["inputs"]
    size = inputs["num_generations"]
    scale = std(vector) if inputs["scale_rewards"] == "group" else scales.unscaled
    vector["inputs"]["group_index"] = list(np.arange(len(inputs["rewards"])) // size)
    got, _ = grouped(vector, baselines.group_mean, scale)
    check(vector, got[:, 0], vector["outputs"]["advantages"])


@pytest.mark.parametrize("name", ["rloo_verl_1001", "rloo_verl_continuous"])
def test_leave_one_out_is_verl_rloo(name):
    vector = GOLDEN[name]
    got, mask = grouped(vector, baselines.leave_one_out, scales.unscaled)
    check(vector, got, vector["outputs"]["advantages"], mask)


def test_leave_one_out_of_one_follows_verl_vectorized_and_trl():
    vector = GOLDEN["rloo_verl_singleton"]
    got, mask = grouped(vector, baselines.leave_one_out, scales.unscaled)
    check(vector, got, vector["outputs"]["advantages_vectorized"], mask)
    trl = GOLDEN["rloo_trl_singleton"]
    check(trl, got[:, 0], trl["outputs"]["advantages"])


@pytest.mark.parametrize("name", ["rloo_trl_1001", "rloo_trl_nan"])
def test_leave_one_out_is_trl_rloo_also_where_a_reward_is_not_a_number(name):
    vector = GOLDEN[name]
    got, _ = grouped(vector, baselines.leave_one_out, scales.unscaled)
    check(vector, got[:, 0], vector["outputs"]["advantages"])


def test_group_mean_is_openrlhf_dr_grpo():
    vector = GOLDEN["openrlhf_dr_grpo_1001"]
    got, mask = grouped(vector, baselines.group_mean, scales.unscaled)
    check(vector, got, vector["outputs"]["advantages"], mask)


def test_second_best_over_group_std_is_verl_pass_at_k():
    vector = GOLDEN["grpo_passk_verl"]
    # The vector does not name its numbers: they are those of verl's other group estimators.
    scale = partial(scales.group_std, ddof=1, eps=1e-6)
    got, mask = grouped(vector, baselines.second_best, scale)
    check(vector, got, vector["outputs"]["advantages"], mask)


def test_length_weighted_is_verl_opo():
    vector = GOLDEN["opo_verl_length_weighted"]
    got, mask = grouped(vector, baselines.length_weighted, scales.unscaled)
    check(vector, got, vector["outputs"]["advantages"], mask)


def test_group_mean_over_paid_share_is_verl_gpg():
    vector = GOLDEN["gpg_verl"]
    # One group is the whole batch here, over which the share is taken.
    got, mask = grouped(vector, baselines.group_mean, scales.paid_share)
    check(vector, got, vector["outputs"]["advantages"], mask)


def test_two_rewards_normalised_apart_then_summed_and_whitened_are_trl_gdpo():
    # No preset has two reward functions: composed here are `relative` over `group_std` of each of them,
    # their weighted sum, and `relative` over `episode_whitened` with that sum as credit.
    vector = GOLDEN["gdpo_trl_normalize_then_sum"]
    inputs = vector["inputs"]
    one_step = np.ones((4, 1))
    batches = [outcomes(rewards, one_step) for rewards in np.asarray(inputs["rewards"]).T]
    apart = [
        advantages.relative(
            batch,
            gamma=1.0,
            credit=returns.outcome,
            baseline=baselines.group_mean,
            scale=std(vector),
        )
        for batch in batches
    ]
    total = sum(weight * each for weight, each in zip(inputs["weights"], apart, strict=True))
    got = advantages.relative(
        batches[0],
        gamma=1.0,
        credit=lambda rollout, gamma: total,
        baseline=baselines.none,
        scale=partial(scales.episode_whitened, ddof=inputs["ddof"], eps=inputs["eps"]),
    )
    check(vector, got[0, :, 0], vector["outputs"]["advantages"])


def reinforce_pp(batch, *, gamma, baseline=baselines.none, ddof, eps):
    return advantages.relative(
        batch,
        gamma=gamma,
        credit=returns.reward_to_go,
        baseline=baseline,
        scale=partial(scales.step_whitened, ddof=ddof, eps_of_variance=eps),
    )


def test_whitened_rewards_to_go_are_verl_reinforce_plus_plus():
    vector = GOLDEN["reinforce_pp_verl_g1"]
    inputs = vector["inputs"]
    mask = np.asarray(inputs["mask"])
    batch = rollout(np.asarray(inputs["token_rewards"])[:, None], mask[:, None])
    got = reinforce_pp(batch, gamma=inputs["gamma"], ddof=1, eps=1e-8)
    check(vector, got[:, 0], vector["outputs"]["advantages"], mask)
    to_go = returns.reward_to_go(batch, gamma=inputs["gamma"])
    check(vector, to_go[:, 0], vector["outputs"]["returns"], mask)


def test_whitened_rewards_to_go_are_verl_reinforce_plus_plus_once_a_gap_is_closed():
    # verl discounts nothing across tokens of a tool. Our rollouts have no such rows within an episode, so the
    # steps of the policy stand side by side here, which is the same sum.
    vector = GOLDEN["reinforce_pp_verl_tool_gap"]
    inputs, outputs = vector["inputs"], vector["outputs"]
    taken = np.asarray(inputs["mask"]) > 0

    def close(x):
        return np.asarray(x)[taken].reshape(2, 3)

    batch = rollout(close(inputs["token_rewards"])[:, None])
    got = reinforce_pp(batch, gamma=inputs["gamma"], ddof=1, eps=1e-8)
    check(vector, got[:, 0], close(outputs["advantages"]))
    to_go = returns.reward_to_go(batch, gamma=inputs["gamma"])
    check(vector, to_go[:, 0], close(outputs["returns"]))


@pytest.mark.parametrize(
    ("name", "baseline"),
    [
        ("openrlhf_reinforce_1001", baselines.none),
        ("openrlhf_reinforce_baseline_1001", baselines.group_mean),
    ],
)
def test_whitened_rewards_to_go_are_openrlhf_reinforce_plus_plus(name, baseline):
    vector = GOLDEN[name]
    inputs = vector["inputs"]
    batch = outcomes(inputs["rewards"], inputs["mask"])
    # Its variance is held above 1e-8 where ours has a number added: neither is felt here. It leaves numbers
    # where nothing was done, which are not compared.
    got = reinforce_pp(batch, gamma=inputs["gamma"], baseline=baseline, ddof=0, eps=0.0)
    check(vector, got[0], vector["outputs"]["advantages"], inputs["mask"])


def test_whitened_gae_is_openrlhf_gae():
    vector = GOLDEN["openrlhf_gae_g1_l0p95"]
    inputs = vector["inputs"]
    options = {"gamma": inputs["gamma"], "lambda_": inputs["lam"]}
    batch = outcomes(inputs["rewards"], inputs["mask"])
    value = jnp.asarray(np.concatenate([inputs["values"], np.full((4, 1), 9.0)], -1))[None]
    got = advantages.whitened_gae(batch, value, ddof=0, eps=0.0, **options)
    check(vector, got[0], vector["outputs"]["advantages"], inputs["mask"])
    target = targets.lambda_return(batch, value, **options)
    check(vector, target[0], vector["outputs"]["returns"], inputs["mask"])


def spec(batch):
    return Spec(
        gymnasium.spaces.Box(0, 1, (1,)), gymnasium.spaces.Discrete(2), batch, whole_episodes=True
    )


def test_return_above_that_of_greedy_episodes_is_verl_remax():
    vector = GOLDEN["remax_verl"]
    inputs = vector["inputs"]
    episodes = outcomes(inputs["rewards"], inputs["mask"])
    lanes, rows = episodes.mask.shape[1:]
    # A state is the number of its episode, and of its row behind the point.
    state = jnp.arange(lanes)[None, :, None] + jnp.arange(rows + 1) / 10
    greedy = rollout(np.asarray(inputs["greedy_baselines"])[:, None, None])

    def simulate(states, key, *, greedy_episodes=greedy, **options):
        assert options == {"greedy": True}
        np.testing.assert_array_equal(states, np.arange(lanes))
        return greedy_episodes

    estimator = estimators.greedy(
        spec=spec((1, lanes, rows)),
        gamma=1.0,
        credit=returns.outcome,
        scale=scales.unscaled,
    )
    got = ask(estimator, episodes.replace(state=state), access(simulate=simulate))
    check(vector, got.advantage[0], vector["outputs"]["advantages"], inputs["mask"])
    assert got.charge.steps == got.charge.episodes == lanes


def test_optimal_token_is_verl_optimal_token_baseline():
    vector = GOLDEN["otb_verl"]
    inputs = vector["inputs"]
    episodes = outcomes(inputs["rewards"], inputs["mask"])
    taken, total = np.exp(inputs["old_log_probs"]), np.asarray(inputs["sum_pi_squared"])
    score = jnp.asarray(1 - 2 * taken + total)[None]
    got = advantages.relative(
        episodes,
        access(squared_score=lambda rollout: score),
        gamma=1.0,
        credit=returns.reward_to_go,
        baseline=partial(baselines.optimal_token, eps=inputs["eps"]),
        scale=scales.unscaled,
    )
    check(vector, got[0], vector["outputs"]["advantages"], inputs["mask"])
    to_go = returns.reward_to_go(episodes, gamma=1.0)
    check(vector, to_go[0], vector["outputs"]["returns"], inputs["mask"])


@pytest.mark.parametrize(
    ("scale", "output"),
    [
        (scales.unscaled, "adv_raw"),
        (partial(scales.episode_whitened, ddof=1, eps=1e-8), "adv_normalised"),
    ],
)
def test_tracked_is_a_step_of_spo(scale, output):
    # Which prompts SPO asks next, `prompt_weight`, is no part of an estimator.
    vector = GOLDEN["spo_tracker_step"]
    inputs, outputs = vector["inputs"], vector["outputs"]
    episodes = rollout(np.asarray(inputs["rewards"])[:, None, None])
    first = jnp.arange(4.0)[:, None, None, None]
    episodes = episodes.replace(obs=jnp.broadcast_to(first, episodes.obs.shape))
    slots = 64
    slot = np.asarray(baselines.fingerprint(first[:, 0, 0]) % slots)
    assert len(set(slot)) == 4
    alpha, beta = np.asarray(inputs["alpha"]), np.asarray(inputs["beta"])
    low, high = inputs["rho_clip"]
    estimator = estimators.tracked(
        spec=spec((4, 1, 1)),
        gamma=1.0,
        credit=returns.outcome,
        scale=scale,
        slots=slots,
        prior_mean=0.5,
        prior_count=8.0,
        half=inputs["D_half"],
        keep_low=low,
        keep_high=high,
    )
    blank = estimator.init({})
    memory = estimators.Tracker(
        total=blank.total.at[slot].set(alpha),
        number=blank.number.at[slot].set(alpha + beta),
        moved=blank.moved.at[slot].set(jnp.asarray(inputs["D"])),
    )
    got = estimator.estimate(memory, {}, episodes, access(), jax.random.key(0))
    check(vector, got.advantage[:, 0, 0], outputs[output])
    check(vector, got.memory.total[slot], outputs["alpha_new"])
    check(vector, (got.memory.number - got.memory.total)[slot], outputs["beta_new"])
    check(vector, (got.memory.number[slot] - 1) / (alpha + beta), outputs["rho"])
    if output == "adv_raw":
        check(vector, episodes.reward[:, 0, 0] - got.advantage[:, 0, 0], outputs["p_hat"])
    # Nothing is forgotten of prompts that were not met; of those that were, the way is counted anew.
    others = np.setdiff1d(np.arange(slots), slot)
    assert (got.memory.total[others] == blank.total[others]).all()
    assert (got.memory.moved[slot] == 0).all()


@pytest.mark.parametrize("name", [n for n in GOLDEN if n.startswith("gae_rlax")])
def test_gae_is_rlax_gae(name):
    vector = GOLDEN[name]
    inputs = vector["inputs"]
    discount = np.asarray(inputs["discounts"])
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    value = jnp.asarray([[inputs["values_0_to_T"]]])
    got = advantages.gae(batch, value, gamma=0.99, lambda_=inputs["lam"])
    check(vector, got[0, 0], vector["outputs"]["advantages"])
    target = targets.lambda_return(batch, value, gamma=0.99, lambda_=inputs["lam"])
    check(vector, target[0, 0], vector["outputs"]["returns"])


@pytest.mark.parametrize("name", [n for n in GOLDEN if n.startswith("lambda_return_rlax")])
def test_lambda_return_is_rlax_lambda_return(name):
    vector = GOLDEN[name]
    inputs = vector["inputs"]
    discount = np.asarray(inputs["discounts"])
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    # A λ-return does not depend on V(s_0).
    value = jnp.asarray([[[0.7, *inputs["v_1_to_T"]]]])
    got = targets.lambda_return(batch, value, gamma=0.99, lambda_=inputs["lam"])
    check(vector, got[0, 0], vector["outputs"]["returns"])


def test_n_step_is_rlax_n_step():
    vector = GOLDEN["nstep_rlax_n2"]
    inputs = vector["inputs"]
    discount = np.asarray(inputs["discounts"])
    gamma = float(discount.max())
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    values = inputs.get("v_1_to_T") or inputs["v_t"]
    value = jnp.asarray([[[0.7, *values]]])
    got = advantages.n_step(batch, value, gamma=gamma, n=inputs["n"]) + value[..., :-1]
    (want,) = vector["outputs"].values()
    check(vector, got[0, 0], want)


@pytest.mark.parametrize("name", ["gae_sb3_no_done", "gae_sb3_term_mid"])
def test_gae_is_sb3_gae(name):
    vector = GOLDEN[name]
    inputs = vector["inputs"]
    starts = [*inputs["episode_starts"][1:], int(inputs["last_done"])]
    batch = rollout([[inputs["rewards"]]], terminated=[[starts]])
    value = jnp.asarray([[[*inputs["values"], inputs["last_value"]]]])
    got = advantages.gae(batch, value, gamma=inputs["gamma"], lambda_=inputs["lam"])
    check(vector, got[0, 0], vector["outputs"]["advantages"])


def test_truncation_bootstraps_from_the_final_observation_through_its_boundary_row():
    vector = GOLDEN["gae_truncation_mid_cross_check"]
    inputs = vector["inputs"]
    # The boundary row after step 1 holds V(final observation) = 0.7 and no step.
    r, v = inputs["rewards"], inputs["v_tm1"]
    batch = rollout(
        [[[r[0], r[1], 99.0, r[2], r[3]]]],
        mask=[[[1, 1, 0, 1, 1]]],
        terminated=[[[0, 0, 0, 0, 0]]],
        truncated=[[[0, 1, 0, 0, 0]]],
    )
    value = jnp.asarray([[[v[0], v[1], inputs["v_t"][1], v[2], v[3], inputs["v_t"][3]]]])
    got = advantages.gae(batch, value, gamma=inputs["gamma"], lambda_=inputs["lam"])[0, 0]
    check(vector, got[jnp.array([0, 1, 3, 4])], vector["outputs"]["advantages"])
    assert got[2] == 0


def test_padding_full_of_garbage_does_not_leak_into_gae():
    vector = GOLDEN["gae_verl_tokens_g1_l095"]
    inputs = vector["inputs"]
    mask = np.asarray(inputs["mask"])
    batch = rollout(np.asarray(inputs["token_rewards"])[:, None], mask[:, None])
    value = np.concatenate([inputs["values"], np.full((2, 1), 9.0)], -1)[:, None]
    got = advantages.gae(batch, jnp.asarray(value), gamma=1.0, lambda_=inputs["lam"])
    check(vector, got[:, 0], vector["outputs"]["advantages_raw"], mask)
    whitened = masked.whitened(got, batch.mask, ddof=1, eps=0.0)
    check(vector, whitened[:, 0], vector["outputs"]["advantages_whitened"], mask)


def test_whitening_is_verl_whitening_on_taken_steps():
    vector = GOLDEN["masked_whiten_verl"]
    mask = jnp.asarray(vector["inputs"]["mask"])[:, None]
    values = jnp.asarray(vector["inputs"]["values"])[:, None]
    got = masked.whitened(values, mask, ddof=1, eps=0.0)
    check(vector, got[:, 0], vector["outputs"]["whitened"], mask[:, 0])
    assert (got * (1 - mask) == 0).all()


def test_steps_of_vine_are_one_step_advantages():
    vector = GOLDEN["vineppo_success_k9"]
    reward = vector["inputs"]["step_rewards"]
    # VinePPO does not sample the last state: its value is the reward, so that its advantage is zero.
    value = [*vector["inputs"]["mc_values"][:3], reward[-1], 0.0]
    got = advantages.gae(rollout([[reward]]), jnp.asarray([[value]]), gamma=1.0, lambda_=0.0)
    check(vector, got[0, 0], vector["outputs"]["step_advantages"])


def test_gae_is_rlax_td_lambda():
    vector = GOLDEN["td_lambda_rlax"]
    batch, value, gamma = fragment(vector["inputs"])
    got = advantages.gae(batch, value, gamma=gamma, lambda_=vector["inputs"]["lam"])
    check(vector, got[0, 0], vector["outputs"]["td_errors"])


def test_lambda_return_with_lambda_1_is_rlax_discounted_return():
    vector = GOLDEN["discounted_returns_rlax"]
    # The value of the first state is not part of a return.
    inputs = vector["inputs"] | {"v_tm1": [0.7, *vector["inputs"]["v_t"][:-1]]}
    batch, value, gamma = fragment(inputs)
    got = targets.lambda_return(batch, value, gamma=gamma, lambda_=1.0)
    check(vector, got[0, 0], vector["outputs"]["returns"])


def fragment(inputs):
    """One row of steps that goes on beyond its end, with its values and the discount."""
    assert inputs["v_tm1"][1:] == inputs["v_t"][:-1]
    discount = np.asarray(inputs["discounts"])
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    return batch, jnp.asarray([[[*inputs["v_tm1"], inputs["v_t"][-1]]]]), float(discount.max())


@pytest.mark.parametrize(
    "name",
    ["vtrace_rlax_offpolicy", "vtrace_rlax_terminal_end", "vtrace_rlax_lambda0p9_clip2"],
)
def test_vtrace_is_rlax_vtrace(name):
    vector = GOLDEN[name]
    inputs, outputs = vector["inputs"], vector["outputs"]
    batch, value, gamma = fragment(inputs)
    advantage, target = advantages.vtrace(
        batch,
        value,
        jnp.asarray([[inputs["rhos"]]]),
        gamma=gamma,
        lambda_=inputs["lam"],
        clip=inputs["clip_rho"],
        clip_advantage=inputs["clip_pg_rho"],
    )
    check(vector, advantage[0, 0], outputs["pg_advantage"])
    check(vector, target[0, 0], outputs["targets"])
    check(vector, (target - value[..., :-1])[0, 0], outputs["errors"])


def test_vtrace_that_leaks_is_rlax_leaky_vtrace():
    vector = GOLDEN["leaky_vtrace_rlax_a0p5"]
    inputs = vector["inputs"]
    batch, value, gamma = fragment(inputs)
    _, target = advantages.vtrace(
        batch,
        value,
        jnp.asarray([[inputs["rhos"]]]),
        gamma=gamma,
        lambda_=1.0,
        clip=1.0,
        clip_advantage=1.0,
        leak=1.0 - inputs["alpha"],
    )
    check(vector, (target - value[..., :-1])[0, 0], vector["outputs"]["errors"])


def test_vtrace_does_not_fall_into_the_trap_of_truncation():
    vector = GOLDEN["vtrace_rlax_truncation_trap"]
    inputs, outputs = vector["inputs"], vector["outputs"]
    r, v, final = inputs["rewards"], inputs["v_tm1"], inputs["v_t"]
    # The boundary row after step 1 holds V(final observation) = 0.7 and no step.
    batch = rollout(
        [[[r[0], r[1], 99.0, r[2], r[3]]]],
        mask=[[[1, 1, 0, 1, 1]]],
        terminated=[[[0, 0, 0, 0, 0]]],
        truncated=[[[0, 1, 0, 0, 0]]],
    )
    value = jnp.asarray([[[v[0], v[1], final[1], v[2], v[3], final[3]]]])
    advantage, target = advantages.vtrace(
        batch,
        value,
        jnp.ones_like(batch.reward),
        gamma=0.99,
        lambda_=inputs["lambda_t"][0],
        clip=1.0,
        clip_advantage=1.0,
    )
    taken = jnp.array([0, 1, 3, 4])
    # With the same policy both are GAE, so rlax's errors are also the right advantages; its own advantage at
    # the truncated step is -0.103, from the state after the reset.
    check(vector, advantage[0, 0, taken], outputs["errors"])
    check(vector, (target - value[..., :-1])[0, 0, taken], outputs["errors"])
    assert float(advantage[0, 0, 1]) == pytest.approx(0.293, abs=1e-6)
    apart = np.abs(np.subtract(outputs["pg_advantage"], outputs["errors"])) > 0.1
    assert apart.tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ["vapo_length_adaptive_lambda", "sao_length_adaptive_lambda_a1.5"])
def test_lambda_adapts_to_the_length_and_is_never_negative(name):
    vector = GOLDEN[name]
    lengths = np.asarray(vector["inputs"]["lengths"])
    (want,) = vector["outputs"].values()
    mask = np.arange(lengths.max()) < lengths[:, None]
    episodes = outcomes(np.ones(len(lengths)), mask)
    value = jnp.zeros((*episodes.mask.shape[:2], lengths.max() + 1))
    got = np.asarray(
        advantages.length_adaptive_gae(episodes, value, gamma=1.0, alpha=vector["inputs"]["alpha"])[
            0
        ]
    )
    rows = np.arange(len(lengths))
    check(vector, got[rows, lengths - 1], np.ones(len(lengths)))
    # Values are zero and the last reward is one: the advantage a step earlier is λ. An episode of one step
    # has none.
    longer = lengths > 1
    assert longer.sum() >= len(lengths) - 1
    check(
        vector,
        got[rows, lengths - 2][longer],
        np.maximum(want, 0.0)[longer],
    )


def said(value):
    """A critic that says the given values, and learns nothing."""
    return lambda *, spec: Critic(
        init=lambda key, networks, obs: (),
        value=lambda networks, rollout: value,
        loss=lambda networks, rows: jnp.zeros(()),
        optimizer=optax.with_extra_args_support(optax.identity()),
        recurrent=False,
        scaling=scaling.unscaled(),
        lesion=lesions.none(),
    )


def test_advantage_and_target_of_different_lambda_are_vc_ppo():
    vector = GOLDEN["vcppo_decoupled_gae"]
    inputs = vector["inputs"]
    episodes = rollout(np.asarray(inputs["token_rewards"])[None])
    # Nothing follows the end: what the critic says there must not matter.
    value = jnp.asarray([[[*inputs["values"][0], 9.0]]])
    estimator = estimators.value_based(
        spec=spec(episodes.mask.shape),
        advantage=partial(advantages.gae, gamma=inputs["gamma"], lambda_=inputs["lam_actor"]),
        target=partial(targets.lambda_return, gamma=inputs["gamma"], lambda_=inputs["lam_critic"]),
        critic=said(value),
    )
    got = ask(estimator, episodes, networks={"critic": ()})
    check(vector, got.advantage[0], vector["outputs"]["actor_advantages"])
    check(vector, got.lesson.target[0], vector["outputs"]["critic_returns"])


def learned_towards(head, target):
    """What a head's cross-entropy pulls its probabilities to: they minus its gradient."""
    target = jnp.asarray(target, jnp.float32)
    outputs = jnp.zeros((*target.shape, head.outputs))
    gradient = jax.grad(lambda x: head.loss(x, target, jnp.zeros_like(target)).sum())(outputs)
    return jax.nn.softmax(outputs) - gradient


def test_the_projection_of_a_distribution_is_rlax_projection_of_its_atoms():
    vector = GOLDEN["categorical_projection_rlax"]
    inputs = vector["inputs"]
    # Ours is of single returns; that of a distribution is their mean.
    each = value_heads.onto(jnp.asarray(inputs["z_q"]), jnp.asarray(inputs["z_p"]))
    check(vector, jnp.asarray(inputs["probs"]) @ each, vector["outputs"]["projected"])


def test_the_categorical_head_learns_rlax_two_hot_probabilities():
    vector = GOLDEN["twohot_rlax"]
    inputs = vector["inputs"]
    head = value_heads.categorical(bins=inputs["bins"], low=inputs["min"], high=inputs["max"])
    # rlax adds 1e-5 to the width of 0.5 that it divides by: up to 2e-5 of a probability.
    want = np.asarray(vector["outputs"]["probs"])
    np.testing.assert_allclose(learned_towards(head, inputs["scalars"]), want, atol=2e-5)


def test_two_hot_is_over_rlax_signed_hyperbolic():
    vector = GOLDEN["signed_hyperbolic_rlax"]
    x, h = np.asarray(vector["inputs"]["x"]), np.asarray(vector["outputs"]["h"])
    # Of two bins, the weight of the upper one says how far along the squeezed support a value lies.
    head = value_heads.two_hot(bins=2, low=x[0], high=x[-1])
    upper = np.asarray(learned_towards(head, x))[:, 1]
    np.testing.assert_allclose(h[0] + upper * (h[-1] - h[0]), h, atol=1e-5)
    # The inverse divides by 2e-3 what single precision knows to 1e-7 of about one, and squares it.
    decoded = head.decode(jnp.log(jnp.stack([1 - upper, upper], -1)))
    np.testing.assert_allclose(decoded, vector["outputs"]["inv"], rtol=1e-4, atol=5e-4)


def test_the_quantile_loss_is_rlax_quantile_huber_loss():
    vector = GOLDEN["quantile_huber_rlax"]
    inputs = vector["inputs"]
    head = value_heads.quantile(quantiles=3, huber=inputs["huber"])
    target = jnp.asarray(inputs["dist_target"])
    outputs = jnp.broadcast_to(jnp.asarray(inputs["dist_src"]), (3, 3))
    # Ours is of single returns; that of a distribution is their mean.
    check(vector, head.loss(outputs, target, target).mean(), vector["outputs"]["loss"])


def test_hl_gauss_learns_the_histogram_of_hl_gauss_pytorch():
    vector = GOLDEN["hl_gauss_probs_ratio0p75"]
    inputs, outputs = vector["inputs"], vector["outputs"]
    head = value_heads.hl_gauss(
        bins=inputs["bins"],
        low=inputs["min"],
        high=inputs["max"],
        sigma=inputs["sigma_to_bin_ratio"],
    )
    check(vector, learned_towards(head, inputs["targets"]), outputs["probs"])
    decoded = head.decode(jnp.log(jnp.asarray(outputs["probs"])))
    check(vector, decoded, outputs["decoded"])


def test_hl_gauss_has_the_bias_and_the_entropy_of_hl_gauss_pytorch_at_the_edge():
    vector = GOLDEN["hl_gauss_outcome_support_0.0_1.0"]
    inputs, outputs = vector["inputs"], vector["outputs"]
    head = value_heads.hl_gauss(
        bins=inputs["bins"],
        low=inputs["min"],
        high=inputs["max"],
        sigma=inputs["sigma_to_bin_ratio"],
    )
    target = jnp.asarray(inputs["targets"])
    learned = jnp.log(jnp.maximum(learned_towards(head, target), 1e-30))
    check(vector, head.decode(learned), outputs["decoded"])
    check(vector, head.loss(learned, target, target), outputs["entropy_floor"])


def test_the_clipped_value_loss_is_that_of_verl():
    vector = GOLDEN["value_loss_clipped_verl"]
    inputs = vector["inputs"]
    value, target, old, mask = (
        jnp.asarray(inputs[k], jnp.float32) for k in ("vpreds", "returns", "old_values", "mask")
    )
    loss = value_heads.scalar(clip=inputs["clip"]).loss(value[..., None], target, old)
    check(vector, (aggregates.steps(mask) * loss).sum(), vector["outputs"]["loss"])
    plain = value_heads.scalar(clip=None).loss(value[..., None], target, old)
    share = (aggregates.steps(mask) * (loss > plain)).sum()
    check(vector, share, vector["outputs"]["clipfrac"])


def test_the_policy_gradient_is_rlax_policy_gradient():
    vector = GOLDEN["pg_loss_rlax"]
    inputs = vector["inputs"]
    family = policies.categorical(gymnasium.spaces.Discrete(3))
    log_prob = family.log_prob(jnp.asarray(inputs["logits"]), jnp.asarray(inputs["actions"]))
    mask = jnp.asarray(inputs["w"])
    loss = surrogates.policy_gradient(log_prob, log_prob, jnp.asarray(inputs["adv"]), mask)
    # rlax divides by all steps, also those of no weight: sums over the padded length.
    weights = aggregates.constant(mask[None, None])[0, 0]
    check(vector, (weights * loss).sum(), vector["outputs"]["loss"])


def test_the_entropy_is_rlax_entropy():
    vector = GOLDEN["entropy_loss_rlax"]
    assert set(vector["inputs"]["w"]) == {1.0}
    family = policies.categorical(gymnasium.spaces.Discrete(3))
    entropy = family.entropy(jnp.asarray(vector["inputs"]["logits"]))
    check(vector, -entropy.mean(), vector["outputs"]["loss"])


def loss_and_gradient(vector, aggregate, surrogate):
    inputs = vector["inputs"]
    mask = jnp.asarray(inputs["mask"], jnp.float32)[None]
    advantage = jnp.asarray(inputs["advantages"])[None]
    if advantage.ndim == 2:
        advantage = jnp.broadcast_to(advantage[..., None], mask.shape)
    old = jnp.asarray(inputs["old_log_prob"])[None]

    def loss(log_prob):
        return (aggregate(mask) * surrogate(log_prob, old, advantage, mask)).sum()

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(inputs["log_prob"])[None])
    return value, gradient[0]


AVERAGES = {
    "token-mean": aggregates.steps,
    "seq-mean-token-mean": aggregates.episodes,
    "seq-mean-token-sum-norm": aggregates.constant,
    "seq-mean-token-sum": lambda mask: aggregates.constant(mask, length=1.0),
}


@pytest.mark.parametrize("mode", AVERAGES)
def test_averages_are_verl_averages(mode):
    vector = GOLDEN["agg_loss_verl_all_modes"]
    mask = jnp.asarray(vector["inputs"]["mask"], jnp.float32)[None]
    weights = AVERAGES[mode](mask)
    check(vector, (weights * jnp.asarray(vector["inputs"]["loss"])).sum(), vector["outputs"][mode])


def test_clipping_is_rlax_clipping():
    vector = GOLDEN["clipped_surrogate_rlax"]
    inputs = vector["inputs"]
    log_prob = jnp.log(jnp.asarray(inputs["ratios"]))
    loss = surrogates.clipped(
        log_prob,
        jnp.zeros(4),
        jnp.asarray(inputs["adv"]),
        jnp.ones(4),
        epsilon=inputs["eps"],
        epsilon_high=None,
    )
    check(vector, loss.mean(), vector["outputs"]["loss"])


def ppo(**options):
    options = {"epsilon": 0.2, "epsilon_high": 0.28, **options}
    return lambda *args: surrogates.clipped(*args, **options)


def whole(surrogate):
    return lambda *args: surrogate(*args, epsilon=0.2, epsilon_high=0.28)


LOSSES = {
    "policy_loss_trl_grpo": (aggregates.episodes, ppo()),
    "policy_loss_trl_dr_grpo": (aggregates.constant, ppo()),
    "policy_loss_trl_grpo_delta1.5": (aggregates.episodes, ppo(ceiling=1.5)),
    "policy_loss_trl_grpo_levelsequence": (aggregates.episodes, whole(surrogates.gspo)),
    "policy_loss_trl_rloo": (aggregates.episodes, whole(surrogates.episode_clipped)),
    "policy_loss_trl_sapo": (
        aggregates.episodes,
        lambda *args: surrogates.sapo(*args, tau=1.0, tau_negative=1.05),
    ),
    "policy_loss_ppo_clip_higher_dualclip_verl": (aggregates.steps, ppo(dual=3.0)),
    "policy_loss_gmpo_geo_mean_verl": (
        aggregates.episodes,
        whole(surrogates.gmpo),
    ),
    "policy_loss_gpg_loss_verl": (aggregates.steps, surrogates.policy_gradient),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_their_libraries(name):
    vector = GOLDEN[name]
    aggregate, surrogate = LOSSES[name]
    high = vector["inputs"].get("eps_high")
    assert high in (None, 0.2, 0.28), high
    loss, gradient = loss_and_gradient(vector, aggregate, surrogate)
    check(vector, loss, vector["outputs"]["loss"])
    check(vector, gradient, vector["outputs"]["grad_wrt_log_prob"], vector["inputs"]["mask"])


@pytest.mark.parametrize("name", ["kl_penalties_verl", "openrlhf_kl_k1k2k3"])
def test_penalties_are_those_of_verl_and_openrlhf(name):
    vector = GOLDEN[name]
    log_prob, reference = (jnp.asarray(vector["inputs"][k]) for k in ("logp", "ref_logp"))
    for penalty in (surrogates.k1, surrogates.k2, surrogates.k3):
        check(vector, penalty(log_prob, reference), vector["outputs"][penalty.__name__])


def test_penalties_as_losses_have_the_gradients_they_are_said_to_have():
    probability = jnp.array([0.2, 0.5, 0.3])
    reference = jnp.log(jnp.array([0.4, 0.35, 0.25]))

    def mean(penalty, logits):
        now = jax.nn.log_softmax(logits)
        return (jax.lax.stop_gradient(jnp.exp(now)) * penalty(now, reference)).sum()

    def divergence(logits):
        now = jax.nn.log_softmax(logits)
        return (jnp.exp(now) * (now - reference)).sum()

    logits = jnp.log(probability)
    right = jax.grad(divergence)(logits)
    gradient = {
        p.__name__: jax.grad(lambda x, p=p: mean(p, x))(logits)
        for p in (surrogates.k1, surrogates.k2, surrogates.k3)
    }
    np.testing.assert_allclose(gradient["k1"], 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient["k2"], right, atol=1e-6)
    assert abs(gradient["k3"] - right).max() > 0.01


@pytest.mark.parametrize("name", [n for n in GOLDEN if n.startswith("explained_variance")])
def test_explained_variance_is_sb3_explained_variance(name):
    vector = GOLDEN[name]
    value = jnp.asarray([[vector["inputs"]["y_pred"]]])
    target = jnp.asarray([[vector["inputs"]["y_true"]]])
    got = explained_variance(value, target, jnp.ones_like(value))
    check(vector, got, vector["outputs"]["ev"])


@pytest.mark.parametrize("paid", [0.0, 1.0, -1000.0])
@pytest.mark.parametrize("steps", [16, 500])
def test_of_a_target_that_is_constant_but_for_rounding_nothing_is_explained(paid, steps):
    """The critic's target is made of its own values, which cancel but for their rounding."""

    def explained(reward):
        batch = rollout(reward)
        target = targets.lambda_return(batch, value, gamma=1.0, lambda_=1.0)
        return float(explained_variance(value[..., :-1], target, batch.mask))

    size = max(abs(paid), 1.0)
    value = 0.1 * size * jax.random.normal(jax.random.key(0), (4, 8, steps + 1))
    reward = jnp.zeros((4, 8, steps)).at[..., -1].set(paid)
    assert np.isnan(explained(reward))
    # a thousandth more for one of 32 is a difference, of which such values explain less than nothing
    assert -1e7 < explained(reward.at[0, 0, -1].add(1e-3 * size)) < -1e3


LONGEST = 6


def draw(seed, group):
    """Episodes of random lengths: pairs of prompts of four kinds of rewards, one kind after the other.

    Any numbers; zeros and ones, so that there are ties; equal returns; and returns that are not numbers: of a
    whole group, and in the other one of the first episode and some more, but for the last.
    """
    random = np.random.default_rng(seed)
    shape = (8, group, LONGEST)
    length = random.integers(1, LONGEST + 1, shape[:2])
    mask = np.arange(LONGEST) < length[..., None]
    reward = random.normal(size=shape)
    reward[2:4] = random.random(reward[2:4].shape) < 0.3
    # 0.1 has no exact binary form.
    reward[4:6] = 0.1 * (np.arange(LONGEST) == 0)
    bad = random.random(group) < 1 / 3
    bad[0], bad[-1] = True, False
    reward[6, :, 0] = np.nan
    reward[7, bad, 0] = np.nan
    batch = rollout(np.where(mask, reward, 0.0), mask)
    # Few observations, so that episodes meet; among them -0.0, which is 0.0.
    seen = random.integers(-1, 2, (*shape[:2], LONGEST + 1, 2)) * 0.1
    seen *= random.choice([-1.0, 1.0], seen.shape)
    return batch.replace(obs=jnp.asarray(seen, jnp.float32)), random.uniform(0.1, 2.0, shape)


class Naive:
    """The same batch, for loops over its episodes in double precision."""

    def __init__(self, batch, credit):
        self.mask = np.asarray(batch.mask) > 0
        self.length = self.mask.sum(-1)
        self.prompts, self.group, _ = self.mask.shape
        reward = np.asarray(batch.reward, float)
        self.credit = np.zeros_like(reward)
        for b, g in np.ndindex(self.prompts, self.group):
            for t in range(self.length[b, g]):
                start = 0 if credit is returns.outcome else t
                later = reward[b, g, start : self.length[b, g]]
                faded = 0.9**t if credit is returns.remaining else 1.0
                self.credit[b, g, t] = faded * sum(0.9**k * r for k, r in enumerate(later))
        self.return_ = self.credit[..., 0]

    def scored(self, b):
        return [g for g in range(self.group) if np.isfinite(self.return_[b, g])]

    def all_scored(self):
        return [(b, g) for b in range(self.prompts) for g in self.scored(b)]

    def returns(self, b):
        return [self.return_[b, g] for g in self.scored(b)]

    def advantages(self, baseline):
        """Credit minus `baseline(b, g, t)` at steps of scored episodes, zero elsewhere."""
        out = np.zeros_like(self.credit)
        for b, g in self.all_scored():
            for t in range(self.length[b, g]):
                out[b, g, t] = self.credit[b, g, t] - baseline(b, g, t)
        return out

    def leave_one_out(self, b, g, t):
        others = [self.return_[b, j] for j in self.scored(b) if j != g]
        return np.mean(others) if others else self.return_[b, g]

    def group_mean(self, b, g, t):
        return np.mean(self.returns(b))

    def length_weighted(self, b, g, t):
        total = sum(self.length[b, j] * self.return_[b, j] for j in self.scored(b))
        return total / sum(self.length[b, j] for j in self.scored(b))

    def optimal_token(self, b, g, t, score):
        acting = [j for j in self.scored(b) if t < self.length[b, j]]
        if acting == [g]:
            return 0.0
        weight = [sum(score[b, j, k] for k in range(t + 1)) for j in acting]
        total = sum(w * self.credit[b, j, t] for w, j in zip(weight, acting, strict=True))
        return total / (sum(weight) + 1e-8)

    def step_mean(self, b, g, t):
        others = [self.credit[b, j, t] for j in self.scored(b) if j != g and t < self.length[b, j]]
        return np.mean(others) if others else 0.0

    def second_best(self, b, g, t):
        ranked = sorted(self.returns(b))
        best = next(j for j in self.scored(b) if self.return_[b, j] == ranked[-1])
        return ranked[-2] if g == best and len(ranked) > 1 else self.credit[b, g, t]

    def bins(self, batch, width, resolution):
        seen = np.round(np.asarray(batch.obs) * np.float32(resolution))
        cells = defaultdict(list)
        for b, g in self.all_scored():
            for t in range(self.length[b, g]):
                # Python takes -0.0 and 0.0 for the same key.
                cells[(*seen[b, g, t], t // width)].append((b, g, self.credit[b, g, t]))
        return lambda b, g, t: [
            credit for i, j, credit in cells[(*seen[b, g, t], t // width)] if (i, j) != (b, g)
        ]


GROUPS = [5, 2, 1]
CREDITS = [returns.outcome, returns.remaining, returns.reward_to_go]
batches = pytest.mark.parametrize(
    ("group", "credit"),
    [(group, credit) for group in GROUPS for credit in CREDITS],
)
"""Sizes of groups and credits that every naive loop is held against."""


def ours(batch, credit, baseline=baselines.none, scale=scales.unscaled, reach=None):
    return advantages.relative(
        batch, reach, gamma=0.9, credit=credit, baseline=baseline, scale=scale
    )


def same(got, want):
    # Six sums of numbers of about one in single precision.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-6)


@batches
@pytest.mark.parametrize("name", ["leave_one_out", "length_weighted", "step_mean", "second_best"])
def test_baselines_are_what_naive_loops_find(name, group, credit):
    batch, _ = draw(1, group)
    naive = Naive(batch, credit)
    got = ours(batch, credit, getattr(baselines, name))
    same(got, naive.advantages(getattr(naive, name)))


@batches
def test_the_optimal_token_baseline_is_what_a_naive_loop_finds(group, credit):
    batch, score = draw(2, group)
    naive = Naive(batch, credit)
    got = ours(
        batch,
        credit,
        partial(baselines.optimal_token, eps=1e-8),
        reach=access(squared_score=lambda rollout: jnp.asarray(score)),
    )
    same(got, naive.advantages(partial(naive.optimal_token, score=score)))


@batches
def test_bins_hold_what_a_dictionary_of_bins_holds(group, credit):
    batch, _ = draw(3, group)
    naive = Naive(batch, credit)
    others = naive.bins(batch, 2, 10.0)
    missed = 0

    def baseline(b, g, t):
        nonlocal missed
        found = others(b, g, t)
        missed += not found
        return np.mean(found) if found else naive.leave_one_out(b, g, t)

    want = naive.advantages(baseline)
    # Both the bins and what is done without one are looked at.
    assert 0 < missed < sum(naive.length[b, g] for b, g in naive.all_scored())
    # So many slots that a handful of bins does not collide.
    binned = partial(baselines.bin_mean, width=2, resolution=10.0, slots=2**15)
    same(ours(batch, credit, binned), want)


@batches
@pytest.mark.parametrize("ddof", [0, 1])
def test_the_groups_deviation_is_what_a_naive_loop_finds(group, credit, ddof):
    batch, _ = draw(4, group)
    naive = Naive(batch, credit)
    want = naive.advantages(naive.group_mean)
    for b in range(naive.prompts):
        found = naive.returns(b)
        want[b] /= (np.std(found, ddof=ddof) if len(found) > ddof else 1.0) + 1e-4
    scale = partial(scales.group_std, ddof=ddof, eps=1e-4)
    got = ours(batch, credit, baselines.group_mean, scale)
    same(got, want)


@pytest.mark.parametrize("baseline", [baselines.group_mean, baselines.leave_one_out])
def test_equal_returns_have_no_advantage_also_where_the_first_could_not_be_scored(baseline):
    # Which sums of equal numbers are rounded depends on how many there are.
    reward = np.full((9, 12, 1), 0.1)
    for row, scored in enumerate(range(2, 11)):
        reward[row, 0] = reward[row, 1 + scored :] = np.nan
    # So small an eps blows up a rounding error of the mean to 0.7 percent of a deviation.
    scale = partial(scales.group_std, ddof=1, eps=1e-6)
    assert (ours(rollout(reward), returns.outcome, baseline, scale) == 0).all()


@batches
def test_division_by_the_groups_mean_is_what_a_naive_loop_finds(group, credit):
    batch, _ = draw(5, group)
    naive = Naive(batch, credit)
    want = naive.advantages(naive.group_mean)
    for b in range(naive.prompts):
        mean = np.mean(naive.returns(b) or [0.0])
        # A mean is a share of successes where returns are not negative.
        want[b] = want[b] / mean if mean > 0 else 0.0
    got = ours(batch, credit, baselines.group_mean, scales.group_mean)
    # A mean near zero magnifies what single precision has rounded.
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@batches
def test_division_by_the_paid_share_is_what_a_naive_loop_finds(group, credit):
    batch, _ = draw(6, group)
    naive = Naive(batch, credit)
    every = naive.all_scored()
    paid = [where for where in every if naive.return_[where] != 0]
    want = naive.advantages(naive.group_mean) * len(every) / max(len(paid), 1)
    same(ours(batch, credit, baselines.group_mean, scales.paid_share), want)


def test_nothing_paid_is_no_advantage_for_scales_that_divide_by_what_was_paid():
    batch = rollout(np.zeros((8, 5, LONGEST)))
    for scale in (scales.paid_share, scales.group_mean):
        assert (ours(batch, returns.outcome, baselines.group_mean, scale) == 0).all()


@batches
@pytest.mark.parametrize("ddof", [0, 1])
def test_whitening_over_steps_is_what_a_naive_loop_finds(group, credit, ddof):
    batch, _ = draw(7, group)
    naive = Naive(batch, credit)
    raw = naive.advantages(lambda b, g, t: 0.0)
    steps = [raw[b, g, t] for b, g in naive.all_scored() for t in range(naive.length[b, g])]
    scale = np.sqrt(np.var(steps, ddof=ddof) + 1e-2)
    want = naive.advantages(lambda b, g, t: np.mean(steps)) / scale
    got = ours(batch, credit, scale=partial(scales.step_whitened, ddof=ddof, eps_of_variance=1e-2))
    same(got, want)


@batches
@pytest.mark.parametrize("ddof", [0, 1])
def test_whitening_over_episodes_is_what_a_naive_loop_finds(group, credit, ddof):
    batch, _ = draw(8, group)
    naive = Naive(batch, credit)
    starts = [naive.return_[where] for where in naive.all_scored()]
    want = naive.advantages(lambda b, g, t: np.mean(starts)) / (np.std(starts, ddof=ddof) + 1e-2)
    got = ours(batch, credit, scale=partial(scales.episode_whitened, ddof=ddof, eps=1e-2))
    same(got, want)


@pytest.mark.parametrize("group", GROUPS)
def test_values_of_others_and_returns_of_others_are_what_naive_loops_find(group):
    # Critics do not know of episodes that could not be scored: the first six prompts have none.
    batch = jax.tree.map(lambda x: x[:6], draw(9, group)[0])
    naive = Naive(batch, returns.outcome)
    value = np.random.default_rng(9).normal(size=(6, group, LONGEST + 1))
    above, mean = np.zeros_like(naive.credit), np.zeros_like(naive.credit)
    for b, g in naive.all_scored():
        others = [j for j in range(naive.group) if j != g]
        along = [np.mean(value[b, j, : naive.length[b, j]]) for j in others]
        taken = np.arange(LONGEST) < naive.length[b, g]
        # One rollout alone has no others, whose mean is then zero.
        above[b, g] = (naive.return_[b, g] - (np.mean(along) if others else 0.0)) * taken
        mean[b, g] = (np.mean(naive.return_[b, others]) if others else 0.0) * taken
    values = jnp.asarray(value, jnp.float32)
    same(advantages.above_others(batch, values, gamma=0.9), above)
    same(targets.others_mean(batch, values, gamma=0.9), mean)


ELSEWHERE = {
    "seq_halving_considered_visits": "is of a search, and nothing here searches",
    "mctx_gumbel_bandit_n8": "is of a search, and nothing here searches",
}
"""Vectors without a test, and why."""


def test_every_vector_is_tested_or_has_a_reason_not_to_be():
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    text = "\n".join(text for text in texts if "GOLDEN" in text)
    named = Counter(re.findall(r'"([\w.]+)"', text))
    prefixes = re.findall(r'in GOLDEN if \w+\.startswith\("(\w+)"\)', text)
    tested = {
        name
        for name in GOLDEN
        # A vector that is put down above is named once without being tested.
        if named[name] > (name in ELSEWHERE) or name.startswith(tuple(prefixes))
    }
    assert set(GOLDEN) - tested == set(ELSEWHERE)


@pytest.mark.parametrize(("epsilon", "weight"), [(None, [0.5, 1.0, 2.0]), (0.2, [0.8, 1.0, 2.0])])
def test_cispo_weighs_every_step_with_its_clipped_ratio(epsilon, weight):
    now, behaviour = jnp.log(jnp.array([0.5, 1.0, 9.0])), jnp.zeros(3)
    advantage, mask = jnp.array([1.0, -2.0, 3.0]), jnp.ones(3)

    def loss(now):
        lost = surrogates.cispo(now, behaviour, advantage, mask, epsilon=epsilon, epsilon_high=1.0)
        return lost.sum(), lost

    gradient, lost = jax.grad(loss, has_aux=True)(now)
    factor = np.array(weight) * advantage
    np.testing.assert_allclose(lost, -factor * now, rtol=1e-6)
    np.testing.assert_allclose(gradient, -factor, rtol=1e-6)
