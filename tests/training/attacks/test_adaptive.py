"""Attacks that know the detector, on models whose weak points are known."""

import pytest
import torch
from torch import Tensor

from training.attacks import adaptive
from training.attacks.adaptive import Adaptive
from training.attacks.score import score, unsuspected
from training.threat import ThreatModel
from training.three_way import Logits


def unanimous(logits: Logits, label: Tensor) -> Tensor:
    """All three ways name the same wrong class, (N,)."""
    named = [way.argmax(dim=1) for way in logits]
    return (named[0] == named[1]) & (named[1] == named[2]) & (named[0] != label)


THRESHOLD = 1 - 1 / (1 + torch.e**-0.33)  # log-odds of 0.33


class Ways:
    """Three linear ways on four pixels: class 1 wants a pixel up that class 0 wants down.

    The robust way looks at the first pixel alone, from which 0.5 - `depth` is far; the others at
    pixels near their boundary. So an attack gets through exactly where eps passes `depth`.
    """

    def __init__(self, depth: float) -> None:
        self.depth = depth
        self.calls = 0

    def __call__(self, image: Tensor) -> Logits:
        self.calls += 1
        pixel = image.flatten(1)

        def way(signed: Tensor) -> Tensor:
            return torch.stack((-signed, signed, torch.full_like(signed, -9.0)), dim=1)

        near = pixel[:, 1] - 0.55
        return Logits(
            standard=way(near), robust=way(pixel[:, 0] - 0.5 - self.depth), nonrobust=way(near)
        )


def images(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.full((count, 1, 2, 2), 0.5), torch.zeros(count, dtype=torch.long)


@pytest.mark.parametrize(
    ("eps", "through"), [(0.1, False), (0.19, False), (0.21, True), (0.4, True)]
)
def test_gets_through_exactly_where_the_robust_way_can_be_turned(eps: float, through: bool) -> None:
    attack = Adaptive(threat=ThreatModel(norm="linf", eps=eps), steps=20)
    ways = Ways(0.2)
    image, label = images()
    found = attack(ways, image, label)
    assert unanimous(ways(found), label).tolist() == [through] * 3
    assert ((found - image).abs() <= eps + 1e-6).all()


def test_stops_where_all_are_through() -> None:
    attack = Adaptive(threat=ThreatModel(norm="linf", eps=0.4), steps=10, restarts=5)
    easy, hard = Ways(0.1), Ways(0.9)
    for ways in (easy, hard):
        attack(ways, *images())
    assert easy.calls < hard.calls / 2


def test_an_image_that_is_wrong_from_the_start_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive, "APGD", None)  # calling it would be an error
    image = torch.full((2, 1, 2, 2), 0.9)
    attack = Adaptive(threat=ThreatModel(norm="linf", eps=0.1))
    assert torch.equal(attack(Ways(0.2), image, torch.zeros(2, dtype=torch.long)), image)


@pytest.mark.parametrize(("eps", "through"), [(0.31, False), (0.39, True)])
def test_another_aim_takes_more(eps: float, through: bool) -> None:
    """To be 0.33 sure the robust way must be turned by 0.2 and then 0.165 further."""
    attack = Adaptive(
        threat=ThreatModel(norm="linf", eps=eps),
        steps=40,
        aim=lambda logits, target: unsuspected(logits, target, THRESHOLD),
    )
    ways = Ways(0.2)
    image, label = images()
    found = ways(attack(ways, image, label))
    assert (score(found) < THRESHOLD).tolist() == [through] * 3
