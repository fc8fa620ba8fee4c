import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import decision, scores
from training import metrics

few_values = st.lists(st.integers(0, 5), min_size=1, max_size=20)  # few values, so many ties


def array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.float64)


class TestShares:
    def test_counts_by_hand(self) -> None:
        predicted, label = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
        assert metrics.accuracy(predicted, label) == 0.75
        flags = np.array([True, False, False, False, True])
        assert metrics.rad(flags) == metrics.false_alarm_rate(flags) == 0.4
        assert metrics.dia(0.75, 0.25) == 0.5
        assert metrics.equal_mixture(0.9, 0.5) == 0.7

    def test_a_share_of_nothing_is_nan(self) -> None:
        nothing = np.array([], dtype=bool)
        assert math.isnan(metrics.share(nothing))
        assert math.isnan(metrics.rad(nothing))
        assert math.isnan(metrics.dia(metrics.share(nothing), 0.5))

    def test_flags_and_corrected_labels(self) -> None:
        standard, robust, nonrobust = (np.array(x) for x in ([5, 6, 7], [1, 2, 3], [1, 9, 3]))
        flags = metrics.flagged(robust, nonrobust)
        assert flags.tolist() == [False, True, False]
        assert metrics.corrected(standard, robust, flags).tolist() == [5, 2, 7]


class TestScore:
    def test_by_hand(self) -> None:
        robust = np.log(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]))
        nonrobust = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 9.0]])
        assert metrics.score(robust, nonrobust) == pytest.approx([0.3, 0.9])

    def test_huge_logits_stay_in_range(self) -> None:
        robust = np.array([[1e30, -1e30], [1e30, -1e30]], dtype=np.float32)
        nonrobust = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
        assert metrics.score(robust, nonrobust).tolist() == [0.0, 1.0]

    def test_is_what_the_service_answers(self) -> None:
        generator = np.random.default_rng(0)
        robust, nonrobust = generator.normal(0, 4, (2, 200, 10)).astype(np.float32)
        named = nonrobust.argmax(axis=1)
        served = scores.disbelief(scores.softmax(robust), named)
        assert metrics.score(robust, nonrobust) == pytest.approx(served, abs=1e-12)
        flags = metrics.flagged(robust.argmax(axis=1), named)
        assert (flags == decision.disagreement(robust.argmax(axis=1), named)).all()


class TestAuroc:
    @pytest.mark.parametrize(
        ("natural", "attacked", "expected"),
        [
            ([0, 1], [2, 3], 1.0),
            ([2, 3], [0, 1], 0.0),
            ([1, 1], [1, 1], 0.5),
            ([0, 1, 2], [1], 0.5),
            ([0, 0, 1], [1, 0], (0.5 + 0.5 + 0 + 1 + 1 + 0.5) / 6),
        ],
    )
    def test_by_hand(self, natural: list[int], attacked: list[int], expected: float) -> None:
        assert metrics.auroc(array(natural), array(attacked)) == pytest.approx(expected)

    @given(natural=few_values, attacked=few_values)
    def test_is_the_share_of_pairs_in_order(self, natural: list[int], attacked: list[int]) -> None:
        won = sum((a > n) + Fraction(a == n, 2) for a in attacked for n in natural)
        expected = Fraction(won) / (len(natural) * len(attacked))
        assert metrics.auroc(array(natural), array(attacked)) == pytest.approx(float(expected))

    def test_empty_side(self) -> None:
        assert math.isnan(metrics.auroc(array([]), array([1])))
        assert math.isnan(metrics.auroc(array([1]), array([])))


class TestRoc:
    def test_by_hand(self) -> None:
        alarms, detected = metrics.roc(array([1, 2, 2, 4]), array([0, 2, 3, 5, 5]))
        # Above 4, 2, 1 and all: natural 0, 1, 3, 4 of 4; attacked 2, 3, 4, 5 of 5.
        assert alarms.tolist() == [0, 0.25, 0.75, 1]
        assert detected == pytest.approx([0.4, 0.6, 0.8, 1])

    @given(natural=few_values, attacked=few_values, target=st.floats(0, 1))
    def test_passes_through_every_threshold(
        self, natural: list[int], attacked: list[int], target: float
    ) -> None:
        alarms, detected = metrics.roc(array(natural), array(attacked))
        reached = np.flatnonzero(alarms <= target + 1e-9)[-1]
        expected = metrics.tpr_at_fpr(array(natural), array(attacked), target)
        assert detected[reached] == pytest.approx(expected)


