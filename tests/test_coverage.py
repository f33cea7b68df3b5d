"""Intervals and verdicts of the report, on scores whose truth is known: reduced `benchmarks.coverage`."""

import math

import numpy as np
import pytest

from benchmarks import coverage, populations, verdicts
from vfcompare import statistics as s

REPS = 200
STUDIES = 100


def error(share: float, reps: int) -> float:
    """Three standard errors of a measured share, and half a case."""
    return 3.0 * math.sqrt(max(share * (1.0 - share), 0.01) / reps) + 0.5 / reps


def test_populations_have_the_means_they_are_made_for() -> None:
    assert populations.POPULATIONS["normal"].mean() == pytest.approx(0.6, abs=1e-9)
    assert populations.POPULATIONS["bimodal"].mean() == pytest.approx(0.74, abs=1e-9)
    assert populations.POPULATIONS["skewed"].mean() == pytest.approx(0.3 * math.exp(0.5), rel=2e-3)
    for population in populations.POPULATIONS.values():
        assert population.size == populations.SIZE


@pytest.mark.statistical
def test_few_seeds_need_the_expanded_interval() -> None:
    """Of 200 intervals from five normal runs: percentile 83%, expanded 92%; three errors."""
    plain = coverage.of_scores(coverage.OTHERS, "mean, percentile", "normal", 1)
    wide = coverage.of_scores(coverage.OTHERS, "mean, expanded", "normal", 1)
    covered, width = coverage.measure(plain, 5, REPS)
    better, wider = coverage.measure(wide, 5, REPS)
    assert covered == pytest.approx(0.835, abs=error(0.835, REPS))
    assert better == pytest.approx(0.92, abs=error(0.92, REPS))
    assert 1.3 < wider / width < 1.6


@pytest.mark.statistical
def test_a_bootstrap_of_clear_improvement_covers_too_little() -> None:
    """Of 200 from ten skewed runs that win nine times in ten: bootstrap about 55%, score 93%."""
    shares = [
        coverage.measure(
            coverage.of_scores(coverage.OTHERS, f"P(improvement) near 0.9, {method}", "skewed", 1),
            10,
            REPS,
        )[0]
        for method in ("bootstrap", "score")
    ]
    assert shares[0] < 0.7
    assert shares[1] >= 0.93 - error(0.93, REPS)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("kind", s.coverage_kinds())
def test_committed_coverage_comes_out_again(kind: str) -> None:
    """At ten seeds, within three errors of both measurements: 200 here, 400 there, other draws."""
    known = {1: s.known_coverage(kind, 10), 4: s.known_coverage(kind, 10, tasks=4)}
    cases = [case for case in coverage.cases() if case.kind == kind]
    for case in cases:
        share = known[case.tasks].shares[case.scores]
        found, _ = coverage.measure(case, 10, REPS, salt=1)
        assert found == pytest.approx(share, abs=error(share, REPS) + error(share, 400)), case[:3]


@pytest.mark.parametrize("kind", s.coverage_kinds())
@pytest.mark.parametrize("tasks", [1, 4])
def test_coverage_is_known_for_every_kind(kind: str, tasks: int) -> None:
    for runs in (3, 7, 10, 500):
        known = s.known_coverage(kind, runs, tasks=tasks)
        assert known.runs == max(size for size in s.COVERAGE_RUNS if size <= runs)
        assert all(0.0 <= share <= 1.0 for share in known.shares.values())


def test_unknown_coverage_is_refused() -> None:
    with pytest.raises(ValueError, match="IQM"):
        s.known_coverage("mode", 10)
    with pytest.raises(ValueError, match="3 are needed"):
        s.known_coverage("IQM", 2)


def test_known_coverage_is_that_of_every_interval_of_the_report() -> None:
    assert set(s.coverage_kinds()) == {case.kind for case in coverage.cases()}


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("law", ["normal", "bimodal", "skewed"])
def test_agents_that_are_alike_are_told_apart_in_the_nominal_share(law: str) -> None:
    """Of 100 A/A studies 5 are wrong on average; more than 13 once in a thousand times."""
    arena = next(
        a
        for a in verdicts.null_arenas()
        if (a.name, a.scores, a.seeds) == ("two agents alike", law, 10)
    )
    (claims,) = verdicts.fight(arena, STUDIES)
    assert claims <= verdicts.most_by_chance(STUDIES)


@pytest.mark.slow
@pytest.mark.statistical
def test_a_whole_family_of_pairs_keeps_the_nominal_share() -> None:
    arena = next(a for a in verdicts.null_arenas() if a.name.startswith("five"))
    pairs, families, _, apart = verdicts.fight(arena, STUDIES)
    assert max(pairs, families, apart) <= verdicts.most_by_chance(STUDIES)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seeds", [10, 20])
def test_the_report_finds_planted_differences_at_the_stated_power(seeds: int) -> None:
    """Of 100 studies, three errors around the stated 80% and 29%, and three points for Student's."""
    chosen = [a for a in verdicts.planted_arenas() if (a.scores, a.seeds) == ("normal", seeds)]
    assert chosen
    for arena in chosen:
        (found,) = verdicts.fight(arena, STUDIES)
        slack = error(arena.stated, STUDIES) + 0.03
        assert found / STUDIES == pytest.approx(arena.stated, abs=slack)


def test_a_planted_difference_is_on_the_scale_of_the_report() -> None:
    """The area under a made curve is its score times `AREA`, with `AREA_NOISE` around it."""
    rng = np.random.default_rng(0)
    made = verdicts.cell(rng, "a", False, 0, np.full(400, 0.5), None)
    areas = [s.area_under_curve(run.steps, run.sampled, 0.0, 1000.0) for run in made.runs]
    assert np.mean(areas) == pytest.approx(0.5 * verdicts.AREA, abs=3 * verdicts.AREA_NOISE / 20)
    assert np.std(areas) == pytest.approx(verdicts.AREA_NOISE, rel=0.15)
