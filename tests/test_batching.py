"""Minibatches: every cut of a batch adds up to it, and padding is never touched."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfcompare import batching
from vfcompare.agents import optimizers
from vfcompare.batching import Batching
from vfcompare.types import Batch, Steps

KEY = jax.random.key(11)


@settings(max_examples=30)
@given(valid=st.lists(st.booleans(), min_size=2, max_size=70), seed=st.integers(0, 2**31))
def test_the_order_is_a_permutation_with_the_valid_rows_in_front(valid, seed):
    mask = jnp.array(valid, jnp.float32)
    order = np.asarray(batching.order(jax.random.key(seed), mask))
    assert sorted(order) == list(range(len(valid)))
    assert all(valid[i] for i in order[: sum(valid)])


@pytest.mark.parametrize("number", [1, 2, 3, 15, 16, 17, 80, 500, 512])
def test_a_permutation_has_every_number_once(number):
    found = jax.jit(jax.vmap(lambda k: batching.permutation(k, number)))(jax.random.split(KEY, 50))
    assert (np.sort(found, axis=1) == np.arange(number)).all()


@pytest.mark.statistical
def test_all_orders_of_few_rows_are_equally_likely():
    """Chi square over the 24 orders of four rows."""
    times = 24_000
    keys = jax.random.split(KEY, times)
    orders = np.asarray(jax.jit(jax.vmap(lambda k: batching.permutation(k, 4)))(keys))
    counts = np.bincount(orders @ [64, 16, 4, 1], minlength=256)
    counts = counts[counts > 0]
    assert len(counts) == 24
    # Mean 23 and standard deviation sqrt(2 · 23) = 6.8; 55 is passed by 2 of 10,000. A network of 16 numbers
    # in place of 64, whose permutations are all even, has 99.
    assert (np.square(counts - times / 24) / (times / 24)).sum() < 55


@pytest.mark.statistical
@pytest.mark.parametrize("number", [80, 512])
def test_two_rows_are_in_one_minibatch_as_often_as_by_chance(number):
    """Of all pairs of rows, whose indices have any bits in common."""
    times, quarter = 3000, number // 4
    keys = jax.random.split(jax.random.key(7), times)
    orders = np.asarray(jax.jit(jax.vmap(lambda k: batching.permutation(k, number)))(keys))
    piece = np.argsort(orders, axis=1) // quarter
    first = (piece == 0).astype(np.float32)
    together = (first.T @ first)[np.triu_indices(number, 1)]
    chance = quarter * (quarter - 1) / (number * (number - 1))
    deviation = (together / times - chance) / np.sqrt(chance * (1 - chance) / times)
    # Nearly independent standard normals: of 130,816 pairs one is beyond 5.5 in 200 tests.
    assert abs(deviation).max() < 5.5
    assert 0.97 < np.square(deviation).mean() < 1.03


@pytest.mark.statistical
@pytest.mark.parametrize(
    "draw", [lambda k: batching.order(k, jnp.ones(64)), lambda k: batching.permutation(k, 64)]
)
def test_every_row_is_as_likely_in_every_minibatch(draw):
    orders = jax.jit(jax.vmap(draw))(jax.random.split(KEY, 4000))
    first = np.asarray(orders[:, :16])
    share = np.bincount(first.ravel(), minlength=64) / 4000
    # A share has a standard deviation of sqrt(.25 .75 / 4000) = 0.0068; 64 of them stay within 4.5.
    assert abs(share - 0.25).max() < 4.5 * 0.0068


def quadratic(params, rows):
    return {"net": jnp.square(rows.steps.obs @ params["net"] - rows.advantage)}


def batch_of(x, y, valid, weight):
    """Rows of steps that say `x` and `y`."""
    return Batch(
        Steps(obs=x, action=y, first=y),
        valid=valid,
        mask=valid,
        log_prob=y,
        advantage=y,
        weight=weight,
    )


def data(valid):
    x_key, y_key = jax.random.split(KEY)
    number = len(valid)
    valid = jnp.asarray(valid, jnp.float32)
    x, y = jax.random.normal(x_key, (number, 3)), jax.random.normal(y_key, (number,))
    return batch_of(x, y, valid, {"net": valid / valid.sum()})


def descend(batch, cut, optimizer):
    params = {"net": jnp.array([0.3, -0.2, 0.1])}
    each = {"net": optax.with_extra_args_support(optimizer)}
    run = jax.jit(
        lambda p, s: batching.descend(quadratic, p, s, each, batch, KEY, cut, jnp.float32(0.0))
    )
    params, state, metrics = run(params, {"net": optimizer.init(params["net"])})
    return params["net"], state["net"], metrics["net"]


@pytest.mark.parametrize("block", [1, 7, 16, 512])
def test_a_sparse_batch_has_the_gradient_of_its_valid_rows(block):
    valid = np.arange(50) % 3 == 0
    batch = data(valid)
    got, _, metrics = descend(batch, Batching(1, 1, False, block), optax.sgd(0.1))
    rows = np.flatnonzero(valid)
    inside = jax.tree.map(lambda x: x[rows], batch)
    want, _, expected = descend(inside, Batching(1, 1, True), optax.sgd(0.1))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5)


@pytest.mark.parametrize("block", [3, 10, 37])
def test_a_dense_batch_has_one_gradient_whatever_its_blocks(block):
    batch = data(np.ones(60, bool))
    got, _, metrics = descend(batch, Batching(1, 2, True, block), optax.sgd(0.1))
    want, _, expected = descend(batch, Batching(1, 2, True, 60), optax.sgd(0.1))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("minibatches", [2, 5, 8])
def test_gradients_of_the_minibatches_of_an_epoch_average_to_that_of_the_batch(dense, minibatches):
    batch = data(np.ones(40, bool))
    # A learning rate of nearly zero adds up gradients at the same parameters.
    step = optax.sgd(1e-6)
    start = jnp.array([0.3, -0.2, 0.1])
    cut, _, _ = descend(batch, Batching(1, minibatches, dense, 4), step)
    whole, _, _ = descend(batch, Batching(1, 1, True), step)
    moved = (cut - start) / minibatches
    np.testing.assert_allclose(moved, whole - start, rtol=0.05, atol=3e-8)


def test_garbage_in_padding_changes_nothing():
    valid = np.arange(30) < 11
    batch = data(valid)
    x = jnp.where(valid[:, None], batch.steps.obs, 1e30)
    y = jnp.where(valid, batch.advantage, -1e30)
    dirty = batch_of(x, y, batch.valid, batch.weight)
    for cut in (Batching(2, 3, False, 4), Batching(2, 1, False, 64)):
        clean, _, _ = descend(batch, cut, optax.adam(0.1))
        got, _, _ = descend(dirty, cut, optax.adam(0.1))
        np.testing.assert_array_equal(clean, got)


def test_over_time_is_the_function_up_to_the_last_row_anyone_reached():
    obs = jax.random.normal(KEY, (2, 3, 11, 4))
    mask = jnp.zeros((2, 3, 10)).at[:, :, :5].set(1).at[1, 2, 5].set(1)
    got = batching.over_time(lambda x: x.sum(-1), obs, mask, block=2)
    want = obs.sum(-1)
    np.testing.assert_allclose(got[:, :, :7], want[:, :, :7], rtol=1e-5)
    assert (got[:, :, 8:] == 0).all()


@pytest.mark.parametrize("dense", [True, False])
def test_a_summary_is_the_weighted_mean_of_the_valid_rows(dense):
    valid = np.ones(30, bool) if dense else np.arange(30) % 4 == 1
    batch = data(valid)
    found = batching.summarise(
        lambda rows: {"y": rows.advantage}, batch, "net", Batching(1, 1, dense, 7)
    )
    np.testing.assert_allclose(found["y"], np.asarray(batch.advantage)[valid].mean(), rtol=1e-5)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(("count", "stride"), [(128, 1), (129, 2), (256, 2), (1000, 8)])
def test_of_many_rows_a_summary_reads_evenly_spread_ones(dense, count, stride):
    number = count if dense else 2 * count
    valid = np.ones(number, bool) if dense else np.arange(number) % 2 == 1
    batch = data(valid)
    read = np.asarray(batch.advantage)[valid][::stride]
    assert len(read) <= batching.SAMPLE
    found = batching.summarise(
        lambda rows: {"y": rows.advantage}, batch, "net", Batching(1, 1, dense)
    )
    np.testing.assert_allclose(found["y"], read.mean(), rtol=1e-4, atol=1e-6)


@given(count=st.integers(1, 2**31 - 1), pieces=st.integers(1, 40_000), share=st.floats(0, 1))
def test_pieces_begin_where_whole_numbers_say_however_many_rows_there_are(count, pieces, share):
    index = int(share * pieces)
    got = jax.jit(batching.edge)(jnp.int32(index), jnp.int32(count), jnp.int32(pieces))
    assert int(got) == index * count // pieces


@pytest.mark.parametrize("norm", ["own", "joint"])
def test_a_clip_looks_at_its_own_network_or_at_all(norm):
    batch = data(np.ones(8, bool)).replace(weight={n: jnp.ones(8) / 8 for n in ("small", "large")})
    params = {name: jnp.zeros(3) for name in ("small", "large")}
    coef = {"small": 1.0, "large": 30.0}

    def values(params, rows):
        return {n: coef[n] * quadratic({"net": p}, rows)["net"] for n, p in params.items()}

    # With a huge eps the first step of Adam is the clipped gradient over eps.
    each = {
        name: optimizers.adam(
            max_grad_norm=0.1, norm=norm, learning_rate=1.0, eps=1e6, anneal=False
        )
        for name in params
    }
    state = {name: each[name].init(params[name]) for name in params}
    moved, _, metrics = batching.descend(
        values, params, state, each, batch, KEY, Batching(1, 1, True), jnp.float32(0.0)
    )
    length = {name: float(jnp.linalg.norm(moved[name])) * 1e6 for name in params}
    norms = {name: float(metrics[name]["grad_norm"]) for name in params}
    joint = float(np.hypot(norms["small"], norms["large"]))
    for name in params:
        factor = 0.1 / (norms[name] if norm == "own" else joint)
        np.testing.assert_allclose(length[name], norms[name] * factor, rtol=1e-4)


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_an_annealed_step_is_the_share_of_the_budget_that_is_left(max_grad_norm):
    gradient = {"net": jnp.array([0.3, -2.0, 0.1])}
    clip = {"max_grad_norm": max_grad_norm, "norm": "own"}

    def steps(progress, anneal):
        """The second and third step, of which Adam's moments do not know how much is left."""
        adam = optimizers.adam(learning_rate=0.5, eps=1e-5, anneal=anneal, **clip)
        state, made = adam.init(gradient), []
        for _ in range(3):
            step, state = adam.update(gradient, state, gradient, progress=jnp.float32(progress))
            made.append(step["net"])
        return np.stack(made[1:])

    plain = steps(0.25, anneal=False)
    # Adam's step is the learning rate where gradients do not change.
    np.testing.assert_allclose(abs(plain), 0.5, rtol=1e-2)
    for progress in (0.0, 0.25, 1.0):
        np.testing.assert_allclose(steps(progress, anneal=True), (1 - progress) * plain, rtol=1e-6)


