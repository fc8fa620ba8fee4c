"""Gradients against finite differences, and how they are shown."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.training import tiny
from training.config import Way
from training.gradients import loss_gradient, shown


@pytest.mark.parametrize("way", ["standard", "robust", "nonrobust"])
def test_against_finite_differences(way: Way) -> None:
    model = tiny.model().double().eval()
    # The head computes in float32, so that the step must be coarse.
    image = torch.rand(2, 1, 16, 16, dtype=torch.float64, generator=torch.manual_seed(0))
    label = torch.tensor([0, 2])
    model.head.float()
    gradient = loss_gradient(model, image, label, way)
    direction = torch.randn(image.shape, dtype=torch.float64, generator=torch.manual_seed(1))
    step = 1e-3
    with torch.no_grad():
        ahead, behind = (
            cross_entropy(model.way(image + sign * step * direction, way), label, reduction="sum")
            for sign in (1, -1)
        )
    slope = float(ahead - behind) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=0.05, abs=1e-4)


def test_shown_is_clipped_and_rescaled() -> None:
    gradient = torch.zeros(2, 1, 10, 10)
    gradient[0, 0, 0, 0] = 1000.0  # far beyond three deviations
    gradient[0, 0, 0, 1] = -1.0
    gradient[1] = 7.0
    picture = shown(gradient)
    assert float(picture[0].max()) == float(picture[0, 0, 0, 0]) == 1.0
    assert float(picture[0].min()) == float(picture[0, 0, 0, 1]) == 0.0
    # mean 9.99, deviation 100: clipped at 310, so that 0 lies at 1 / 311 of the way.
    assert float(picture[0, 0, 5, 5]) == pytest.approx(1 / 311, rel=0.01)
    assert (picture[1] == 0.5).all()
