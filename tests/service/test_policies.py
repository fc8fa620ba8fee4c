"""Verdicts by hand, which rule a request gets, then what must hold of any finding."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decision import Finding, Guess
from service.errors import ParameterRefused, PolicyUnavailable
from service.manifest import DecisionSpec, Policy, Threshold
from service.policies import Rule, Wish, check, judge, resolve
from tests.service.toy import calibrated

POLICIES: tuple[Policy, ...] = get_args(Policy)
LABEL = st.integers(0, 2)


def found(standard: int, robust: int, nonrobust: int, score: float) -> Finding:
    differ = robust != nonrobust
    return Finding(
        standard=Guess(standard, 0.9),
        robust=Guess(robust, 0.8),
        nonrobust=Guess(nonrobust, 0.7),
        adversarial=differ,
        score=score,
        corrected=Guess(robust, 0.8) if differ else Guess(standard, 0.9),
        mixed=None,
        probabilities=np.full((3, 3), 1 / 3),
    )


ANY = st.builds(found, LABEL, LABEL, LABEL, st.floats(0, 1))


@pytest.mark.parametrize(
    ("labels", "score", "eq12", "scored", "strict"),
    [
        ((1, 1, 1), 0.2, ("accept", None), ("accept", None), ("accept", None)),
        ((1, 1, 1), 0.5, ("accept", None), ("accept", None), ("accept", None)),  # not above
        ((1, 1, 1), 0.6, ("accept", None), ("reject", "score"), ("reject", "score")),
        (
            *((2, 1, 2), 0.9),
            *(("corrected", "disagreement"),) * 2,
            ("reject", "disagreement"),
        ),
        (
            *((2, 1, 2), 0.4),
            ("corrected", "disagreement"),
            ("accept", None),
            ("reject", "disagreement"),
        ),
        ((2, 1, 1), 0.1, ("accept", None), ("accept", None), ("reject", "disagreement")),
        ((2, 1, 1), 0.6, ("accept", None), ("reject", "score"), ("reject", "disagreement")),
    ],
)
def test_verdicts(
    labels: tuple[int, int, int], score: float, eq12: Any, scored: Any, strict: Any
) -> None:
    finding = found(*labels, score)
    for policy, expected in zip(POLICIES, (eq12, scored, strict), strict=True):
        judgement = judge(finding, Rule(policy, "disbelief", 0.5))
        assert (judgement.verdict, judgement.reason) == expected, policy
        assert judgement.threshold == 0.5


@pytest.mark.parametrize("policy", ["score", "strict"])
def test_doubt_is_a_matter_of_the_margin(policy: Policy) -> None:
    rule = Rule(policy, "doubt", 0.5)
    assert judge(found(1, 1, 1, 0.6), rule).reason == "margin"
    assert judge(found(2, 1, 2, 0.6), rule).reason == "disagreement"


def test_the_standard_label_chooses_among_thresholds() -> None:
    rule = Rule("score", "disbelief", 0.5, per_class=(0.1, 0.5, 0.9))
    verdicts = [judge(found(label, label, label, 0.6), rule) for label in range(3)]
    assert [one.verdict for one in verdicts] == ["reject", "reject", "accept"]
    assert [one.threshold for one in verdicts] == [0.1, 0.5, 0.9]


@given(ANY, st.floats(0, 1))
def test_policies_are_ordered(finding: Finding, threshold: float) -> None:
    """Strict rejects all that another policy does not accept; a reason stands where one is due."""
    eq12, scored, strict = (
        judge(finding, Rule(policy, "disbelief", threshold)) for policy in POLICIES
    )
    if scored.verdict != "accept" or eq12.verdict != "accept":
        assert strict.verdict == "reject"
    assert strict.verdict != "corrected"
    assert eq12.verdict != "reject"
    for judgement in (eq12, scored, strict):
        assert (judgement.verdict == "accept") is (judgement.reason is None)
        if judgement.verdict == "corrected":
            assert finding.robust.label != finding.nonrobust.label


@given(ANY, st.floats(0, 1), st.floats(0, 1), st.sampled_from(["score", "strict"]))
def test_a_lower_threshold_accepts_no_more(
    finding: Finding, one: float, other: float, policy: Policy
) -> None:
    low, high = sorted((one, other))
    if judge(finding, Rule(policy, "disbelief", low)).verdict == "accept":
        assert judge(finding, Rule(policy, "disbelief", high)).verdict == "accept"


@pytest.mark.parametrize(
    ("asked", "default", "own", "policy", "fpr", "threshold"),
    [
        (Wish(), Wish(), {}, "eq12", None, 0.5),
        (Wish(), Wish(), {"policy": "strict"}, "strict", 0.1, 0.3),
        (Wish("score"), Wish(), {}, "score", 0.1, 0.3),
        (Wish("score", 0.01), Wish(), {}, "score", 0.01, 0.6),
        (Wish(fpr=0.01), Wish("strict"), {}, "strict", 0.01, 0.6),
        (Wish(), Wish("score", 0.01), {}, "score", 0.01, 0.6),
        (Wish(), Wish(fpr=0.01), {"policy": "score"}, "score", 0.01, 0.6),
        (Wish("strict", 0.1), Wish("score", 0.01), {}, "strict", 0.1, 0.3),
        (Wish("eq12"), Wish("score", 0.01), {}, "eq12", None, 0.5),
        (Wish(), Wish(fpr=0.01), {}, "eq12", None, 0.5),
    ],
)
def test_the_request_beats_the_settings_beat_the_manifest(
    asked: Wish,
    default: Wish,
    own: dict[str, Any],
    policy: Policy,
    fpr: float | None,
    threshold: float,
) -> None:
    spec = calibrated(**own)
    assert resolve(spec, asked, default) == Rule(policy, "disbelief", threshold, fpr=fpr)


def test_a_rule_carries_the_thresholds_by_class() -> None:
    thresholds = {"0.1": Threshold(value=0.3, interval=(0.0, 1.0), per_class=(0.1, 0.2, 0.3))}
    rule = resolve(calibrated(thresholds=thresholds), Wish("score"), Wish())
    assert rule.per_class == (0.1, 0.2, 0.3)


PLAIN, KNOWN = DecisionSpec(), "known: 0.01, 0.1"


@pytest.mark.parametrize(
    ("spec", "asked", "default", "kind", "said"),
    [
        (PLAIN, Wish("score"), Wish(), PolicyUnavailable, "'score' needs thresholds"),
        (PLAIN, Wish("strict", 0.01), Wish(), PolicyUnavailable, "'strict' needs thresholds"),
        (PLAIN, Wish(fpr=0.01), Wish(), ParameterRefused, "eq12 has no rate"),
        (calibrated(), Wish(fpr=0.01), Wish(), ParameterRefused, "ask for score or strict"),
        (calibrated(), Wish("score", 0.02), Wish(), ParameterRefused, f"for 0.02; {KNOWN}"),
        (calibrated(), Wish("score"), Wish(fpr=0.5), ParameterRefused, f"for 0.5; {KNOWN}"),
        (calibrated(fpr=None), Wish("score"), Wish(), ParameterRefused, f"default rate; {KNOWN}"),
    ],
)
def test_what_a_model_cannot_follow(
    spec: DecisionSpec, asked: Wish, default: Wish, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        resolve(spec, asked, default)
    assert said in str(caught.value)


@pytest.mark.parametrize("default", [Wish("score"), Wish(fpr=0.1), Wish("strict", 0.1)])
def test_a_default_that_some_model_cannot_follow(default: Wish) -> None:
    check(calibrated(), default)
    with pytest.raises(PolicyUnavailable):
        check(PLAIN, default)


def test_a_default_rate_counts_also_where_eq12_is_the_policy() -> None:
    with pytest.raises(ParameterRefused, match=r"no threshold for 0\.02"):
        check(calibrated(), Wish(fpr=0.02))