@pytest.mark.statistical
def test_rows_that_do_not_count_are_shared_by_all_minibatches_of_a_dense_batch(monkeypatch):
    """Were they all in the last one, its gradient would be smaller every time."""
    valid = jnp.ones(64).at[:8].set(0.0)
    counts = []

    def count(params, rows):
        return {"net": jnp.zeros_like(rows.advantage) + 0.0 * params["net"].sum()}

    def seen(sum_of, rows, block):
        jax.debug.callback(lambda x: counts.append(float(x)), rows.valid.sum())
        return sum_of(rows)

    monkeypatch.setattr(batching, "add_up", seen)
    params, cut = {"net": jnp.zeros(3)}, Batching(epochs=50, minibatches=4, dense=True)
    each = {"net": optax.with_extra_args_support(optax.sgd(0.1))}
    state = {"net": each["net"].init(params["net"])}
    batching.descend(count, params, state, each, data(valid), KEY, cut, jnp.float32(0.0))
    jax.effects_barrier()
    assert len(counts) == 200
    means = np.reshape(counts, (50, 4)).mean(0)
    # 14 of 16, less or more the deviation 1.14 of a draw of 8 without replacement, over 50 epochs.
    assert abs(means - 14.0).max() < 4.5 * 1.14 / 50**0.5


