"""Selective and orthogonal PGD where the two goals pull apart, and where they do not."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from training.attacks.lagrangian import Lagrangian
from training.attacks.score import score
from training.attacks.selective import Selective, without
from training.config import Norm
from training.threat import ThreatModel
from training.three_way import Logits

LABEL = torch.zeros(3, dtype=torch.long)
ATTACKS = [
    Selective(threat=ThreatModel(norm="linf", eps=0.3), steps=60),
    Selective(threat=ThreatModel(norm="linf", eps=0.3), steps=60, orthogonal=True),
    Lagrangian(threat=ThreatModel(norm="linf", eps=0.3), steps=60),
]


def grey() -> Tensor:
    return torch.full((3, 1, 2, 2), 0.5)


def pair(signed: Tensor) -> Tensor:
    return torch.stack((-signed, signed), dim=1)


def apart(image: Tensor) -> Logits:
    """The robust way looks at a pixel of its own: it needs 0.2, the others 0.1."""
    pixel = 10 * (image.flatten(1) - 0.5)
    near = pair(pixel[:, 0] - 1)
    return Logits(standard=near, robust=pair(pixel[:, 1] - 2), nonrobust=near)


@pytest.mark.parametrize("attack", ATTACKS, ids=["selective", "orthogonal", "weighted"])
def test_fools_and_brings_the_score_to_its_floor(attack: Selective | Lagrangian) -> None:
    """At eps 0.3 the standard way is wrong, and the robust way believes it by 1 in each logit."""
    found = attack(apart, grey(), LABEL)
    assert ((found - grey()).abs() <= 0.3 + 1e-6).all()
    said = apart(found)
    assert (said.standard.argmax(dim=1) == 1).all()
    assert (said.nonrobust.argmax(dim=1) == 1).all()
    floor = float(1 - torch.tensor([-1.0, 1.0]).softmax(dim=0)[1])
    assert score(said).tolist() == pytest.approx([floor] * 3, abs=1e-2)


def test_where_it_cannot_fool_it_comes_nearest() -> None:
    attack = Selective(threat=ThreatModel(norm="linf", eps=0.05), steps=30)
    found = apart(attack(apart, grey(), LABEL)).standard
    assert found[:, 1].tolist() == pytest.approx([-0.5] * 3, abs=1e-5)


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("orthogonal", [False, True])
def test_stays_in_the_ball_and_in_the_image(norm: Norm, orthogonal: bool) -> None:
    threat = ThreatModel(norm=norm, eps=0.2)
    image = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = Selective(threat=threat, steps=7, orthogonal=orthogonal)(apart, image, LABEL)
    assert (threat.distance(found - image) <= 0.2 + 1e-6).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_without_leaves_what_is_orthogonal() -> None:
    generator = torch.Generator().manual_seed(0)
    gradient, direction = torch.randn(2, 5, 1, 4, 4, generator=generator)
    left = without(gradient, direction)
    assert (left * direction).flatten(1).sum(dim=1).abs().max() < 1e-5
    share = (gradient - left) / direction
    torch.testing.assert_close(share, share[:, :, :1, :1].expand_as(share), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(without(gradient, 1e-30 * direction), left)
    assert torch.equal(without(gradient, torch.zeros_like(direction)), gradient)
