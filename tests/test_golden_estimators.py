"""Returns, advantages, surrogates and averages against vectors made by other libraries' own code."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vfcompare import advantages, returns, surrogates
from vfcompare.estimators import explained_variance
from vfcompare.types import Rollout

VECTORS = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent / "data" / "golden.json").read_text())
}


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
    return partial(advantages.group_std, ddof=inputs["ddof"], eps=inputs["eps"])


@pytest.mark.parametrize(
    "name", [n for n in VECTORS if n.startswith("grpo_verl") and "passk" not in n]
)
def test_group_mean_over_group_std_is_verl_grpo(name):
    vector = VECTORS[name]
    got, mask = grouped(vector, advantages.group_mean, std(vector))
    check(vector, got, vector["outputs"]["advantages"], mask)


def scored(vector):
    """Whether every reward is a number; what to do with unscorable ones is not built yet."""
    return not any(isinstance(reward, str) for reward in vector["inputs"]["rewards"])


@pytest.mark.parametrize(
    "name", [n for n, v in VECTORS.items() if "grpo_trl" in n and n[0] == "g" and scored(v)]
)
def test_group_mean_over_group_std_is_trl_grpo(name):
    vector = VECTORS[name]
    inputs = vector["inputs"]
    size = inputs["num_generations"]
    scale = std(vector) if inputs["scale_rewards"] == "group" else advantages.unscaled
    vector["inputs"]["group_index"] = list(np.arange(len(inputs["rewards"])) // size)
    got, _ = grouped(vector, advantages.group_mean, scale)
    check(vector, got[:, 0], vector["outputs"]["advantages"])


@pytest.mark.parametrize("name", ["rloo_verl_1001", "rloo_verl_continuous"])
def test_leave_one_out_is_verl_rloo(name):
    vector = VECTORS[name]
    got, mask = grouped(vector, advantages.leave_one_out, advantages.unscaled)
    check(vector, got, vector["outputs"]["advantages"], mask)


def test_leave_one_out_of_one_follows_verl_vectorized_and_trl():
    vector = VECTORS["rloo_verl_singleton"]
    got, mask = grouped(vector, advantages.leave_one_out, advantages.unscaled)
    check(vector, got, vector["outputs"]["advantages_vectorized"], mask)
    trl = VECTORS["rloo_trl_singleton"]
    check(trl, got[:, 0], trl["outputs"]["advantages"])


def test_leave_one_out_is_trl_rloo():
    vector = VECTORS["rloo_trl_1001"]
    got, _ = grouped(vector, advantages.leave_one_out, advantages.unscaled)
    check(vector, got[:, 0], vector["outputs"]["advantages"])


def test_group_mean_is_openrlhf_dr_grpo():
    vector = VECTORS["openrlhf_dr_grpo_1001"]
    got, mask = grouped(vector, advantages.group_mean, advantages.unscaled)
    check(vector, got, vector["outputs"]["advantages"], mask)


@pytest.mark.parametrize("name", [n for n in VECTORS if n.startswith("gae_rlax")])
def test_gae_is_rlax_gae(name):
    vector = VECTORS[name]
    inputs = vector["inputs"]
    discount = np.asarray(inputs["discounts"])
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    value = jnp.asarray([[inputs["values_0_to_T"]]])
    got = returns.gae(batch, value, gamma=0.99, lambda_=inputs["lam"])
    check(vector, got[0, 0], vector["outputs"]["advantages"])
    target = returns.lambda_return(batch, value, gamma=0.99, lambda_=inputs["lam"])
    check(vector, target[0, 0], vector["outputs"]["returns"])


@pytest.mark.parametrize("name", [n for n in VECTORS if n.startswith("lambda_return_rlax")])
def test_lambda_return_is_rlax_lambda_return(name):
    vector = VECTORS[name]
    inputs = vector["inputs"]
    discount = np.asarray(inputs["discounts"])
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    # A λ-return does not depend on V(s_0).
    value = jnp.asarray([[[0.7, *inputs["v_1_to_T"]]]])
    got = returns.lambda_return(batch, value, gamma=0.99, lambda_=inputs["lam"])
    check(vector, got[0, 0], vector["outputs"]["returns"])


def test_n_step_is_rlax_n_step():
    vector = VECTORS["nstep_rlax_n2"]
    inputs = vector["inputs"]
    discount = np.asarray(inputs["discounts"])
    gamma = float(discount.max())
    batch = rollout([[inputs["rewards"]]], terminated=[[discount == 0]])
    values = inputs.get("v_1_to_T") or inputs["v_t"]
    value = jnp.asarray([[[0.7, *values]]])
    got = returns.n_step(batch, value, gamma=gamma, n=inputs["n"]) + value[..., :-1]
    (want,) = vector["outputs"].values()
    check(vector, got[0, 0], want)


@pytest.mark.parametrize("name", ["gae_sb3_no_done", "gae_sb3_term_mid"])
def test_gae_is_sb3_gae(name):
    vector = VECTORS[name]
    inputs = vector["inputs"]
    starts = [*inputs["episode_starts"][1:], int(inputs["last_done"])]
    batch = rollout([[inputs["rewards"]]], terminated=[[starts]])
    value = jnp.asarray([[[*inputs["values"], inputs["last_value"]]]])
    got = returns.gae(batch, value, gamma=inputs["gamma"], lambda_=inputs["lam"])
    check(vector, got[0, 0], vector["outputs"]["advantages"])


def test_truncation_bootstraps_from_the_final_observation_through_its_boundary_row():
    vector = VECTORS["gae_truncation_mid_cross_check"]
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
    got = returns.gae(batch, value, gamma=inputs["gamma"], lambda_=inputs["lam"])[0, 0]
    check(vector, got[jnp.array([0, 1, 3, 4])], vector["outputs"]["advantages"])
    assert got[2] == 0


def test_padding_full_of_garbage_does_not_leak_into_gae():
    vector = VECTORS["gae_verl_tokens_g1_l095"]
    inputs = vector["inputs"]
    mask = np.asarray(inputs["mask"])
    batch = rollout(np.asarray(inputs["token_rewards"])[:, None], mask[:, None])
    value = np.concatenate([inputs["values"], np.full((2, 1), 9.0)], -1)[:, None]
    got = returns.gae(batch, jnp.asarray(value), gamma=1.0, lambda_=inputs["lam"])
    check(vector, got[:, 0], vector["outputs"]["advantages_raw"], mask)
    whitened = advantages.whitened(got, batch.mask, ddof=1, eps=0.0)
    check(vector, whitened[:, 0], vector["outputs"]["advantages_whitened"], mask)


def test_whitening_is_verl_whitening_on_taken_steps():
    vector = VECTORS["masked_whiten_verl"]
    mask = jnp.asarray(vector["inputs"]["mask"])[:, None]
    values = jnp.asarray(vector["inputs"]["values"])[:, None]
    got = advantages.whitened(values, mask, ddof=1, eps=0.0)
    check(vector, got[:, 0], vector["outputs"]["whitened"], mask[:, 0])
    assert (got * (1 - mask) == 0).all()


def test_steps_of_vine_are_one_step_advantages():
    vector = VECTORS["vineppo_success_k9"]
    reward = vector["inputs"]["step_rewards"]
    # VinePPO does not sample the last state: its value is the reward, so that its advantage is zero.
    value = [*vector["inputs"]["mc_values"][:3], reward[-1], 0.0]
    got = returns.gae(rollout([[reward]]), jnp.asarray([[value]]), gamma=1.0, lambda_=0.0)
    check(vector, got[0, 0], vector["outputs"]["step_advantages"])


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
    "token-mean": surrogates.token,
    "seq-mean-token-mean": surrogates.sequence,
    "seq-mean-token-sum-norm": surrogates.constant,
    "seq-mean-token-sum": lambda mask: surrogates.constant(mask, length=1.0),
}


@pytest.mark.parametrize("mode", AVERAGES)
def test_averages_are_verl_averages(mode):
    vector = VECTORS["agg_loss_verl_all_modes"]
    mask = jnp.asarray(vector["inputs"]["mask"], jnp.float32)[None]
    weights = AVERAGES[mode](mask)
    check(vector, (weights * jnp.asarray(vector["inputs"]["loss"])).sum(), vector["outputs"][mode])


def test_clipping_is_rlax_clipping():
    vector = VECTORS["clipped_surrogate_rlax"]
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


def whole(**options):
    options = {"epsilon": 0.2, "epsilon_high": 0.28, **options}
    return lambda *args: surrogates.sequence_clipped(*args, **options)


LOSSES = {
    "policy_loss_trl_grpo": (surrogates.sequence, ppo()),
    "policy_loss_trl_dr_grpo": (surrogates.constant, ppo()),
    "policy_loss_trl_grpo_delta1.5": (surrogates.sequence, ppo(ceiling=1.5)),
    "policy_loss_trl_grpo_levelsequence": (surrogates.sequence, whole(normalise=True)),
    "policy_loss_trl_rloo": (surrogates.sequence, whole(normalise=False)),
    "policy_loss_trl_sapo": (
        surrogates.sequence,
        lambda *args: surrogates.gated(*args, tau=1.0, tau_negative=1.05),
    ),
    "policy_loss_ppo_clip_higher_dualclip_verl": (surrogates.token, ppo(dual=3.0)),
    "policy_loss_gmpo_geo_mean_verl": (
        surrogates.sequence,
        lambda *args: surrogates.geometric_mean(*args, epsilon=0.2, epsilon_high=0.28),
    ),
    "policy_loss_gpg_loss_verl": (surrogates.token, surrogates.policy_gradient),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_their_libraries(name):
    vector = VECTORS[name]
    aggregate, surrogate = LOSSES[name]
    high = vector["inputs"].get("eps_high")
    assert high in (None, 0.2, 0.28), high
    loss, gradient = loss_and_gradient(vector, aggregate, surrogate)
    check(vector, loss, vector["outputs"]["loss"])
    check(vector, gradient, vector["outputs"]["grad_wrt_log_prob"], vector["inputs"]["mask"])


@pytest.mark.parametrize("name", ["kl_penalties_verl", "openrlhf_kl_k1k2k3"])
def test_penalties_are_those_of_verl_and_openrlhf(name):
    vector = VECTORS[name]
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


@pytest.mark.parametrize("name", [n for n in VECTORS if n.startswith("explained_variance")])
def test_explained_variance_is_sb3_explained_variance(name):
    vector = VECTORS[name]
    value = jnp.asarray([[vector["inputs"]["y_pred"]]])
    target = jnp.asarray([[vector["inputs"]["y_true"]]])
    got = explained_variance(value, target, jnp.ones_like(value))
    check(vector, got, vector["outputs"]["ev"])