class TestCalibration:
    def test_confidence_by_hand(self) -> None:
        logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
        assert metrics.confidence(logits) == pytest.approx([0.7, 0.5])
        huge = np.array([[1e30, -1e30], [-3e38, -3e38]], dtype=np.float32)
        assert metrics.confidence(huge).tolist() == [1.0, 0.5]

    def test_bins_by_hand(self) -> None:
        confidence = np.array([0.0, 0.25, 0.3, 0.5, 0.9, 1.0])
        right = np.array([True, False, True, True, True, False])
        found = metrics.reliability(confidence, right, bins=4)
        assert found.images.tolist() == [2, 2, 0, 2]  # a bin holds its upper edge
        assert found.confidence == pytest.approx([0.125, 0.4, math.nan, 0.95], nan_ok=True)
        assert found.accuracy == pytest.approx([0.5, 1.0, math.nan, 0.5], nan_ok=True)

    def test_ece_by_hand(self) -> None:
        confidence = np.array([0.0, 0.25, 0.3, 0.5, 0.9, 1.0])
        right = np.array([True, False, True, True, True, False])
        expected = (2 * 0.375 + 2 * 0.6 + 2 * 0.45) / 6
        assert metrics.ece(confidence, right, bins=4) == pytest.approx(expected)
        assert metrics.ece(confidence, right, bins=1) == pytest.approx(4 / 6 - 2.95 / 6)

    def test_fifteen_bins(self) -> None:
        """One bin holds both images and hides that they are off to either side; two do not."""
        right = np.array([True, False])
        assert metrics.ece(np.array([0.47, 0.52]), right) == pytest.approx(0.005)  # 7/15 to 8/15
        assert metrics.ece(np.array([0.47, 0.54]), right) == pytest.approx((0.53 + 0.54) / 2)

    def test_ece_of_nothing(self) -> None:
        assert math.isnan(metrics.ece(array([]), np.array([], dtype=bool)))

    @given(
        pairs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20),
        bins=st.integers(1, 20),
    )
    def test_bins_keep_every_image(self, pairs: list[tuple[float, bool]], bins: int) -> None:
        confidence, right = (np.array(column) for column in zip(*pairs, strict=True))
        found = metrics.reliability(confidence, right, bins)
        assert found.images.sum() == len(pairs)
        assert np.nansum(found.accuracy * found.images) == pytest.approx(right.sum())
        gap = abs(right.mean() - confidence.mean())
        assert gap - 1e-9 <= metrics.ece(confidence, right, bins) <= 1


class TestThreshold:
    def test_by_hand(self) -> None:
        natural = np.arange(100) / 100  # 0.00 to 0.99
        assert metrics.threshold_at_fpr(natural, 0.05) == 0.94  # 0.95 to 0.99 are above
        assert metrics.threshold_at_fpr(natural, 0.01) == 0.98
        attacked = np.array([0.94, 0.95, 0.2, 0.99])
        assert metrics.tpr_at_fpr(natural, attacked, 0.05) == 0.5  # the tie at 0.94 is a miss

    def test_no_score_may_pass_where_one_is_too_many(self) -> None:
        assert metrics.threshold_at_fpr(array([3, 1, 2]), 0.01) == 3

    def test_tied_naturals_are_all_kept_below(self) -> None:
        natural = np.array([0.0] * 90 + [1.0] * 10)
        assert metrics.threshold_at_fpr(natural, 0.05) == 1.0
        assert metrics.tpr_at_fpr(natural, np.ones(4), 0.05) == 0.0

    def test_rounding_of_the_target_costs_no_image(self) -> None:
        natural = np.arange(100) / 100
        for percent in range(100):
            threshold = metrics.threshold_at_fpr(natural, percent / 100)
            assert (natural > threshold).sum() == percent

    def test_every_image_may_be_flagged(self) -> None:
        assert metrics.threshold_at_fpr(array([1, 2]), 1.0) == -math.inf
        assert metrics.tpr_at_fpr(array([1, 2]), array([0]), 1.0) == 1.0

    def test_nothing_to_choose_from(self) -> None:
        assert math.isnan(metrics.threshold_at_fpr(array([]), 0.5))
        assert math.isnan(metrics.tpr_at_fpr(array([]), array([1]), 0.5))
        assert math.isnan(metrics.tpr_at_fpr(array([1]), array([]), 0.5))

    @given(natural=few_values, target=st.floats(0, 0.99))
    def test_is_the_lowest_that_keeps_the_promise(self, natural: list[int], target: float) -> None:
        scores = array(natural)
        threshold = metrics.threshold_at_fpr(scores, target)
        assert (scores > threshold).mean() <= target + 1e-9
        lower = scores[scores < threshold]
        if len(lower):
            assert (scores > lower.max()).mean() > target


class TestWilson:
    @pytest.mark.parametrize(
        ("hits", "count", "low", "high"),
        [
            (5, 10, 0.2366, 0.7634),
            (0, 10, 0.0, 0.2775),
            (10, 10, 0.7225, 1.0),
            (1, 2, 0.0945, 0.9055),
        ],
    )
    def test_known_values(self, hits: int, count: int, low: float, high: float) -> None:
        assert metrics.wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-5)

    def test_of_nothing(self) -> None:
        assert all(math.isnan(bound) for bound in metrics.wilson_interval(0, 0))

    @given(count=st.integers(1, 10_000), share=st.floats(0, 1))
    def test_holds_the_share(self, count: int, share: float) -> None:
        hits = round(share * count)
        low, high = metrics.wilson_interval(hits, count)
        assert 0 <= low <= hits / count <= high <= 1
