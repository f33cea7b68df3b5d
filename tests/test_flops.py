"""FLOPs: the counter against products by hand, and what agents are said to compute."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from vfcompare import flops


def test_products_scans_branches_and_inner_functions_count():
    x, w = jnp.zeros((3, 5)), jnp.zeros((5, 7))
    once = 2 * 3 * 5 * 7
    assert flops.count(jnp.matmul, x, w) == once
    assert flops.count(jax.jit(jnp.matmul), x, w) == once
    assert flops.count(lambda x, w: jnp.tanh(x @ w) + 1, x, w) == once
    scanned = lambda x, w: jax.lax.scan(lambda c, _: (c, x @ w), 0, None, 11)  # noqa: E731
    assert flops.count(scanned, x, w) == 11 * once
    chosen = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: jnp.zeros((3, 7)))  # noqa: E731
    assert flops.count(chosen, x, w) == once
    batched = jax.vmap(jnp.matmul, in_axes=(0, None))
    assert flops.count(batched, jnp.zeros((4, 3, 5)), w) == 4 * once


def test_convolutions_count_what_each_output_sums_up():
    x = jnp.zeros((2, 8, 8, 3))
    conv = nn.Conv(16, (3, 3), padding="SAME", use_bias=False)
    params = jax.eval_shape(conv.init, jax.random.key(0), x)
    assert flops.count(conv.apply, params, x) == 2 * (2 * 8 * 8 * 16) * (3 * 3 * 3)


@pytest.mark.parametrize("env", ["cartpole", "maze_small"])
def test_acting_reads_each_weight_once(build, env):
    _, learner = build("agent=rloo", f"env={env}")
    state = jax.eval_shape(learner.init, jax.random.key(0))
    w = [leaf for leaf in jax.tree.leaves(state.params["policy"]) if leaf.ndim == 2]
    assert learner.work().act == sum(2 * x.size for x in w)


def test_a_critic_costs_what_a_policy_costs_and_epochs_multiply(build):
    free = build("agent=rloo", "env=cartpole")[1].work()
    based = build("agent=ppo", "env=cartpole")[1].work()
    assert free.act == based.act == 2 * (4 * 64 + 64 * 64 + 64 * 2)
    # Forward, and backward but for the gradient of the observation.
    one = 3 * free.act - 2 * 4 * 64
    assert free.learn == 4 * one
    critic = 2 * (4 * 64 + 64 * 64 + 64)
    assert based.learn == 4 * (one + 3 * critic - 2 * 4 * 64) + critic
    half = build("agent=rloo", "env=cartpole", "agent.batching.epochs=2")[1].work()
    assert half.learn == 2 * one
    assert free.total(10, 1, 5) == 10 * free.act + 5 * free.learn


def test_whole_episodes_and_a_cache_are_counted(build):
    network = "network@agent.network=transformer_tiny"
    env, learner = build("agent=rloo", "env=addition", network)
    work, width = learner.work(), 32
    length, words = env.observation_space.shape[0], int(env.action_space.n)
    # One block: query, key, value, out, and a perceptron four times as wide; scores and sums over all rows.
    token = 2 * (4 + 2 * 4) * width**2 + 2 * 2 * length * width
    assert work.begin == length * token
    assert work.act == token + 2 * width * words
    assert work.total(10, 2, 5) == 10 * work.act + 2 * work.begin + 5 * work.learn
    assert work.told().startswith("act ")
