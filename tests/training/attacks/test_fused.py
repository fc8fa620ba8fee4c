"""Fused attacks are the separate ones, number for number, from the same random starts."""

from collections.abc import Mapping
from typing import get_args

import pytest
import torch
from torch import Tensor

from tests.training import tiny
from training.attacks.fused import FusedPGD
from training.attacks.pgd import PGD, frozen
from training.config import Norm, Way
from training.threat import ThreatModel
from training.three_way import ThreeWayModel

WAYS: tuple[Way, ...] = get_args(Way)


def model(backbone: str) -> ThreeWayModel:
    return tiny.model(backbone, width=4, channels=3)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 3, 16, 16, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])


def pgd(norm: Norm, steps: int) -> PGD:
    return PGD(threat=ThreatModel(norm=norm, eps=0.1), steps=steps, step_size=0.04)


@pytest.mark.parametrize("backbone", ["small_cnn", "preact_resnet18"])
@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("steps", [(3, 3, 3), (4, 5, 2), (0, 1, 3)])
def test_equals_the_separate_attacks(backbone: str, norm: Norm, steps: tuple[int, ...]) -> None:
    made = model(backbone)
    image, label = batch()
    attacks = {way: pgd(norm, count) for way, count in zip(WAYS, steps, strict=True)}
    with frozen(made):
        torch.manual_seed(7)
        separate = {
            way: attack(lambda x, way=way: made.way(x, way), image, label)  # type: ignore[misc]  # a default binds the way
            for way, attack in attacks.items()
        }
        torch.manual_seed(7)
        together = FusedPGD(attacks=attacks)(made.ways, image, label)
    assert list(together) == list(WAYS)
    for way in WAYS:
        torch.testing.assert_close(together[way], separate[way], rtol=0, atol=1e-5)
        assert not torch.equal(together[way], image)


def test_an_attack_that_is_done_leaves_the_graph() -> None:
    asked: list[set[Way]] = []
    made = model("small_cnn")

    def watched(images: Mapping[Way, Tensor]) -> Mapping[Way, Tensor]:
        asked.append(set(images))
        return made.ways(images)

    attacks: dict[Way, PGD] = {"robust": pgd("linf", 2), "nonrobust": pgd("linf", 1)}
    with frozen(made):
        FusedPGD(attacks=attacks)(watched, *batch())
    assert asked == [{"robust", "nonrobust"}, {"robust"}]


def test_no_attacks_and_no_steps() -> None:
    image, label = batch()
    assert FusedPGD(attacks={})(model("small_cnn").ways, image, label) == {}
    still = PGD(threat=ThreatModel(norm="linf", eps=0.1), steps=0, step_size=1, random_start=False)
    (same,) = FusedPGD(attacks={"robust": still})(model("small_cnn").ways, image, label).values()
    assert torch.equal(same, image)
