"""Statistics against golden vectors, against scipy, and against their own promises."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import rejected
from tests.helpers import GOLDEN
from vfcompare import statistics as s
from vfcompare.report.table import show_interval


def golden(name: str) -> tuple[dict[str, Any], dict[str, Any], float]:
    item = GOLDEN[name]
    return item["inputs"], item["outputs"], item["tol"]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ["mean", "median", "iqm", "optimality_gap"])
def test_aggregates_agree_with_rliable(name: str) -> None:
    inputs, outputs, tol = golden("rliable_aggregates")
    scores = s.as_scores(np.array(inputs["scores"]))
    assert float(getattr(s, name)(scores)) == pytest.approx(outputs[name], abs=tol)


def test_performance_profiles_agree_with_rliable() -> None:
    inputs, outputs, tol = golden("rliable_perf_profile")
    scores, taus = s.as_scores(np.array(inputs["scores"])), inputs["taus"]
    np.testing.assert_allclose(s.performance_profile(scores, taus), outputs["profile"], atol=tol)


def test_variation_within_runs_agrees_with_chan() -> None:
    inputs, outputs, tol = golden("chan_iqr_within_runs")
    steps, curves = np.array(inputs["t"]), np.array(inputs["curves"])
    found = []
    for end in inputs["eval_points"]:
        # A difference belongs to the later of its two steps.
        first = np.searchsorted(steps, end - inputs["window"] + 1) - 1
        inside = slice(max(first, 0), np.searchsorted(steps, end, side="right"))
        found.append(s.within_run_variation(steps[inside], curves[:, inside]))
    np.testing.assert_allclose(np.stack(found, axis=-1), outputs["value"], atol=tol)


def test_lower_tail_of_changes_agrees_with_chan() -> None:
    inputs, outputs, tol = golden("chan_short_term_risk")
    changes = s.detrend(inputs["t"], inputs["curves"])
    found = [s.cvar(change, alpha=inputs["alpha"], tail="lower") for change in changes]
    np.testing.assert_allclose(found, outputs["value"], atol=tol)


def test_lower_tail_of_drawdown_is_blind_and_upper_tail_is_not() -> None:
    inputs, outputs, tol = golden("chan_long_term_risk_lower_as_shipped")
    curves = np.array(inputs["curves"])
    shipped = [s.cvar(s.drawdown(y), alpha=inputs["alpha"], tail="lower") for y in curves]
    np.testing.assert_allclose(shipped, outputs["value"], atol=tol)
    assert all(s.drawdown_risk(y) > 5.0 for y in curves)


def test_spread_across_runs_agrees_with_chan() -> None:
    inputs, outputs, tol = golden("chan_iqr_across_runs_nofilter")
    at = np.searchsorted(inputs["t"], inputs["eval_points"])
    spread = s.across_run_spread(inputs["curves"])
    np.testing.assert_allclose(spread[at], outputs["value"], atol=tol)


def test_lower_tail_across_runs_agrees_with_chan() -> None:
    inputs, outputs, tol = golden("chan_risk_across_runs_a40")
    at = np.searchsorted(inputs["t"], inputs["eval_points"])
    values = np.array(inputs["curves"])[:, at]
    found = [s.cvar(point, alpha=inputs["alpha"], tail="lower") for point in values.T]
    np.testing.assert_allclose(found, outputs["value"], atol=tol)


def test_drawdown_agrees_with_chan_but_of_ties_only_those_count_that_fill_the_tail() -> None:
    """Drawdowns are 4, 1, 1 and four times 0: a quarter of them are 4 and 1, not 4, 1 and 1."""
    inputs, outputs, tol = golden("chan_drawdown")
    depth = s.drawdown(inputs["seq"])
    np.testing.assert_allclose(depth, outputs["drawdown"], atol=tol)
    theirs = depth[depth >= np.quantile(depth, 0.75)].mean()
    assert theirs == pytest.approx(outputs["cvar_upper_0p25"], abs=tol)
    assert s.cvar(depth, alpha=0.25, tail="upper") == 2.5


@pytest.mark.parametrize("tail", ["lower", "upper"])
def test_the_tail_of_values_that_all_differ_is_what_lies_beyond_the_quantile(tail: Any) -> None:
    for n in range(1, 200):
        y = generator(n).random(n)
        beyond = y <= np.quantile(y, 0.05) if tail == "lower" else y >= np.quantile(y, 0.95)
        assert s.cvar(y, tail=tail) == pytest.approx(y[beyond].mean(), rel=1e-12)


@pytest.mark.parametrize(("points", "risk"), [(11, 0.5), (20, 0.5), (21, 0.25), (22, 0.25)])
def test_a_fall_is_not_thinned_out_by_drawdowns_of_nothing(points: int, risk: float) -> None:
    """With 21 points the quantile is 0 itself, and all points are at or above it."""
    y = np.ones(points)
    y[[0, 5]] = 0.0, 0.5
    assert s.drawdown_risk(y) == risk
    y[8] = 0.99
    assert s.drawdown_risk(y) >= risk
    assert s.cvar(np.r_[0.0, np.ones(39)], tail="lower") == 0.5


def test_sensitivity_agrees_with_adkins() -> None:
    inputs, outputs, tol = golden("adkins_sensitivity")
    found = s.sensitivity(inputs["normalised_perf_alg_env_setting"])
    for name, value in outputs.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=tol)


def test_the_scale_of_scores_needs_both_references() -> None:
    scale = s.ScoreScale(random=2.0, optimal=4.0)
    assert scale.scores([2.0, 3.0]).tolist() == [0.0, 0.5]
    assert scale.as_return(0.5) == 3.0
    for unknown in (s.ScoreScale(2.0, None), s.ScoreScale(None, 4.0), s.ScoreScale(2.0, 2.0)):
        assert not unknown.known
        assert unknown.scores([2.0, 3.0]).tolist() == [2.0, 3.0]
        assert unknown.as_return(3.0) == 3.0


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 10, 20, 30])
def test_iqm_is_scipy_trim_mean(n: int) -> None:
    values = generator(n).normal(size=n)
    assert float(s.iqm([values])) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-12)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 10, 21])
def test_equal_weights_trim_as_none(n: int) -> None:
    values = generator(n).normal(size=(6, n))
    weighted = s.trim_mean(values, np.full(n, 1.0 / n))
    np.testing.assert_allclose(weighted, s.trim_mean(values), atol=1e-12)


def test_every_task_weighs_the_same_however_many_runs_it_has() -> None:
    """Of the weight a half is each task's, and int(25 / 4) / 25 is cut at both ends."""
    tasks = [np.full(20, 0.9), np.full(5, 0.1)]
    assert float(s.iqm(tasks)) == pytest.approx(0.5)
    assert float(s.optimality_gap(tasks)) == pytest.approx(0.5)
    interval = s.bootstrap(generator(), tasks, s.iqm)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_runs_on_the_edge_count_with_what_lies_inside() -> None:
    """Of the sorted weights 1/6, 1/2, 1/6, 1/6 a quarter is cut at both ends."""
    tasks = [np.array([1.0]), np.array([0.0, 2.0, 3.0])]
    inside = {1.0: 0.5 - 1 / 12, 2.0: 1 / 12}
    expected = sum(value * weight for value, weight in inside.items()) / 0.5
    assert float(s.iqm(tasks)) == pytest.approx(expected)


