"""Paired differences: what they are made of, and that they are wrong no more often than they say."""

from __future__ import annotations

import numpy as np
import pytest
from paired_samples import arms, replicates
from scipy import stats

from ptqbench.evaluate.paired import LEAST_P, Arm, Difference, Part, holm, judge, paired_difference, pool_arms, pool_pairs

TRIALS = 300
# Above this share of false alarms in so many trials once in a thousand runs of a test that is exactly at 5 %.
MOST = stats.binom.ppf(0.999, TRIALS, 0.05) / TRIALS


def simulate(methods: int, seeds: int, calibration: float, level: float = 0.0) -> list[list[Difference]]:
    rng = np.random.default_rng([methods, seeds, int(10 * calibration)])
    found = []
    for _ in range(TRIALS):
        base, *others = arms(rng, [0.0] + [level] * (methods - 1), seeds, calibration)
        pool = pool_arms([base, *others])
        found.append([paired_difference(arm, base, pool) for arm in others])
    return found


@pytest.mark.parametrize(("methods", "seeds"), [(2, 2), (4, 2), (5, 2), (4, 3)])
@pytest.mark.parametrize("calibration", [0.3, 3.0])
def test_false_alarms_stay_at_five_percent(methods: int, seeds: int, calibration: float) -> None:
    """Calibration noise of 0.3 and 3 times the image noise; two to five methods in the pool."""
    found = simulate(methods, seeds, calibration)
    one = [row[0] for row in found]
    assert np.mean([d.p < 0.05 for d in one]) <= MOST
    assert np.mean([d.low <= 0 <= d.high for d in one]) >= 1 - MOST
    assert np.mean([min(holm([d.p for d in row])) < 0.05 for row in found]) <= MOST


def test_intervals_are_not_much_too_wide() -> None:
    """Coverage about 95 % where the pool is large, also of a difference that is not zero."""
    found = [d for row in simulate(5, 3, 1.0, level=7.0) for d in row]
    assert 0.94 <= np.mean([d.low <= 7.0 <= d.high for d in found]) <= 0.975


def test_one_seed_speaks_for_its_calibration_only() -> None:
    found = [d for row in simulate(2, 1, 0.0) for d in row]
    assert all(d.this_calibration_only and d.seeds == 1 for d in found)
    assert np.mean([d.p < 0.05 for d in found]) <= MOST


def test_one_common_seed_beside_an_arm_that_no_calibration_moves_speaks_for_its_calibration_only() -> None:
    """Pairs without an arm in common say what differences vary by, but not what single arms do."""
    blocks = np.random.default_rng(0).normal(size=(6, 20))
    pair = Arm({0: 1.0, 1: 1.2}, dict(enumerate(blocks[:2]))), Arm({0: 1.1, 1: 1.0}, dict(enumerate(blocks[2:4])))
    pool = pool_pairs([pair])
    fixed, moving = Arm({0: 1.0, 1: 1.0}, {0: blocks[4], 1: blocks[4]}), Arm({0: 1.5}, {0: blocks[5]})
    assert pool is not None and paired_difference(moving, fixed, pool).this_calibration_only
    other = Arm({0: 1.0, 1: 1.1}, {0: blocks[4], 1: blocks[4]})
    assert not paired_difference(moving, other, pool).this_calibration_only


def test_an_effect_of_the_detectable_size_is_seen_in_four_of_five_trials() -> None:
    typical = float(np.median([d.detectable for row in simulate(2, 1, 0.0) for d in row]))
    found = [d for row in simulate(2, 1, 0.0, level=typical) for d in row]
    assert np.mean([d.p < 0.05 for d in found]) == pytest.approx(0.8, abs=0.07)


def test_shared_image_noise_cancels() -> None:
    rng = np.random.default_rng(3)
    a, b = arms(rng, [1.0, 0.0], 1, 0.0, shared=100.0)
    difference = paired_difference(a, b)
    assert difference.high - difference.low < 10
    assert a.noise > 1000


def test_equals_the_paired_t_test_for_a_mean_of_single_images() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20))
    a, b = (Arm({0: float(v.mean())}, {0: replicates(v)}) for v in (x, y))
    found, expected = paired_difference(a, b), stats.ttest_rel(x, y)
    interval = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, expected.pvalue), rel=1e-9)


def test_the_pool_is_the_residual_of_the_two_way_layout() -> None:
    rng = np.random.default_rng(1)
    found = arms(rng, [0.0, 1.0, 2.0], 4, 2.0)
    for arm in found:
        arm.replicates.update({s: found[0].replicates[0] for s in arm.replicates})
    table = np.array([list(arm.values.values()) for arm in found])
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    pool = pool_arms(found)
    assert pool is not None
    assert pool.freedom == pytest.approx((3 - 1) * (4 - 1))
    assert pool.ratio * found[0].noise == pytest.approx((residual**2).sum() / pool.freedom)


