"""Attacks that know the detector, on models whose weak points are known."""

import pytest
import torch
from torch import Tensor

from training.attacks import adaptive
from training.attacks.adaptive import Adaptive, agreement, consensus, margin, unanimous, unflagged
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


def test_consensus_is_the_weakest_way() -> None:
    assert consensus(THREE, torch.tensor([1, 2])).tolist() == [-2.0, 0.5]
    assert agreement(THREE, torch.tensor([1, 2])).tolist() == [0.5, 0.5]


def test_what_gets_through() -> None:
    """The first image is named rightly by the standard way; the second wrongly by all."""
    assert unflagged(THREE, LABEL).tolist() == [False, True]
    assert unanimous(THREE, LABEL).tolist() == [False, True]
    assert unanimous(THREE, torch.tensor([0, 2])).tolist() == [False, False]
    flagged = THREE._replace(robust=logits([2.0, 2.5, 0.0], [0.0, 6.0, 4.0]))
    assert unflagged(flagged, LABEL).tolist() == [False, False]


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


def test_an_unflagged_error_is_enough_where_that_is_asked() -> None:
    """The standard way is wrong for itself; the others disagree until they are attacked."""

    def ways(image: Tensor) -> Logits:
        apart = Ways(0.2)(image + torch.tensor([[0.0, 0.1], [0.0, 0.0]]))
        return apart._replace(standard=torch.tensor([[0.0, 0.0, 9.0]]).expand(len(image), 3))

    image, label = images()
    assert not unflagged(ways(image), label).any()
    for succeeded, through in ((unanimous, False), (unflagged, True)):
        attack = Adaptive(threat=ThreatModel(norm="linf", eps=0.3), steps=20, succeeded=succeeded)
        found = attack(ways, image, label)
        assert succeeded(ways(found), label).tolist() == [through] * 3
