"""AutoAttack on models whose robustness is known, and nothing of it left behind."""

import logging
import sys

import pytest
import torch
from torch import Tensor, nn

from training.attacks.autoattack import AutoAttack
from training.config import ConfigError, Norm, Way
from training.threat import ThreatModel


class Linear:
    """`classes` logits on 1 x 6 x 6 images; the first pixel decides between the first two.

    It is 0.1 from its boundary for the robust way and 0.2 for the others.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def way(self, image: Tensor, way: Way) -> Tensor:
        signed = 10 * (image.flatten(1)[:, 0] - (0.6 if way == "robust" else 0.7))
        rest = [-5 - index + 0.0 * signed for index in range(self.classes - 2)]
        return torch.stack([-signed, signed, *rest], dim=1)


def images() -> tuple[Tensor, Tensor]:
    return torch.full((2, 1, 6, 6), 0.5), torch.zeros(2, dtype=torch.long)


def run(classes: int, eps: float, way: Way = "robust", norm: Norm = "linf") -> Tensor:
    image, label = images()
    attack = AutoAttack(threat=ThreatModel(norm=norm, eps=eps), way=way)
    torch.manual_seed(0)
    found = attack(Linear(classes), image, label, warn=lambda text: None)
    assert (attack.threat.distance(found - image) <= eps + 1e-6).all()
    return Linear(classes).way(found, way).argmax(dim=1) != label


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fools_exactly_where_it_can(
    classes: int, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    assert run(classes, 0.11, norm=norm).tolist() == [True, True]
    assert run(classes, 0.09, norm=norm).tolist() == [False, False]
    assert run(classes, 0.11, "standard", norm=norm).tolist() == [False, False]


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty queries instead of 5000."""
    import pyautoattack.autoattack as package

    square = package.SquareAttack
    monkeypatch.setattr(
        package, "SquareAttack", lambda *a, **k: square(*a, **(k | {"n_queries": 20}))
    )


class Colour(nn.Module):
    """A small network in the layout that stages use, in which gradients aren't contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )

    def way(self, image: Tensor, way: Way) -> Tensor:
        return self.layers(image)


def test_the_seed_decides_and_nothing_stays_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    torch.manual_seed(1)
    model = Colour().to(memory_format=torch.channels_last).requires_grad_(False)
    image = torch.rand(6, 3, 8, 8)
    label = model.way(image, "robust").argmax(dim=1)
    attack = AutoAttack(threat=ThreatModel(norm="linf", eps=0.2), way="robust")

    def trace(*arguments: object) -> None:
        return None

    logger = logging.getLogger("auto-attack")
    before = logger.handlers[:], logger.propagate, logger.level
    traced = sys.gettrace()
    found, after = [], []
    for _ in range(2):
        torch.manual_seed(2)
        sys.settrace(trace)
        found.append(attack(model, image, label, warn=lambda text: None))
        assert sys.gettrace() is trace
        after.append(torch.rand(3))
        sys.settrace(traced)
    assert torch.equal(*found)
    torch.manual_seed(2)
    torch.randint(2**31, ())
    assert torch.equal(after[0], torch.rand(3))  # one draw, whatever the package did
    assert (logger.handlers, logger.propagate, logger.level) == before
    assert capsys.readouterr() == ("", "")


def test_its_warnings_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that answers the same to everything has no gradient."""
    quick(monkeypatch)

    class Flat:
        def way(self, image: Tensor, way: Way) -> Tensor:
            return torch.tensor([3.0, 2.0, 1.0, 0.0]) + 0 * image.sum(dim=(1, 2, 3))[:, None]

    heard: list[str] = []
    attack = AutoAttack(threat=ThreatModel(norm="linf", eps=0.1), way="robust")
    attack(Flat(), *images(), warn=heard.append)
    assert any("zero gradient" in text for text in heard)
    assert caplog.records == []


def test_sign_steps_are_no_ball_of_autoattacks() -> None:
    with pytest.raises(ConfigError, match="l2_sign"):
        AutoAttack(threat=ThreatModel(norm="l2_sign", eps=0.3), way="robust")