@pytest.mark.statistical
def test_bootstrap_agrees_with_scipy() -> None:
    values = generator(1).gamma(2.0, size=25)
    mine = rejected.bootstrap(generator(2), [values], s.mean, reps=20_000, method="percentile")
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=generator(3)
    ).confidence_interval
    # the error of a 2.5% quantile from 20,000 draws is about 0.02 standard errors of the mean
    tol = 0.1 * values.std() / 5
    assert mine.low == pytest.approx(theirs.low, abs=tol)
    assert mine.high == pytest.approx(theirs.high, abs=tol)


@pytest.mark.parametrize("sizes", [(25,), (15, 12)])
def test_bca_agrees_with_scipy(sizes: tuple[int, ...]) -> None:
    """On scipy's own resamples; a mean over tasks is its statistic of several samples."""
    tasks = [generator(30 + i).gamma(2.0, size=size) for i, size in enumerate(sizes)]
    theirs = stats.bootstrap(
        tuple(tasks),
        lambda *samples, axis: np.mean([x.mean(axis) for x in samples], axis=0),
        n_resamples=2000,
        method="BCa",
        rng=generator(33),
    )
    replicates = theirs.bootstrap_distribution
    levels = rejected.bca_levels(
        float(s.mean(tasks)), replicates, rejected.jackknife(tasks, s.mean)
    )
    found = np.quantile(replicates, levels)
    np.testing.assert_allclose(found, theirs.confidence_interval, rtol=1e-9)


def test_bootstrap_is_stratified_by_task() -> None:
    """Tasks on very different levels widen no interval, since each keeps its share of runs."""
    near, far = generator(4).normal(0, 1, 20), generator(5).normal(1000, 1, 20)
    interval = s.bootstrap(generator(6), [near, far], s.mean)
    assert interval.high is not None
    assert interval.low is not None
    assert interval.high - interval.low < 2.0


@pytest.mark.parametrize("n", [5, 10, 30])
def test_expansion_undoes_what_resampling_loses(n: int) -> None:
    """Of a normal bootstrap distribution it cuts off where Student's interval ends."""
    tail = s.expanded_tail(0.95, n=n)
    half = -stats.norm.ppf(tail) * math.sqrt((n - 1) / n)
    assert half == pytest.approx(stats.t.ppf(0.975, n - 1), rel=1e-9)


def test_expanded_interval_of_many_runs_is_the_percentile_interval() -> None:
    assert s.expanded_tail(0.95, n=100_000) == pytest.approx(0.025, abs=1e-5)
    replicates = np.arange(1000.0)
    many = s.percentile_interval(500.0, replicates, n=100_000)
    wide = s.percentile_interval(500.0, replicates, n=10)
    assert many.low == pytest.approx(25.0, abs=1.0)
    assert many.high == pytest.approx(974.0, abs=1.0)
    assert wide.low is not None
    assert wide.low < 25.0


