"""The attacks of a stress test by name, each with what it knows of the detector.

A table and nothing more: the attacks are in the modules beside this one, what becomes of their
images is the stage's business.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.attacks.adaptive import Adaptive, Aim, Answer
from training.attacks.apgd import APGD
from training.attacks.lagrangian import Lagrangian
from training.attacks.margin import alarm, escape, margin
from training.attacks.score import quiet_error, unanimous_unsuspected, unsuspected
from training.attacks.selective import Selective
from training.threat import ThreatModel

Attack = Callable[[Answer, Tensor, Tensor], Tensor]  # ways, images, labels to attacked images

OBLIVIOUS = "standard way"  # the one attack that does not know of the detector
_LONGER = 4  # times the steps for the two that have steps of one length and one start
_EVEN = 0.5  # a score below it means that the robust way names the class


def suite(
    threat: ThreatModel,
    *,
    steps: int,
    targets: int,
    restarts: int,
    thresholds: Mapping[str, float],
) -> dict[str, Attack]:
    """By name, the weakest idea first. `thresholds` of the score by the name of their policy.

    The last of `thresholds` is also held together with strict agreement, which asks for an attack
    of its own only where the score alone would let the ways differ.
    """
    apgd = APGD(threat=threat, steps=steps)

    def rising(objective: Callable[[Answer, Tensor, Tensor], Tensor]) -> Attack:
        return lambda answer, image, label: apgd(lambda x: objective(answer, x, label), image).image

    return {
        OBLIVIOUS: rising(lambda answer, x, label: -margin(answer(x).standard, label)),
        "robust way": rising(lambda answer, x, label: -margin(answer(x).robust, label)),
        "sum of all ways": rising(_sum_of_losses),
        "unflagged error": rising(lambda answer, x, label: escape(answer(x), label)),
        **{
            f"unflagged error below {policy}": rising(partial(_quiet_error, threshold))
            for policy, threshold in thresholds.items()
        },
        "weighted sum with the score": Lagrangian(threat=threat, steps=steps),
        "selective on the score": Selective(threat=threat, steps=_LONGER * steps),
        "orthogonal on the score": Selective(threat=threat, steps=_LONGER * steps, orthogonal=True),
        **searches(threat, steps=steps, targets=targets, restarts=restarts, thresholds=thresholds),
    }


def searches(
    threat: ThreatModel,
    *,
    steps: int,
    targets: int,
    restarts: int,
    thresholds: Mapping[str, float],
) -> dict[str, Attack]:
    """The strongest of the suite: over targets and starts, one for each way to be accepted."""
    search = partial(Adaptive, threat=threat, steps=steps, targets=targets, restarts=restarts)
    found: dict[str, Attack] = {"unanimous ways": search()}
    for policy, threshold in thresholds.items():
        found[f"below {policy}"] = search(aim=_aim(unsuspected, threshold))
    policy, threshold = list(thresholds.items())[-1]
    if threshold > _EVEN:
        found[f"unanimous below {policy}"] = search(aim=_aim(unanimous_unsuspected, threshold))
    return found


def noise(threat: ThreatModel) -> Attack:
    """No attack: a random place in the ball."""
    return lambda answer, image, label: (image + threat.project(threat.random_start(image))).clamp(
        0, 1
    )


def alarms(threat: ThreatModel, *, steps: int) -> Attack:
    """To have natural images flagged: the non-robust way leaves what the robust way names."""
    apgd = APGD(threat=threat, steps=steps)

    def attack(answer: Answer, image: Tensor, label: Tensor) -> Tensor:
        with torch.no_grad():
            named = answer(image).robust.argmax(dim=1)
        return apgd(lambda x: alarm(answer(x), named), image).image

    return attack


def _aim(objective: Callable[..., Tensor], threshold: float) -> Aim:
    return lambda logits, target: objective(logits, target, threshold)


def _quiet_error(threshold: float, answer: Answer, x: Tensor, label: Tensor) -> Tensor:
    return quiet_error(answer(x), label, threshold)


def _sum_of_losses(answer: Answer, x: Tensor, label: Tensor) -> Tensor:
    losses = [cross_entropy(way, label, reduction="none") for way in answer(x)]
    return torch.stack(losses).sum(dim=0)
