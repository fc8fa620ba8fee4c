"""A finding to a verdict: what is done about an image, and why.

    eq12     corrected where the robust and the non-robust way differ (Eq. 12), else accepted
    score    what the score puts above the threshold is corrected where those ways differ, else
             rejected; the rest is accepted
    strict   accepted where all three ways agree and the score is not above; else rejected

`score` corrects where there is a correction to make: the robust way then names another class than
the fragile one, and an attacker who could have every image rejected with a small change would have
won, too. Where the ways agree, there is no better label to offer. `strict` corrects nothing, and
rejects all that `score` does not accept.

Knows findings and what a manifest says of decisions; knows neither requests nor HTTP. What each
policy promises is in docs/policies.md.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from service.decision import Finding, Guess
from service.errors import ParameterRefused, PolicyUnavailable
from service.manifest import DecisionSpec, Policy
from service.scores import ScoreName

Verdict = Literal["accept", "reject", "corrected"]
Reason = Literal["disagreement", "score", "margin"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; None leaves it to the next who has a say: request, settings, manifest."""

    policy: Policy | None = None
    fpr: float | None = None  # target rate of false alarms


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy with all it needs of one model."""

    policy: Policy
    score: ScoreName
    threshold: float
    per_class: tuple[float, ...] | None = None  # thresholds by the standard way's label
    fpr: float | None = None  # None where the policy has no target

    def threshold_of(self, finding: Finding) -> float:
        """The threshold that this image's score is held against."""
        if self.per_class is None:
            return self.threshold
        return self.per_class[finding.standard.label]


class Judgement(NamedTuple):
    """What a rule makes of a finding. `reason` is None where the image is accepted.

    Of several reasons the first counts: `disagreement` of the ways; else `margin`, a score above
    the threshold that is the robust way's doubt; else `score`, any other that is above it.
    """

    rule: Rule
    verdict: Verdict
    reason: Reason | None
    threshold: float


def judge(finding: Finding, rule: Rule) -> Judgement:
    """The verdict of one policy, as the table above says."""
    threshold = rule.threshold_of(finding)
    above = finding.score > threshold
    differ = finding.adversarial
    flagged = differ if rule.policy == "eq12" else above
    if rule.policy == "strict":
        differ = differ or finding.standard.label != finding.robust.label
        flagged = differ or above
    if not flagged:
        return Judgement(rule, "accept", None, threshold)
    verdict: Verdict = "corrected" if differ and rule.policy != "strict" else "reject"
    reason: Reason = "disagreement" if differ else "margin" if rule.score == "doubt" else "score"
    return Judgement(rule, verdict, reason, threshold)


def to_use(finding: Finding, verdict: Verdict) -> Guess | None:
    """The label to use by the verdict alone: none of an image that is rejected."""
    if verdict == "reject":
        return None
    return finding.robust if verdict == "corrected" else finding.mixed or finding.corrected


def resolve(spec: DecisionSpec, asked: Wish, default: Wish) -> Rule:
    """The rule for one request: what was asked for, else the default, else the model's own.

    Raises:
        PolicyUnavailable: the policy needs thresholds, and the model has none.
        ParameterRefused: there is no threshold for this rate, none is named, or `eq12` is asked
            for one.
    """
    policy = asked.policy or default.policy or spec.policy
    if policy == "eq12":
        if asked.fpr is not None:
            raise ParameterRefused("fpr", "policy eq12 has no rate; ask for score or strict")
        return Rule(policy, spec.score, spec.threshold)
    if not spec.thresholds:
        raise PolicyUnavailable(policy)
    wanted = asked.fpr if asked.fpr is not None else default.fpr
    own = float(spec.fpr) if spec.fpr is not None else None
    fpr = wanted if wanted is not None else own
    if fpr is None:
        raise ParameterRefused("fpr", f"the model has no default rate; known: {_known(spec)}")
    for rate, threshold in spec.thresholds.items():
        if float(rate) == fpr:
            return Rule(policy, spec.score, threshold.value, threshold.per_class, fpr)
    raise ParameterRefused("fpr", f"no threshold for {fpr:g}; known: {_known(spec)}")


def check(spec: DecisionSpec, default: Wish) -> None:
    """That a model can follow a default, a rate also where its own policy does not use it.

    Raises:
        PolicyUnavailable, ParameterRefused: it cannot.
    """
    resolve(spec, Wish(), default)
    if default.fpr is not None:
        resolve(spec, Wish(policy="score"), default)


def _known(spec: DecisionSpec) -> str:
    return ", ".join(sorted(spec.thresholds, key=float))
