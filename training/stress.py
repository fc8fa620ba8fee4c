"""The stage `stress`: attackers who know the detector, and what is left of it image by image.

For each eps several attacks run on the same images; an image counts as fooled where any of them, or
the natural image itself, got a wrong label past the policy. The thresholds of the score come from
natural images of the calibration split, never from the images that are attacked. Leaves
`stress.json`, `stress.md` and `stress.svg`. What becomes of an image is `outcomes`' business; the
attacks are `attacks.suite`'s. Attacked images are not rounded.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from training import metrics, predict, stress_checks, stress_table
from training import stress_figures as figures
from training.arrays import joined
from training.attacks.adaptive import Answer
from training.attacks.autoattack import AutoAttack
from training.attacks.suite import OBLIVIOUS, alarms, noise, searches, suite
from training.checkpoint import current_commit
from training.config import ConfigError, Way, parse_eps
from training.data import Images, to_float
from training.files import write_report
from training.outcomes import POLICIES, Policy, Said, graded, outcomes, worst
from training.plots import curves, style
from training.predict import WAYS
from training.subject import Subject, choose
from training.threat import ThreatModel
from training.three_way import ThreeWayModel

_STEM = "stress"
JSON_FILE, TABLE_FILE, PLOT_FILE = f"{_STEM}.json", f"{_STEM}.md", f"{_STEM}.svg"

_FORMAT = 2
_RATES = (0.01, 0.05)  # of false alarms, for the thresholds of the score
_CHECKED = 64  # images for the checks that attack once more
_AUTO: tuple[Way, ...] = ("standard", "robust")  # what AutoAttack is run against

Attacker = Callable[[ThreeWayModel, Tensor, Tensor], Tensor]  # model, images, labels to images


@dataclass(frozen=True, kw_only=True)
class Stress:
    """`eps` and `alarm_eps` as they are written, in the norm that the model was trained against.

    `steps` gradients an attack; `targets` and `restarts` as `attacks.adaptive.Adaptive` has them.
    AutoAttack is run at the eps of `autoattack`, those of them that are among `eps`, on
    `autoattack_count` images at most, drawn by the seed; None gives it all.
    """

    eps: tuple[str, ...]
    dataset: str | None = None  # None: from the data source
    alarm_eps: str = "1/255"
    steps: int = 50
    targets: int = 3
    restarts: int = 1
    autoattack: tuple[str, ...] = ()
    autoattack_count: int | None = None
    seed: int = 0
    batch_size: int = 250

    def __call__(
        self, subject: Subject, console: Console, *, calibration: Images
    ) -> dict[str, Any]:
        """Everything `stress.json` holds, as JSON types; shares are in [0, 1].

        Raises:
            ConfigError: the model's method does not train all three ways, or AutoAttack was asked
                for in a norm that it does not have.
        """
        if len(subject.ways) < len(WAYS):
            raise ConfigError("only a model of three ways has a detector to put under stress")
        if self.autoattack:
            AutoAttack(threat=self._threat(subject, self.autoattack[0]), way="robust")
        began = time.monotonic()
        with predict.examined(subject.model):
            policies = self._policies(replace(subject, images=calibration))
            natural = self._said(subject, _unchanged)
            results = []
            for eps in sorted(self.eps, key=parse_eps):
                results.append(self._result(subject, policies, natural, eps))
                console.print(stress_table.line(results[-1]), highlight=False, soft_wrap=True)
            document = {
                "format": _FORMAT,
                "dataset": self.dataset or subject.dataset,
                "split": subject.split,
                "n_images": len(subject.images),
                "n_calibration": len(calibration),
                "index": list(subject.index),
                "weights_sha256": subject.header.weights_sha256,
                "model": subject.header.config.name,
                "norm": subject.header.config.attack.norm,
                "eps": subject.header.config.attack.eps,
                "settings": {
                    **vars(self),
                    "eps": list(self.eps),
                    "autoattack": list(self.autoattack),
                },
                "policies": figures.described(policies),
                "natural": figures.natural(policies, natural, subject.images.label.numpy()),
                "alarm": self._alarm(subject),
                "results": results,
                "measured": self._measured(subject, policies),
            }
        return document | {
            "checks": stress_checks.checks(document),
            "commit": current_commit(),
            "torch": torch.__version__,
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "seconds": round(time.monotonic() - began, 1),
        }

    def _policies(self, calibration: Subject) -> tuple[Policy, ...]:
        scores = self._said(calibration, _unchanged).score
        thresholds = {rate: metrics.threshold_at_fpr(scores, rate) for rate in _RATES}
        return (*POLICIES, *graded(thresholds))

    def _result(
        self, subject: Subject, policies: Sequence[Policy], natural: Said, eps: str
    ) -> dict[str, Any]:
        """One eps: what each attack alone and an attacker with the choice gets from each policy."""
        label = subject.images.label.numpy()
        threat = self._threat(subject, eps)
        said = {
            name: self._said(subject, attack)
            for name, attack in suite(threat, **self._search(policies)).items()
        }
        alone = {name: figures.alone(policies, one, label) for name, one in said.items()}
        auto = None
        if threat.eps in map(parse_eps, self.autoattack):
            auto, found, rows = self._autoattack(subject, policies, natural, threat)
            said |= found
            alone |= rows
        return {
            "eps": eps,
            "attacks": alone,
            **figures.result(
                policies,
                label,
                natural=natural,
                attacks=said,
                noise=self._said(subject, noise(threat)),
            ),
            "oblivious": figures.oblivious(policies, natural, said[OBLIVIOUS], label),
            "autoattack": auto,
        }

    def _autoattack(
        self, subject: Subject, policies: Sequence[Policy], natural: Said, threat: ThreatModel
    ) -> tuple[dict[str, Any], dict[str, Said], dict[str, Any]]:
        """Its own figures; what is said under it, of all images; its rows, of those it was given.

        An image that it was not given is natural to it.
        """
        given, at = self._drawn(subject, self.autoattack_count)
        label = given.images.label.numpy()
        own: dict[str, Any] = {"n_images": len(at)}
        said, rows = {}, {}
        for way in _AUTO:
            attack = AutoAttack(threat=threat, way=way)
            heard: list[str] = []
            part = self._said(given, partial(attack, warn=heard.append))
            name = f"AutoAttack, {way} way"
            said[name] = natural.replaced(at, part)
            rows[name] = figures.alone(policies, part, label)
            own[way] = {
                "accuracy": figures.share(np.asarray(getattr(part, way) == label)),
                "warnings": sorted(set(heard)),
            }
        return own, said, rows

    def _alarm(self, subject: Subject) -> dict[str, Any]:
        """How many natural images an attacker can get flagged who wants no more than that."""
        attack = alarms(self._threat(subject, self.alarm_eps), steps=self.steps)
        found = self._said(subject, attack)
        flagged = metrics.flagged(found.robust, found.nonrobust)
        return {"eps": self.alarm_eps, "flagged": figures.share(flagged)}

    def _measured(self, subject: Subject, policies: Sequence[Policy]) -> dict[str, Any]:
        """What checks need beyond the results: the strongest attacks once more on a few images."""
        few, _ = self._drawn(subject, _CHECKED)
        everything, own = _unbounded(subject), subject.header.config.attack.eps
        once = self._fooled(few, policies, own)
        twice = replace(self, steps=2 * self.steps)._fooled(few, policies, own)
        return {
            "unbounded_eps": everything,
            "unbounded": min(self._fooled(few, policies, everything).values()),
            "gain_of_twice_the_steps": max(twice[name] - once[name] for name in once),
        }

    def _fooled(
        self, subject: Subject, policies: Sequence[Policy], eps: str
    ) -> Mapping[str, float]:
        """The share of images fooled under each policy by the searches alone."""
        label = subject.images.label.numpy()
        attacks = searches(self._threat(subject, eps), **self._search(policies))
        said = [self._said(subject, attack) for attack in attacks.values()]
        return {
            policy.name: metrics.share(worst([outcomes(policy, one, label) for one in said]).fooled)
            for policy in policies
        }

    def _drawn(self, subject: Subject, count: int | None) -> tuple[Subject, NDArray[np.intp]]:
        """At most `count` of its images, drawn by the seed, and where they stand."""
        at = np.array(choose(len(subject.images), count, self.seed))
        return replace(subject, images=subject.images.take(torch.from_numpy(at))), at

    def _search(self, policies: Sequence[Policy]) -> dict[str, Any]:
        thresholds = {
            policy.name: policy.threshold
            for policy in policies
            if policy.threshold is not None and not policy.discord
        }
        return {
            "steps": self.steps,
            "targets": self.targets,
            "restarts": self.restarts,
            "thresholds": thresholds,
        }

    def _threat(self, subject: Subject, eps: str) -> ThreatModel:
        """`l2_sign` is a weak way to search the ball of l2; a stress test searches it well."""
        norm = subject.header.config.attack.norm
        return ThreatModel(norm="l2" if norm == "l2_sign" else norm, eps=parse_eps(eps))

    def _said(self, subject: Subject, attack: Attacker) -> Said:
        """What is said of the attacked images; random starts follow from seed and position."""
        found = []
        for position, batch in predict.batches(subject.images, self.batch_size, subject.device):
            predict.reseed(self.seed, position)
            attacked = attack(subject.model, to_float(batch.pixels), batch.label)
            found.append(predict.answer(subject.model, attacked, WAYS))
        ways = joined(found)
        return Said.of(ways["standard"], ways["robust"], ways["nonrobust"])


def write(document: dict[str, Any], folder: Path) -> Path:
    """Write the three files into `folder`, replacing an earlier test; returns the JSON's path.

    Raises:
        OutputError: the folder cannot be written to.
    """
    style.save(curves.stress(document), folder / PLOT_FILE)
    return write_report(folder, _STEM, document, stress_table.render(document))


def _unchanged(answer: Answer, image: Tensor, label: Tensor) -> Tensor:
    return image


def _unbounded(subject: Subject) -> str:
    """An eps within which every image lies."""
    if subject.header.config.attack.norm == "linf":
        return "1"
    return f"{math.ceil(math.sqrt(subject.images.pixels[0].numel()))}"
