"""The stage `stress`: attackers who know the detector, and what is left of it image by image.

For each eps several attacks run on the same images; an image counts as fooled where any of them got
a wrong label past the policy. Leaves `stress.json` and `stress.md`. What becomes of an image is
`outcomes`' business; the attacks are `attacks.adaptive`'s. Attacked images are not rounded.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy

from training import metrics, predict, stress_table
from training.attacks.adaptive import Adaptive, Answer, alarm, escape, margin
from training.attacks.apgd import APGD
from training.checkpoint import current_commit
from training.config import ConfigError, parse_eps
from training.data import to_float
from training.files import write_report
from training.metrics import Flags
from training.outcomes import POLICIES, Named, Outcomes, outcomes, worst
from training.predict import WAYS
from training.subject import Subject
from training.threat import ThreatModel

_STEM = "stress"
JSON_FILE, TABLE_FILE = f"{_STEM}.json", f"{_STEM}.md"

_FORMAT = 1
_CHECKED = 64  # images for the checks
_TOLERATED = 0.05  # of the images, that a stronger attack gets through

Attack = Callable[[Answer, Tensor, Tensor], Tensor]  # ways, images, labels to attacked images


@dataclass(frozen=True, kw_only=True)
class Stress:
    """`eps` and `alarm_eps` as they are written, in the norm that the model was trained against.

    `steps` gradients an attack; `targets` and `restarts` as `attacks.adaptive.Adaptive` has them.
    """

    eps: tuple[str, ...]
    dataset: str | None = None  # None: from the data source
    alarm_eps: str = "1/255"
    steps: int = 50
    targets: int = 3
    restarts: int = 1
    seed: int = 0
    batch_size: int = 250

    def __call__(self, subject: Subject, console: Console) -> dict[str, Any]:
        """Everything `stress.json` holds, as JSON types; shares are in [0, 1].

        Raises:
            ConfigError: the model's method does not train all three ways.
        """
        if len(subject.ways) < len(WAYS):
            raise ConfigError("only a model of three ways has a detector to put under stress")
        began = time.monotonic()
        with predict.examined(subject.model):
            results = []
            for eps in self.eps:
                results.append(self._result(subject, eps))
                console.print(stress_table.line(results[-1]), highlight=False, soft_wrap=True)
            document = {
                "format": _FORMAT,
                "dataset": self.dataset or subject.dataset,
                "split": subject.split,
                "n_images": len(subject.images),
                "index": list(subject.index),
                "weights_sha256": subject.header.weights_sha256,
                "model": subject.header.config.name,
                "norm": subject.header.config.attack.norm,
                "eps": subject.header.config.attack.eps,
                "settings": {**vars(self), "eps": list(self.eps)},
                "natural": self._natural(subject),
                "alarm": self._alarm(subject),
                "results": results,
                "checks": [*self._checks(subject), *_gaps(results)],
            }
        return document | {
            "commit": current_commit(),
            "torch": torch.__version__,
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "seconds": round(time.monotonic() - began, 1),
        }

    def attacks(self, threat: ThreatModel) -> Mapping[str, Attack]:
        """By name, the weakest idea first."""
        apgd = APGD(threat=threat, steps=self.steps)
        adaptive = Adaptive(
            threat=threat, steps=self.steps, restarts=self.restarts, targets=self.targets
        )
        return {
            "standard way": lambda answer, image, label: (
                apgd(lambda x: -margin(answer(x).standard, label), image).image
            ),
            "robust way": lambda answer, image, label: (
                apgd(lambda x: -margin(answer(x).robust, label), image).image
            ),
            "sum of all ways": lambda answer, image, label: (
                apgd(
                    lambda x: torch.stack(
                        [cross_entropy(way, label, reduction="none") for way in answer(x)]
                    ).sum(dim=0),
                    image,
                ).image
            ),
            "unflagged error": lambda answer, image, label: (
                apgd(lambda x: escape(answer(x), label), image).image
            ),
            "unanimous ways": adaptive,
        }

    def _result(self, subject: Subject, eps: str) -> dict[str, Any]:
        """One eps: what each attack alone and an attacker with the choice gets from each policy."""
        label = subject.images.label.numpy()
        named = {
            name: self._named(subject, attack)
            for name, attack in self.attacks(self._threat(subject, eps)).items()
        }
        alone = {
            name: {policy: outcomes(policy, labels, label) for policy in POLICIES}
            for name, labels in named.items()
        }
        turned = np.logical_or.reduce([labels.robust != label for labels in named.values()])
        return {
            "eps": eps,
            "attacks": {
                name: {policy: _shares(found) for policy, found in policies.items()}
                for name, policies in alone.items()
            },
            "worst": {
                policy: _shares(worst([policies[policy] for policies in alone.values()]))
                for policy in POLICIES
            },
            "robust_accuracy": _share(np.asarray(~turned)),
            "bound": metrics.share(np.asarray(turned)),
        }

    def _natural(self, subject: Subject) -> dict[str, Any]:
        named = self._named(subject, lambda answer, image, label: image)
        label = subject.images.label.numpy()
        return {policy: _shares(outcomes(policy, named, label)) for policy in POLICIES}

    def _alarm(self, subject: Subject) -> dict[str, Any]:
        """How many natural images an attacker can get flagged who wants no more than that."""
        apgd = APGD(threat=self._threat(subject, self.alarm_eps), steps=self.steps)

        def attack(answer: Answer, image: Tensor, label: Tensor) -> Tensor:
            with torch.no_grad():
                named = answer(image).robust.argmax(dim=1)
            return apgd(lambda x: alarm(answer(x), named), image).image

        found = self._named(subject, attack)
        return {
            "eps": self.alarm_eps,
            "flagged": _share(metrics.flagged(found.robust, found.nonrobust)),
        }

    def _checks(self, subject: Subject) -> list[dict[str, Any]]:
        """Signs of a weak attack, on a few images."""
        few = replace(subject, images=subject.images.take(slice(_CHECKED)))
        everything = _unbounded(subject)
        unbounded = self._fooled(few, self, everything)
        own = subject.header.config.attack.eps
        once = self._fooled(few, self, own)
        twice = self._fooled(few, replace(self, steps=2 * self.steps), own)
        return [
            {
                "name": f"with eps {everything} the unanimous attack gets every image through",
                "value": unbounded,
                "passed": unbounded == 1.0,
            },
            {
                "name": "twice the steps get at most one image in twenty more through",
                "value": twice - once,
                "passed": twice - once <= _TOLERATED,
            },
        ]

    def _fooled(self, subject: Subject, settings: "Stress", eps: str) -> float:
        attack = settings.attacks(self._threat(subject, eps))["unanimous ways"]
        found = outcomes("strict", self._named(subject, attack), subject.images.label.numpy())
        return metrics.share(found.fooled)

    def _threat(self, subject: Subject, eps: str) -> ThreatModel:
        return ThreatModel(norm=subject.header.config.attack.norm, eps=parse_eps(eps))

    def _named(self, subject: Subject, attack: Attack) -> Named:
        """The ways' labels on the attacked images; random starts follow from seed and position."""
        found = []
        for position, batch in predict.batches(subject.images, self.batch_size, subject.device):
            predict.reseed(self.seed, position)
            attacked = attack(subject.model, to_float(batch.pixels), batch.label)
            found.append(predict.answer(subject.model, attacked, WAYS))
        return Named(**{way: part.argmax(axis=1) for way, part in predict.joined(found).items()})