def test_arms_that_no_calibration_moves() -> None:
    rng = np.random.default_rng(2)
    moving, other = arms(rng, [0.0, 0.0], 2, 1.0)
    still = Arm({0: 1.0, 1: 1.0}, {s: arms(rng, [1.0], 1, 0.0)[0].replicates[0] for s in (0,)})
    still.replicates[1] = still.replicates[0]
    assert still.fixed and not moving.fixed
    alone = pool_arms([moving, other])
    assert pool_arms([still, moving, other]) == alone
    assert pool_arms([still, moving]) is None
    assert not paired_difference(still, Arm(dict(still.values), dict(moving.replicates))).this_calibration_only


@pytest.mark.parametrize("together", [0.0, 2.0, 6.0])
def test_what_seeds_do_to_all_arms_counts_against_an_arm_that_no_calibration_moves(together: float) -> None:
    """Round to nearest as the baseline of three methods whose values rise and fall together with the seed."""
    rng, alarms = np.random.default_rng(7), []
    for _ in range(TRIALS):
        moving = [
            Arm({s: v + shift[s] for s, v in arm.values.items()}, {s: x + shift[s] for s, x in arm.replicates.items()})
            for shift in [together * rng.normal(size=3)]
            for arm in arms(rng, [0.0] * 3, 3, 3.0)
        ]
        still = arms(rng, [0.0], 1, 0.0)[0]
        base = Arm(dict.fromkeys(range(3), still.values[0]), dict.fromkeys(range(3), still.replicates[0]))
        found = paired_difference(moving[0], base, pool_arms([base, *moving]))
        alarms.append(found.p < 0.05)
    assert np.mean(alarms) <= MOST


def test_equal_arms_do_not_differ_and_exact_shifts_do() -> None:
    (a,) = arms(np.random.default_rng(4), [1.0], 2, 0.5)
    same = paired_difference(a, a, pool_pairs([(a, a)]))
    assert (same.value, same.low, same.high, same.p, same.detectable) == (0.0, 0.0, 0.0, 1.0, 0.0)
    shifted = Arm({s: v + 1 for s, v in a.values.items()}, {s: v + 1 for s, v in a.replicates.items()})
    assert paired_difference(shifted, a).p == 0.0


def test_seeds_are_paired_and_missing_ones_left_out() -> None:
    a, b = arms(np.random.default_rng(5), [0.0, 0.0], 3, 1.0)
    del b.values[1], b.replicates[1]
    found = paired_difference(a, b)
    assert found.seeds == 2
    assert found.value == pytest.approx(np.mean([a.values[s] - b.values[s] for s in (0, 2)]))
    with pytest.raises(ValueError, match="no calibration seed in common"):
        paired_difference(a, Arm({9: 1.0}, {9: b.replicates[0]}))


@pytest.mark.parametrize("value", [0.0, 0.3, 2.0, -4.0])
def test_p_value_and_interval_agree(value: float) -> None:
    parts = [Part(0.4, 19.0), Part(0.6, 2.0)]
    found = judge(value, parts, 2, only=False)
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    alone = judge(value, parts[:1], 1, only=True)
    assert alone.p == pytest.approx(2 * stats.t.sf(abs(value) / 0.4**0.5, 19), rel=1e-6)
    assert judge(1e9, parts, 2, only=False).p == LEAST_P


@pytest.mark.parametrize("family", [1, 4, 12])
@pytest.mark.parametrize("freedom", [2.0, 3.0, 6.0, 19.0])
def test_a_difference_of_the_detectable_size_is_seen_four_times_in_five(family: int, freedom: float) -> None:
    """Among as many comparisons as the family has, at Bonferroni's level; the noncentral law is scipy's own."""
    found = judge(0.0, [Part(0.25, freedom)], 3, only=False, family=family)
    critical = stats.t.ppf(1 - 0.025 / family, freedom)
    assert float(stats.nct.sf(critical, freedom, found.detectable / 0.5)) == pytest.approx(0.8, abs=1e-4)
    assert found.high == pytest.approx(0.5 * stats.t.ppf(0.975, freedom))


def test_the_chance_is_kept_where_both_parts_count() -> None:
    """Simulated: the value's error is the sum of two, the estimate of each variance has its own degrees of freedom."""
    rng, parts, trials = np.random.default_rng(6), [Part(0.5, 19.0), Part(0.5, 3.0)], 4000
    size = judge(0.0, parts, 4, only=False, family=4).detectable
    values = size + rng.normal(size=trials)
    drawn = [[Part(0.5 * rng.chisquare(f) / f, f) for f in (19.0, 3.0)] for _ in range(trials)]
    seen = [judge(v, own, 4, only=False).p < 0.05 / 4 for v, own in zip(values, drawn, strict=True)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.05)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