def test_improvement_keeps_its_width_where_one_agent_always_wins() -> None:
    x, y = np.arange(5.0) + 10, np.arange(5.0)
    interval = s.improvement_interval([x], [y])
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert interval.low is not None
    theta, z = interval.low, stats.norm.ppf(0.975)
    variance = (
        theta * (1 - theta) / 25 * (1 + 4 * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
    )
    assert (1 - theta) ** 2 == pytest.approx(z * z * variance, rel=1e-6)
    resampled = rejected.improvement(generator(), [x], [y], reps=2000)
    assert (resampled.low, resampled.high) == (1.0, 1.0)


def test_improvement_interval_does_not_care_who_is_first() -> None:
    x, y = generator(34).normal(size=(2, 9))
    one = s.improvement_interval([x, y], [y, y + 0.5])
    other = s.improvement_interval([y, y + 0.5], [x, y])
    assert one.low is not None
    assert one.high is not None
    assert other.low == pytest.approx(1 - one.high, abs=1e-9)
    assert other.high == pytest.approx(1 - one.low, abs=1e-9)


def test_profile_band_of_one_task_is_wilson() -> None:
    estimate, low, high = s.profile_interval([np.arange(10.0)], [-1.0, 6.5])
    assert low is not None
    assert high is not None
    np.testing.assert_allclose(estimate, [1.0, 0.3])
    for i, count in enumerate((10, 3)):
        rate = s.rate_interval(count, 10)
        assert (low[i], high[i]) == pytest.approx((rate.low, rate.high))
    assert s.profile_interval([np.arange(2.0)], [0.0])[1] is None


def test_probability_of_improvement_is_mann_whitney() -> None:
    x = generator(7).integers(0, 6, 15).astype(np.float64)
    y = generator(8).integers(1, 7, 12).astype(np.float64)
    expected = stats.mannwhitneyu(x, y).statistic / (x.size * y.size)
    assert s.probability_of_improvement([x], [y]) == pytest.approx(expected, abs=1e-12)


def test_probability_of_improvement_of_an_agent_over_itself_is_one_half() -> None:
    x = generator(9).normal(size=11)
    assert s.probability_of_improvement([x], [x]) == 0.5
    assert s.paired_probability_of_improvement([x - x]) == 0.5


def test_rank_differences_average_to_the_probability_of_improvement() -> None:
    x, y = generator(10).normal(size=(2, 17)).round(1)
    shift = float(s.mean(s.rank_differences([x], [y])))
    assert 0.5 + shift == pytest.approx(s.probability_of_improvement([x], [y]), abs=1e-12)


def test_sign_flip_test_agrees_with_scipy() -> None:
    d = generator(11).normal(0.4, 1.0, 10)
    expected = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert s.sign_flip_test(generator(), [d]) == pytest.approx(expected, abs=1e-12)


def test_sign_flips_of_many_patterns_are_counted_in_parts_as_at_once() -> None:
    d = generator(3).normal(0.4, 1.0, 17)
    exact = s.sign_flip_test(generator(), [d], reps=2**17)
    want = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert exact == pytest.approx(want, abs=1e-12)
    many = s.sign_flip_test(generator(), [d], reps=100_000)
    assert abs(many - exact) < 4 * s.sampling_error(exact, reps=100_000)


def test_rounded_numbers_differ_where_more_than_rounding_does() -> None:
    assert s.rounded(0.1 + 0.2) == 0.3
    assert s.rounded(1.0 - 2**-53) == 1.0
    assert s.rounded(3e-17) == 0.0
    assert s.rounded(1.0 + 1e-9) > 1.0
    assert s.rounded(500.0 / 3.0) == pytest.approx(500.0 / 3.0, rel=1e-11)


def test_few_pairs_cannot_be_significant() -> None:
    assert s.sign_flip_test(generator(), [np.array([1.0, 2.0, 3.0])]) == 0.25
    assert s.sign_flip_test(generator(), [np.arange(1.0, 6.0)]) == 0.0625


def test_pairing_removes_what_the_seeds_share() -> None:
    shared = generator(12).normal(0, 10, 20)
    noise = generator(13).normal(0, 0.1, (2, 20))
    x, y = shared + 1.0 + noise[0], shared + noise[1]
    interval = s.bootstrap(generator(14), s.differences([x], [y]), s.mean)
    assert interval.excludes(0.0)
    assert interval.estimate == pytest.approx(1.0, abs=0.15)


def test_holm_steps_down_and_stops() -> None:
    """0.01 * 3, 0.02 * 2, then 0.2 * 1: the last is not rejected; Holm's textbook case."""
    decisions = s.holm([0.2, 0.01, 0.02])
    assert [d.p_adjusted for d in decisions] == pytest.approx([0.2, 0.03, 0.04])
    assert [d.rejected for d in decisions] == [False, True, True]
    assert [d.confidence for d in decisions] == pytest.approx([0.95, 1 - 0.05 / 3, 0.975])


def test_holm_does_not_resume_after_a_stop() -> None:
    decisions = s.holm([0.03, 0.04, 0.045])
    assert not any(d.rejected for d in decisions)
    assert {d.confidence for d in decisions} == {1 - 0.05 / 3}
    assert s.holm([]) == []


def test_area_is_the_mean_height() -> None:
    """A ramp from 0 to 1 over [0, 10] has mean height 0.25 on [0, 5], also on an uneven grid."""
    steps = np.array([0.0, 1.0, 4.0, 10.0])
    assert s.area_under_curve(steps, steps / 10, 0.0, 5.0) == pytest.approx(0.25)
    assert s.area_under_curve([0, 10], [3, 3], 2.0, 7.0) == pytest.approx(3.0)


def test_a_curve_that_overshoots_its_budget_keeps_its_value_at_the_end():
    knots, heights = s.restrict([0, 50, 95, 105], [0.0, 0.2, 0.4, 0.8], 0, 100)
    assert list(knots) == [0, 50, 95, 100]
    np.testing.assert_allclose(heights, [0.0, 0.2, 0.4, 0.6])
    assert s.final([0, 50, 95, 105], [0.0, 0.2, 0.4, 0.8], 0, 100) == pytest.approx(0.5)
    assert s.final([0, 50, 95, 100], [0.0, 0.2, 0.4, 0.8], 0, 100) == pytest.approx(0.6)
    assert s.final([0, 50, 110], [0.0, 0.2, 0.8], 0, 100) == pytest.approx(0.7)


def test_area_refuses_to_extrapolate() -> None:
    with pytest.raises(ValueError, match="covers 0 to 10"):
        s.area_under_curve([0, 10], [0, 1], 0.0, 11.0)


def test_kaplan_meier_by_hand() -> None:
    """Arrivals at 1, 2, 4 and a run lost at 3: S = 3/4, 1/2, then 1/2 * (1 - 1/1) = 0."""
    survival = s.kaplan_meier([1, 2, 3, 4], [True, True, False, True])
    np.testing.assert_allclose(survival.surviving, [0.75, 0.5, 0.0])
    assert s.survival_median(survival) == 2.0
    # 1 on [0, 1], 3/4 on [1, 2], 1/2 on [2, 4]
    assert s.restricted_mean(survival, 4.0) == pytest.approx(1 + 0.75 + 1.0)


def test_kaplan_meier_agrees_with_scipy() -> None:
    rng = generator(15)
    time, event = rng.integers(1, 30, 40) * 1.0, rng.random(40) < 0.7
    survival = s.kaplan_meier(time, event)
    data = stats.CensoredData(uncensored=time[event], right=time[~event])
    theirs = stats.ecdf(data).sf
    np.testing.assert_allclose(survival.surviving, theirs.evaluate(survival.steps), atol=1e-12)


def test_unsolved_runs_are_kept() -> None:
    """Dropping the six censored runs would report a median of 10."""
    steps, reached = [10.0] * 4 + [100.0] * 6, [True] * 4 + [False] * 6
    median, area = s.arrival_intervals(generator(16), steps, reached, horizon=100.0)
    assert median.estimate == math.inf
    assert area.estimate == pytest.approx(0.4 * 10 + 0.6 * 100)
    assert median.high == math.inf


def test_nobody_arrives() -> None:
    median, area = s.arrival_intervals(generator(), [50.0] * 5, [False] * 5, horizon=50.0)
    assert (median.estimate, area.estimate) == (math.inf, 50.0)
    assert (area.low, area.high, area.n) == (None, None, 5)
    assert show_interval(area) == "50.0"
    assert show_interval(area._replace(n=2)) == "50.0 (insufficient)"


def test_what_nobody_watched_has_no_restricted_mean() -> None:
    """Everyone was left at 10 of 100, below the threshold: 100 would be a guess."""
    for reached in ([False] * 5, [True] * 2 + [False] * 3):
        median, area = s.arrival_intervals(generator(), [10.0] * 5, reached, horizon=100.0)
        assert median.estimate == math.inf
        assert math.isnan(area.estimate)
        assert (area.low, area.high) == (None, None)
    all_arrived = s.kaplan_meier([10.0, 20.0], [True, True])
    assert s.restricted_mean(all_arrived, 100.0) == 15.0
    one_stayed = s.kaplan_meier([10.0, 20.0, 100.0], [True, False, False])
    assert s.restricted_mean(one_stayed, 100.0) == pytest.approx(10 + 90 * 2 / 3)


def test_bootstrap_of_arrivals_reproduces_the_estimate_without_spread() -> None:
    median, area = s.arrival_intervals(generator(), [7.0] * 6, [True] * 6, horizon=20.0)
    assert median == s.Interval(7.0, 7.0, 7.0, 6)
    assert area == s.Interval(7.0, None, None, 6)


def rise_and_fall(best: float, end: float, points: int = 21) -> s.Array:
    """Learns over a third of the budget, holds, and falls within a tenth of it."""
    return np.interp(np.linspace(0, 1, points), [0, 0.3, 0.6, 0.7, 1], [0, best, best, end, end])


@pytest.mark.parametrize(
    ("best", "end", "expected"),
    [(1.0, 0.9, False), (1.0, 0.49, True), (1.0, 0.51, False), (0.05, 0.0, False)],
)
def test_collapse_needs_something_to_lose(best: float, end: float, expected: bool) -> None:
    assert s.collapsed(rise_and_fall(best, end), floor=0.0, span=1.0) is expected


def test_one_bad_evaluation_is_no_collapse_and_one_good_one_nothing_to_lose() -> None:
    steady = np.full(21, 0.9)
    assert not s.collapsed([*steady[:-1], 0.0], floor=0.0, span=1.0)
    assert not s.collapsed([*np.zeros(10), 0.25, *np.zeros(10)], floor=0.0, span=1.0)


@pytest.mark.parametrize("points", range(1, 4))
def test_of_three_evaluations_nothing_can_be_told(points: int) -> None:
    assert not s.collapsed(np.linspace(1.0, 0.0, points), floor=0.0, span=1.0)


def outcomes(seed: int, success: s.Array | float, points: int) -> s.Array:
    """`[2000, points]`, evaluations of 32 episodes that succeed or not."""
    return generator(seed).binomial(32, success, (2000, points)) / 32


@pytest.mark.statistical
@pytest.mark.parametrize("points", [11, 21, 41])
@pytest.mark.parametrize("success", [0.05, 0.22, 0.5])
def test_a_policy_that_never_changes_does_not_collapse(points: int, success: float) -> None:
    """The random policy's own success is the floor; the highest of 21 evaluations called 91% of these
    2,000 runs collapsed. The rate is 1.5% at most, of 20,000 other runs; three standard errors of
    0.3 points are added.
    """
    curves = outcomes(50, success, points)
    found = [s.collapsed(y, floor=success, span=1 - success) for y in curves]
    assert np.mean(found) <= 0.015 + 3 * 0.003


@pytest.mark.statistical
@pytest.mark.parametrize("points", [11, 21, 41])
def test_a_policy_that_loses_what_it_learned_collapses(points: int) -> None:
    """From 0.9 to 0.1 in evaluations of 32 episodes: all of 2,000 runs but for chance in one of a hundred."""
    curves = outcomes(51, rise_and_fall(0.9, 0.1, points), points)
    assert np.mean([s.collapsed(y, floor=0.0, span=1.0) for y in curves]) >= 0.99


@pytest.mark.statistical
def test_noise_alone_draws_down() -> None:
    """Why the method warns of it: evaluations that deviate by 0.073 have a mean risk of 0.239, of 2,000
    other runs. A run's deviates by 0.06, so that four standard errors are 0.005.
    """
    risks = [s.drawdown_risk(y) for y in outcomes(52, 0.22, 21)]
    assert np.mean(risks) == pytest.approx(0.239, abs=0.01)


def halves(seed: int, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluations `[runs, points]` of 32 episodes that pass or do not, and their splits."""
    first, last = np.random.default_rng(seed).binomial(16, chances, (2, *chances.shape)) / 16
    return (first + last) / 2, (first - last) / 2


@pytest.mark.statistical
@pytest.mark.parametrize("points", [11, 41])
@pytest.mark.parametrize("height", [0.2, 0.5, 0.95])
@pytest.mark.parametrize("by", [0.0, 0.5, 1.0])
def test_who_never_falls_has_no_drawdown_beyond_noise(
    points: int, height: float, by: float
) -> None:
    """The mean of 1,000 runs that rise to a height and stay: plain drawdowns are 0.07 to 0.33.

    Other runs have at most 0.018, where they rise to the end: so much is the method's own. The standard
    error of a mean is 0.003 at most.
    """
    chances = height * np.clip(np.linspace(0.0, 1.0, points) / max(by, 1e-9), 0.0, 1.0)
    curves, splits = halves(53, np.tile(chances, (1000, 1)))
    found = [s.drawdown_beyond_noise(*run) for run in zip(curves, splits, strict=True)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.028)


@pytest.mark.statistical
@pytest.mark.parametrize("fall", [0.3, 0.5, 0.8])
def test_a_fall_beyond_noise_has_its_depth(fall: float) -> None:
    """From 0.9 for good, in 400 runs of 21 evaluations; the deepest two of eleven alike are chosen."""
    chances = np.where(np.arange(21) < 10, 0.9, 0.9 - fall)
    curves, splits = halves(54, np.tile(chances, (400, 1)))
    found = [s.drawdown_beyond_noise(*run) for run in zip(curves, splits, strict=True)]
    assert np.mean(found) == pytest.approx(fall, abs=0.04)


def test_a_drawdown_does_not_hang_on_the_last_bit_of_equal_evaluations() -> None:
    """Halves of 16 episodes tie often: in a fifth of these runs the first of equals gave another number."""
    curves, splits = halves(56, np.tile(np.linspace(0.2, 0.6, 11), (300, 1)))
    rng = np.random.default_rng(57)
    for y, d in zip(curves, splits, strict=True):
        found = s.drawdown_beyond_noise(y, d)
        noise = rng.uniform(-1e-14, 1e-14, (2, y.size))
        assert s.drawdown_beyond_noise(y + noise[0], d + noise[1]) == pytest.approx(
            found, abs=1e-12
        )
        assert 3.0 * s.drawdown_beyond_noise(y / 3.0, d / 3.0) == pytest.approx(found, abs=1e-12)


def test_of_equal_bests_and_equal_falls_the_mean_counts() -> None:
    chooses, measures = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.95, 0.85, 0.1, 0.2])
    y, d = (chooses + measures) / 2, (chooses - measures) / 2
    one = np.mean([0.95, 0.85]) - np.mean([0.1, 0.2])
    # The other half has one best, and falls deepest at one.
    assert s.drawdown_beyond_noise(y, d) == pytest.approx((one + 1.0) / 2)


def test_without_noise_the_drawdown_is_the_drawdown() -> None:
    curves = np.random.default_rng(55).uniform(size=(50, 30))
    for y in curves:
        assert s.drawdown_beyond_noise(y, np.zeros(30)) == s.drawdown_risk(y)


@pytest.mark.statistical
@pytest.mark.parametrize("points", [11, 41])
@pytest.mark.parametrize("height", [0.2, 0.5, 0.95])
def test_who_stays_does_not_vary_beyond_noise(points: int, height: float) -> None:
    """The mean of 2,000 runs: plain variations are 0.006 to 0.07, by height alone."""
    steps = np.linspace(0.0, 100.0, points)
    curves, splits = halves(56, np.full((2000, points), height))
    noise = s.within_run_variation(steps, curves)
    found = [s.variation_beyond_noise(steps, *run) for run in zip(curves, splits, strict=True)]
    assert noise.mean() > 0.006
    assert np.mean(found) == pytest.approx(0.0, abs=5 * np.std(found) / np.sqrt(2000))


@pytest.mark.statistical
@pytest.mark.parametrize(("size", "share"), [(0.1, 0.68), (0.2, 0.95), (0.3, 1.0)])
def test_who_wanders_varies_beyond_noise(size: float, share: float) -> None:
    """2,000 runs whose chances are drawn anew at each of 41 evaluations, up to `size` about 0.5.

    The root of a number that noise moves is too small on average: of what is less than noise, which is
    0.066, a share is found, and of what is more nearly all. Means have a standard error of 0.001.
    """
    steps = np.linspace(0.0, 100.0, 41)
    chances = 0.5 + np.random.default_rng(57).uniform(-size, size, (2000, 41))
    found = [
        s.variation_beyond_noise(steps, *run) for run in zip(*halves(58, chances), strict=True)
    ]
    true = s.within_run_variation(steps, chances).mean()
    assert np.mean(found) == pytest.approx(share * true, abs=0.005)


def test_without_noise_the_variation_is_the_variation() -> None:
    steps = np.linspace(0.0, 100.0, 30)
    for y in np.random.default_rng(59).uniform(size=(20, 30)):
        found = s.variation_beyond_noise(steps, y, np.zeros(30))
        assert found == pytest.approx(s.within_run_variation(steps, y))


@pytest.mark.parametrize("n", range(3, 40))
def test_wilson_interval_of_none_and_of_all_ends_exactly_there(n: int) -> None:
    assert s.rate_interval(0, n).low == 0.0
    assert s.rate_interval(n, n).high == 1.0


def test_wilson_interval_agrees_with_scipy() -> None:
    for count in (0, 3, 20):
        interval = s.rate_interval(count, 20)
        theirs = stats.binomtest(count, 20).proportion_ci(method="wilson")
        assert interval.low == pytest.approx(theirs.low, abs=1e-9)
        assert interval.high == pytest.approx(theirs.high, abs=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    values = np.array([0.0, bad, 1.0])
    with pytest.raises(ValueError, match="1 of 3"):
        s.bootstrap(generator(), [values])
    with pytest.raises(ValueError, match="1 of 3"):
        s.area_under_curve([0, 1, 2], values, 0, 2)
    with pytest.raises(ValueError, match="1 of 3"):
        s.drawdown(values)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_runs_give_no_interval(n: int) -> None:
    values = np.arange(float(n))
    assert not s.bootstrap(generator(), [values]).sufficient
    assert not s.improvement_interval([values], [values]).sufficient
    assert s.curve_interval(generator(), values[:, None])[1] is None


def test_the_weakest_task_decides_whether_runs_suffice() -> None:
    assert not s.bootstrap(generator(), [np.arange(9.0), np.arange(2.0)]).sufficient


def test_equal_generators_give_equal_intervals() -> None:
    values = [generator(17).normal(size=12)]
    assert s.bootstrap(generator(3), values) == s.bootstrap(generator(3), values)


def test_curve_band_is_the_pointwise_bootstrap() -> None:
    curves = generator(18).normal(size=(12, 3))
    estimate, low, high = s.curve_interval(generator(19), curves, reps=500)
    assert low is not None
    assert high is not None
    for point in range(3):
        alone = s.bootstrap(generator(19), [curves[:, point]], reps=500)
        found = (estimate[point], low[point], high[point])
        assert found == pytest.approx((alone.estimate, alone.low, alone.high), rel=1e-12)
    assert np.all((low < estimate) & (estimate < high))
    assert estimate[1] == pytest.approx(stats.trim_mean(curves[:, 1], 0.25))


@pytest.mark.parametrize(
    ("runs", "confidence"),
    [(5, 0.9), (5, 0.95), (30, 0.9), (30, 0.95), (30, 1 - 0.05 / 36)],
)
def test_the_ends_for_a_mean_of_normal_runs_are_students(runs: int, confidence: float) -> None:
    # What resampling a normal sample of deviation 1 gives of its mean, in standard errors.
    levels = (np.arange(200_000) + 0.5) / 200_000
    replicates = stats.norm.ppf(levels) * math.sqrt((runs - 1) / runs)
    found = s.percentile_interval(0.0, replicates, n=runs, confidence=confidence)
    end = stats.t.ppf(1 - (1 - confidence) / 2, runs - 1)
    assert (found.low, found.high) == pytest.approx((-end, end), rel=2e-2)
    assert (found.n, found.confidence) == (runs, confidence)


def test_an_interval_never_goes_beyond_its_replicates() -> None:
    replicates = np.linspace(-1.0, 1.0, 2000)
    found = s.percentile_interval(0.0, replicates, n=5, confidence=1 - 0.05 / 36)
    assert (found.low, found.high) == (-1.0, 1.0)


def test_normalisation_needs_an_order() -> None:
    np.testing.assert_allclose(s.normalise([0, 5, 10], 0, 10), [0, 0.5, 1])
    with pytest.raises(ValueError, match="not above"):
        s.normalise([1.0], 2.0, 2.0)


def test_power_of_student_agrees_with_a_textbook() -> None:
    """Cohen, 1988: d = 0.5 needs 34 pairs for 80% at two-sided 5%."""
    assert s.pairs_needed(0.5, 1.0) == 34
    assert s.power(0.5, 1.0, 34) == pytest.approx(0.8078, abs=1e-4)
    assert s.power(0.0, 1.0, 50) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("pairs", [6, 10, 40])
def test_the_least_detectable_effect_has_the_power_it_is_named_for(pairs: int) -> None:
    effect = s.minimum_detectable_effect(2.0, pairs, share=0.9)
    assert s.power(effect, 2.0, pairs) == pytest.approx(0.9, abs=1e-6)
    assert s.pairs_needed(1.001 * effect, 2.0, share=0.9) == pairs


def test_what_cannot_be_found_is_said_so() -> None:
    assert s.attainable_level(5) == 0.0
    assert s.attainable_level(6) == 2 / 64
    assert s.power(9.0, 1.0, 5) == 0.0
    assert s.minimum_detectable_effect(1.0, 5) == math.inf
    assert s.pairs_needed(1e-9, 1.0) is None
    with pytest.raises(ValueError, match="power must be"):
        s.minimum_detectable_effect(1.0, 10, share=1.0)


def test_differences_that_are_all_equal_are_found_where_the_test_can_reject() -> None:
    assert s.power(0.5, 0.0, 10) == s.power(-0.5, 0.0, 10) == 1.0
    assert s.power(0.5, 0.0, 5) == s.power(0.0, 0.0, 10) == 0.0
    assert s.pairs_needed(0.5, 0.0) == 6
    assert s.minimum_detectable_effect(0.0, 10) == 0.0


def test_power_is_known_for_effects_that_scipy_has_no_number_for() -> None:
    sizes = np.geomspace(0.01, 1e20, 200)
    found = np.array([s.power(size, 1.0, pairs) for size in sizes for pairs in (6, 10, 30)])
    assert np.isfinite(found).all()
    assert found.max() == 1.0


@pytest.mark.statistical
def test_pairing_saves_seeds_by_what_the_seeds_share() -> None:
    """Correlation 0.75 leaves a quarter of the variance."""
    common, own = generator(39).normal(size=100_000), generator(40).normal(size=(2, 100_000))
    x, y = math.sqrt(3) * common + own
    ratio = s.paired_spread([x], [y]) / s.independent_spread([x], [y])
    # the standard error of a squared ratio is about 0.25 * sqrt(4 / n)
    assert ratio**2 == pytest.approx(0.25, abs=0.01)


@pytest.mark.statistical
@pytest.mark.parametrize("pairs", [6, 8, 10, 20])
def test_planted_differences_are_found_at_the_stated_power(pairs: int) -> None:
    """1,000 studies: 1.3 points standard error. Student's power is 7 points too high at six pairs,
    where the test has 64 patterns, and within 3 from eight on; three errors are added.
    """
    rng = generator(41)
    effect = s.minimum_detectable_effect(1.0, pairs)
    draws = rng.normal(effect, 1.0, size=(1000, pairs))
    found = np.mean([s.sign_flip_test(rng, [d], reps=1024) <= 0.05 for d in draws])
    below = 0.07 if pairs == 6 else 0.03
    assert -below - 0.04 <= found - 0.8 <= 0.04


@pytest.mark.statistical
@pytest.mark.parametrize("seeds", [7, 20])
def test_planted_differences_on_several_tasks_are_claimed_at_the_stated_power(seeds: int) -> None:
    """300 studies, three errors of 2.3 points: the test and the interval of three tasks must agree."""
    rng, alpha, claimed = generator(62), 0.05 / 4, 0
    effect = s.minimum_detectable_effect(1.0, 3 * seeds, alpha=alpha, tasks=3)
    assert effect > s.minimum_detectable_effect(1.0, 3 * seeds, alpha=alpha)
    assert s.pairs_needed(1.001 * effect, 1.0, alpha=alpha, tasks=3) == 3 * seeds
    for _ in range(300):
        tasks = [rng.normal(effect, 1.0, seeds) for _ in range(3)]
        p = s.sign_flip_test(rng, tasks, reps=4000)
        interval = s.bootstrap(rng, tasks, s.mean, reps=10_000, confidence=1.0 - alpha)
        claimed += p <= alpha and interval.excludes(0.0)
    assert claimed / 300 == pytest.approx(0.8, abs=0.07)


def test_effective_dimensionality_counts_what_must_be_tuned() -> None:
    """Two environments want opposite values of the first parameter and the same of the second."""
    scores = np.zeros((2, 2, 2))
    scores[0, 0], scores[0, 1] = [0.5, 1.0], [0.3, 0.6]
    scores[1, 0], scores[1, 1] = [0.3, 0.5], [0.5, 1.0]
    # 0.8 with none, 1.0 with the first: the line passes 0.95 at three quarters
    assert s.effective_dimensionality(scores) == pytest.approx(0.75)
    assert s.effective_dimensionality(scores, share=1.0) == pytest.approx(1.0)


def test_effective_dimensionality_begins_at_the_cross_environment_score() -> None:
    scores = generator(43).uniform(size=(5, 3, 4, 2))
    ends = s.sensitivity(scores.reshape(1, 5, -1))
    share = float(ends.cross_env_tuned[0] / ends.per_env_tuned[0])
    assert s.effective_dimensionality(scores, share=share - 1e-9) == 0
    assert 0 < s.effective_dimensionality(scores, share=share + 1e-3) < 1
    assert s.effective_dimensionality(scores, share=1.0) <= 3
    with pytest.raises(ValueError, match="positive"):
        s.effective_dimensionality(-scores)


def test_no_tuning_is_needed_where_environments_agree() -> None:
    same = np.broadcast_to(generator(44).uniform(size=(3, 3)), (4, 3, 3))
    assert s.effective_dimensionality(same) == 0


@pytest.mark.statistical
def test_an_agent_does_not_beat_itself() -> None:
    """A/A: two agents of one distribution are told apart in at most 5% of studies.

    Of 400 studies 5% are 20, with standard error 4.4; a correct test stays below 34 (three of
    them).
    """
    rng = generator(21)
    pairs = rng.normal(size=(400, 2, 12))
    p = [s.sign_flip_test(rng, [x - y], reps=999) for x, y in pairs]
    assert 6 <= np.sum(np.array(p) <= 0.05) <= 33


@pytest.mark.statistical
@pytest.mark.parametrize(("apart", "alone"), [(0.1, 0.45), (0.2, 0.04)])
def test_unlike_effects_of_tasks_are_noise_to_the_test(apart: float, alone: float) -> None:
    """Of 200 studies of 3 tasks with 20 pairs, as docs/statistics.md has it; within three errors."""
    rng, within = generator(31), 0.08
    effects = np.array([-apart, 0.0, apart])
    together = float(np.hypot(within, effects.std()))

    def found(spread: float) -> float:
        mean = s.minimum_detectable_effect(spread, 60)
        tests = [
            s.sign_flip_test(rng, [rng.normal(mean + e, within, 20) for e in effects], reps=999)
            for _ in range(200)
        ]
        return float(np.mean(np.array(tests) <= 0.05))

    assert found(within) == pytest.approx(alone, abs=0.105)
    assert found(together) > 0.8 - 0.085


@pytest.mark.statistical
def test_holm_keeps_the_family_error_under_the_null() -> None:
    """Ten true nulls: one false claim in at most 5% of 200 families, within three errors."""
    rng = generator(22)
    wrong = 0
    for _ in range(200):
        p = [s.sign_flip_test(rng, [rng.normal(size=10)]) for _ in range(10)]
        wrong += any(d.rejected for d in s.holm(p))
    assert wrong <= 19


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 4, 0.05 / 36, 0.05 / 600])
def test_the_fewest_pairs_that_can_reject_are_the_first_that_can(alpha):
    pairs = s.pairs_to_reject(alpha)
    assert s.attainable_level(pairs, alpha) > 0.0
    assert s.attainable_level(pairs - 1, alpha) == 0.0
    flips = s.attainable_level(20, alpha, reps=10_000)
    assert flips <= alpha
    assert (flips > 0.0) == (alpha >= 1 / 10_001)


def test_an_interval_that_misses_zero_by_rounding_excludes_nothing():
    assert not s.Interval(1e-18, 1e-18, 2e-18, 10).excludes(0.0)
    assert not s.Interval(-1e-18, -2e-18, -1e-18, 10).excludes(0.0)
    assert s.Interval(0.1, 1e-9, 0.2, 10).excludes(0.0)
    assert not s.Interval(0.1, None, None, 2).excludes(0.0)
    assert s.Interval(0.1, 0.0, 0.3, 10).negative == s.Interval(-0.1, -0.3, 0.0, 10)


def studies_of_settings(rng, seeds=20, tasks=4, shared=0.5):
    """Differences on settings of one environment, which have a seed's worth in common."""
    own, common = rng.standard_normal((tasks, seeds)), rng.standard_normal(seeds)
    return [*(math.sqrt(shared) * common + math.sqrt(1 - shared) * own)]


@pytest.mark.statistical
def test_settings_of_one_environment_keep_the_promises_only_if_a_seed_is_one_draw():
    """Of 500 studies without a difference 25 may be missed and 25 claimed; three errors of 4.9."""
    rng, units = generator(61), s.units_of([range(20)] * 4)
    joint, apart, missed = 0, 0, 0
    for _ in range(500):
        found = studies_of_settings(rng)
        joint += s.sign_flip_test(rng, found, units=units, reps=999) <= 0.05
        apart += s.sign_flip_test(rng, found, reps=999) <= 0.05
        missed += s.bootstrap(rng, found, s.mean, units=units, reps=999).excludes(0.0)
    assert 10 <= joint <= 40
    assert 10 <= missed <= 40
    assert apart > 75


def test_runs_of_a_unit_are_drawn_together_and_what_a_task_lacks_is_drawn_from_its_own():
    seeds = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 7], [8, 9]]
    draws = s.draw(generator(), [5, 5, 3, 2], s.units_of(seeds), reps=4000)
    first, second, third, alone = (
        np.array(own)[index] for own, index in zip(seeds, draws, strict=True)
    )
    # of the six seeds of the three, five are drawn for the first two alike, and two for all
    assert np.mean(first == second) == pytest.approx(5 / 6 + 1 / 6 / 5, abs=0.02)
    assert np.mean(third == first[:, :3]) == pytest.approx(2 / 6, abs=0.02)
    for values, own in zip((first, third, alone), (seeds[0], *seeds[2:]), strict=True):
        shares = [np.mean(values == seed) for seed in own]
        np.testing.assert_allclose(shares, 1 / len(own), atol=0.02)
    assert abs(np.corrcoef(first[:, 0], alone[:, 0])[0, 1]) < 0.05