def write(document: dict[str, Any], folder: Path) -> Path:
    """Write both files into `folder`, replacing an earlier test; returns the JSON's path.

    Raises:
        OutputError: the folder cannot be written to.
    """
    return write_report(folder, _STEM, document, stress_table.render(document))


def _unbounded(subject: Subject) -> str:
    """An eps within which every image lies."""
    if subject.header.config.attack.norm == "linf":
        return "1"
    return f"{math.ceil(math.sqrt(subject.images.pixels[0].numel()))}"


def _gaps(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An attacker who can turn the robust way should be able to drag the fragile ones along."""
    gaps = [
        (result["eps"], result["bound"] - result["worst"]["strict"]["fooled"]["value"])
        for result in results
    ]
    return [
        {
            "name": f"at eps {eps} at most one image in twenty turns the robust way alone",
            "value": gap,
            "passed": gap <= _TOLERATED,
        }
        for eps, gap in gaps
    ]


def _share(hits: Flags) -> dict[str, Any]:
    low, high = metrics.wilson_interval(int(hits.sum()), len(hits))
    return {"value": metrics.share(hits), "interval": [low, high]}


def _shares(found: Outcomes) -> dict[str, Any]:
    return {name: _share(getattr(found, name)) for name in ("correct", "fooled", "rejected")}
