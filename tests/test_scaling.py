"""Units of a critic: what they are after which returns, and that they lead back to where they came from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vfcompare import scaling
from vfcompare.types import Rollout

SCALINGS = {
    "unscaled": scaling.unscaled(),
    "running_deviation": scaling.running_deviation(gamma=0.9, decay=0.8),
    "running_range": scaling.running_range(gamma=0.9),
}


def episodes(reward, length, garbage=0.0):
    """Episodes `[B, G, T]` of given lengths; behind their ends there may be garbage."""
    reward, length = np.asarray(reward, float), np.asarray(length)
    time = np.arange(reward.shape[-1])
    mask = time < length[..., None]
    zeros = jnp.zeros(reward.shape)
    return Rollout(
        obs=jnp.zeros((*reward.shape[:2], reward.shape[2] + 1, 1)),
        action=zeros.astype(jnp.int32),
        log_prob=zeros,
        reward=jnp.asarray(np.where(mask, reward, garbage), jnp.float32),
        terminated=jnp.asarray(time == length[..., None] - 1, jnp.float32),
        truncated=zeros,
        mask=jnp.asarray(mask, jnp.float32),
        first=zeros.at[..., 0].set(1),
    )


def draw(seed, size, shift=0.0, garbage=0.0):
    """A random batch, and its rewards-to-go as a list of double precision."""
    random = np.random.default_rng(seed)
    length = random.integers(1, 6, (2, 3))
    reward = shift + size * random.normal(size=(2, 3, 5))
    to_go = []
    for b, g in np.ndindex(length.shape):
        for t in range(length[b, g]):
            later = reward[b, g, t : length[b, g]]
            to_go.append(sum(0.9**k * r for k, r in enumerate(later)))
    return episodes(reward, length, garbage), np.asarray(to_go)


def unit_after(part, *batches):
    memory = part.init
    update = jax.jit(part.update)
    for batch in batches:
        memory = update(memory, batch)
    return part.unit(memory)


@pytest.mark.parametrize("name", SCALINGS)
def test_up_and_down_undo_each_other(name):
    value = jnp.linspace(-50.0, 600.0, 14)
    # Also before anything was seen, when there is no deviation and no range.
    for number in range(3):
        batches = [draw(seed, 10.0, shift=5.0)[0] for seed in range(number)]
        unit = unit_after(SCALINGS[name], *batches)
        np.testing.assert_allclose(unit.up(unit.down(value)), value, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(unit.down(unit.up(value)), value, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", SCALINGS)
def test_before_any_return_the_unit_is_that_of_returns(name):
    unit = unit_after(SCALINGS[name])
    assert (unit.shift, unit.size) == (0.0, 1.0)


def test_unscaled_stays_so():
    unit = unit_after(SCALINGS["unscaled"], draw(0, 100.0)[0])
    assert (unit.shift, unit.size) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["running_deviation", "running_range"])
def test_padding_is_ignored(name):
    clean = [draw(seed, 2.0)[0] for seed in range(3)]
    dirty = [draw(seed, 2.0, garbage=1e4 * (-1) ** seed)[0] for seed in range(3)]
    assert not np.array_equal(clean[0].reward, dirty[0].reward)
    assert unit_after(SCALINGS[name], *clean) == unit_after(SCALINGS[name], *dirty)


def test_the_range_is_of_all_returns_so_far_and_of_zero():
    part = SCALINGS["running_range"]
    batches, seen, low, high = [], [0.0], [], []
    # The range grows on both sides, and not with each batch.
    for seed, size in enumerate((1.0, 3.0, 2.0, 9.0, 1.0, 5.0)):
        batch, to_go = draw(seed, size)
        batches.append(batch)
        seen.extend(to_go)
        unit = unit_after(part, *batches)
        assert float(unit.up(0.0)) == pytest.approx(min(seen), rel=1e-5)
        assert float(unit.up(1.0)) == pytest.approx(max(seen), rel=1e-5)
        inside = unit.down(jnp.asarray(seen))
        assert inside.min() >= -1e-6
        assert inside.max() <= 1 + 1e-6
        low.append(min(seen))
        high.append(max(seen))
    assert 1 < len(set(low)) < 6
    assert 1 < len(set(high)) < 6


@pytest.mark.parametrize(("sign", "shift", "size"), [(1.0, 0.0, 5.9), (-1.0, -5.9, 5.9)])
def test_zero_is_within_the_range_also_where_no_return_is_near_it(sign, shift, size):
    # Returns are 5.9 and 5: 0.9 * 1 + 5 and, in another episode, 5 alone.
    batch = episodes([[[5.0, 1.0], [5.0, 0.0]]], [[2, 1]])
    batch = batch.replace(reward=sign * batch.reward)
    unit = unit_after(SCALINGS["running_range"], batch)
    assert float(unit.shift) == pytest.approx(shift, abs=1e-6)
    assert float(unit.size) == pytest.approx(size, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.9, 0.99])
def test_the_range_comes_to_hold_what_is_bootstrapped_where_the_clock_cuts(gamma):
    cut = episodes(np.full((1, 1, 20), -1.0), [[20]])
    cut = cut.replace(terminated=jnp.zeros_like(cut.terminated), truncated=cut.terminated)
    unit = unit_after(scaling.running_range(gamma=gamma), *[cut] * 60)
    # A state that pays -1 for ever; 1200 steps reach all of it but 0.99^1200, six millionths.
    assert float(unit.up(0.0)) == pytest.approx(-1.0 / (1.0 - gamma), rel=1e-4)
    assert float(unit.up(1.0)) == 0.0


@pytest.mark.parametrize("name", ["unscaled", "running_range"])
def test_a_task_that_pays_0_or_1_at_the_end_keeps_its_unit(name):
    won, lost = np.eye(4)[None, -1:], np.zeros((1, 1, 4))
    part = {"running_range": scaling.running_range(gamma=1.0)}.get(name, SCALINGS[name])
    batches = [episodes(reward, [[4]]) for reward in (lost, won, lost)]
    unit = unit_after(part, *batches)
    assert (unit.shift, unit.size) == (0.0, 1.0)


def test_the_deviation_is_right_from_the_first_batch_on():
    part = SCALINGS["running_deviation"]
    batch, to_go = draw(3, 2.0, shift=30.0)
    unit = unit_after(part, batch)
    assert float(unit.shift) == pytest.approx(to_go.mean(), rel=1e-5)
    assert float(unit.size) == pytest.approx(to_go.std(), rel=1e-5)


@pytest.mark.parametrize(("mean", "spread"), [(500.0, 0.2), (-5000.0, 1.0), (100.0, 0.02)])
def test_the_deviation_of_returns_that_differ_by_little_is_kept(mean, spread):
    part, random = scaling.running_deviation(gamma=1.0, decay=0.99), np.random.default_rng(0)
    paid = mean + spread * random.normal(size=(600, 4, 8, 1))
    update, memory = jax.jit(part.update), part.init
    for reward in paid:
        memory = update(memory, episodes(reward, np.ones((4, 8), int)))
    unit = part.unit(memory)
    weight = 0.99 ** np.arange(599, -1, -1)
    weight /= weight.sum()
    center = np.sum(weight * paid.mean((1, 2, 3)))
    size = np.sqrt(np.sum(weight[:, None, None, None] * (paid - center) ** 2) / 32)
    # Single precision holds returns themselves to 6e-8 of the mean, here up to 6e-4 of the spread.
    assert float(unit.size) == pytest.approx(size, rel=5e-3)
    assert float(unit.shift) == pytest.approx(center, abs=5e-3 * spread)


def test_the_deviation_is_of_exponential_means_over_updates():
    drawn = [draw(seed, 2.0 + seed, shift=seed) for seed in range(5)]
    unit = unit_after(SCALINGS["running_deviation"], *(batch for batch, _ in drawn))
    # The latest batch counts most, each one before it 0.8 times as much, in all one.
    weight = 0.8 ** np.arange(4, -1, -1)
    weight /= weight.sum()
    mean = sum(w * to_go.mean() for w, (_, to_go) in zip(weight, drawn, strict=True))
    square = sum(w * (to_go**2).mean() for w, (_, to_go) in zip(weight, drawn, strict=True))
    assert float(unit.shift) == pytest.approx(mean, rel=1e-5)
    assert float(unit.size) == pytest.approx(np.sqrt(square - mean**2), rel=1e-4)


def test_equal_returns_leave_a_deviation_that_can_be_divided_by():
    batch = episodes(np.full((1, 2, 1), 0.1), np.ones((1, 2), int))
    unit = unit_after(SCALINGS["running_deviation"], batch, batch)
    assert float(unit.size) >= 1e-4 * (1 - 1e-6)
    assert np.isfinite(unit.down(jnp.float32(0.1)))