def test_what_shares_no_unit_is_drawn_and_flipped_as_ever():
    found = [generator(1).normal(0.3, 1, 8), generator(2).normal(0.3, 1, 6)]
    apart = s.units_of([[("maze", i) for i in range(8)], [("lock", i) for i in range(6)]])
    assert apart is None
    numbered = [np.arange(8), np.arange(8, 14)]
    assert s.bootstrap(generator(), found, units=numbered) == s.bootstrap(generator(), found)
    assert s.sign_flip_test(generator(), found, units=numbered) == s.sign_flip_test(
        generator(), found
    )


def test_two_tasks_with_the_same_runs_tell_no_more_than_one():
    one, same = generator(3).normal(0.5, 1.0, 10), s.units_of([range(10)] * 2)
    flipped = s.sign_flip_test(generator(), [one, one], units=same)
    assert flipped == s.sign_flip_test(generator(), [one])
    once = s.bootstrap(generator(), [one], s.mean, reps=4000)
    twice = s.bootstrap(generator(), [one, one], s.mean, units=same, reps=4000)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=0.05)
    assert s.dependence(same) == pytest.approx(2.0)
    wins = s.improvement_interval([one, one], [-one, -one], units=same)
    alone = s.improvement_interval([one], [-one])
    assert wins[:3] == pytest.approx(alone[:3])
    assert s.rate_interval(6, 20, units=same)[1:3] == pytest.approx(s.rate_interval(3, 10)[1:3])


def test_rates_that_a_count_leaves_open():
    assert (1 - s.largest_rate(0, 10)) ** 10 == pytest.approx(0.05)
    assert s.largest_rate(1, 20) == s.rate_interval(1, 20).high
    assert s.largest_rate(10, 10) == 1.0