@pytest.mark.parametrize("dense", [True, False])
def test_a_summary_is_a_mean_also_where_weights_do_not_sum_to_one(dense):
    batch = data(jnp.ones(12).at[3].set(0.0))
    batch = batch.replace(weight={"net": 0.25 * batch.weight["net"]})
    cut = Batching(epochs=1, minibatches=1, dense=dense, block=4)
    found = batching.summarise(lambda rows: {"y": rows.advantage}, batch, "net", cut)
    kept = np.delete(np.asarray(batch.advantage), 3)
    assert float(found["y"]) == pytest.approx(kept.mean(), rel=1e-5)


@pytest.mark.parametrize(("valid", "steps"), [(1, 1), (10, 1), (11, 2), (37, 4)])
def test_a_size_of_minibatches_makes_gradient_steps_follow_the_steps_taken(valid, steps):
    number = jnp.arange(40.0)
    counts = (number < valid).astype(jnp.float32)
    rows = batch_of(number, number, counts, {"policy": counts / valid})
    cut = Batching(epochs=1, minibatches=4, dense=False, block=8, size=10)
    assert int(cut.pieces(jnp.int32(valid))) == steps
    # The loss is linear, so that every gradient step of plain descent of rate 1 takes `pieces` times
    # its rows' share of the mean, and all of them together as many means as there are minibatches.
    moved, _, metrics = batching.descend(
        lambda params, rows: {"policy": params["policy"] * rows.advantage},
        {"policy": jnp.float32(0.0)},
        {"policy": optax.sgd(1.0).init(jnp.float32(0.0))},
        {"policy": optax.with_extra_args_support(optax.sgd(1.0))},
        rows,
        jax.random.key(0),
        cut,
        jnp.float32(0.0),
    )
    want = -steps * np.arange(valid).mean()
    np.testing.assert_allclose(moved["policy"], want, rtol=1e-5)
    assert float(metrics["policy"]["grad_norm"]) == pytest.approx(-want / steps, rel=1e-5)
