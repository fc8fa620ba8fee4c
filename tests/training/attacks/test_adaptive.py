"""Attacks that know the detector, on models whose weak points are known."""

import pytest
import torch
from torch import Tensor

from training.attacks import adaptive
from training.attacks.adaptive import (
    Adaptive,
    alarm,
    consensus,
    escape,
    margin,
    margins,
    unanimous,
)
from training.threat import ThreatModel
from training.three_way import Logits


def logits(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


LABEL = torch.tensor([0, 1])
THREE = Logits(
    standard=logits([3.0, 1.0, 0.0], [0.0, 2.0, 5.0]),
    robust=logits([2.0, 2.5, 0.0], [0.0, 1.0, 4.0]),
    nonrobust=logits([0.0, 4.0, 1.0], [0.0, 9.0, 9.5]),
)


def test_margin() -> None:
    assert margin(THREE.standard, LABEL).tolist() == [2.0, -3.0]
    assert margin(THREE.robust, torch.tensor([2, 2])).tolist() == [-2.5, 3.0]


def test_margins_are_those_of_each_class() -> None:
    for logits_ in (THREE.robust, logits([1.0, 1.0, 0.0], [2.0, 2.0, 2.0])):
        expected = [margin(logits_, torch.full((2,), index)) for index in range(3)]
        assert torch.equal(margins(logits_), torch.stack(expected, dim=1))


def test_consensus_is_the_weakest_way() -> None:
    assert consensus(THREE, torch.tensor([1, 2])).tolist() == [-2.0, 0.5]


def test_unanimous() -> None:
    """All ways on one wrong class; the ways of the first image differ, those of the second not."""
    assert unanimous(THREE, LABEL).tolist() == [False, True]
    assert unanimous(THREE, torch.tensor([0, 2])).tolist() == [False, False]


def test_escape() -> None:
    """Above zero exactly where the standard way is wrong and Eq. 12 is silent, by the lesser."""
    assert escape(THREE, LABEL).tolist() == [-2.0, 0.5]
    agree_on_the_truth = THREE._replace(standard=logits([1.0, 3.0, 0.0], [0.0, 2.0, 5.0]))
    assert escape(agree_on_the_truth, torch.tensor([0, 1])).tolist() == [0.5, 0.5]
    flagged = THREE._replace(robust=logits([2.0, 2.5, 0.0], [0.0, 6.0, 4.0]))
    assert (escape(flagged, LABEL) < 0).all()


def test_alarm() -> None:
    assert alarm(THREE, LABEL).tolist() == [4.0, 0.5]


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
