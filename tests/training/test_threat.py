import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.config import Norm
from training.threat import ThreatModel

NORMS = get_args(Norm)


def image(*pixels: float) -> Tensor:
    return torch.tensor(pixels).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("norm", "delta", "projected"),
    [
        ("linf", [0.3, -4.0, 0.05], [0.1, -0.1, 0.05]),
        ("l2", [0.3, 0.4, 0.0], [0.06, 0.08, 0.0]),
        ("l2", [0.03, 0.04, 0.0], [0.03, 0.04, 0.0]),
        ("l2_sign", [0.3, 0.4, 0.0], [0.06, 0.08, 0.0]),
        ("l2", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_project(norm: Norm, delta: list[float], projected: list[float]) -> None:
    moved = ThreatModel(norm=norm, eps=0.1).project(image(*delta))
    assert moved.flatten().tolist() == pytest.approx(projected)


@pytest.mark.parametrize(
    ("norm", "step"),
    [("linf", [0.2, -0.2, 0.0]), ("l2", [0.12, -0.16, 0.0]), ("l2_sign", [0.2, -0.2, 0.0])],
)
def test_step(norm: Norm, step: list[float]) -> None:
    moved = ThreatModel(norm=norm, eps=1.0).step(image(3.0, -4.0, 0.0), 0.2)
    assert moved.flatten().tolist() == pytest.approx(step)


@pytest.mark.parametrize(("norm", "length"), [("linf", 0.4), ("l2", 0.5), ("l2_sign", 0.5)])
def test_distance(norm: Norm, length: float) -> None:
    threat = ThreatModel(norm=norm, eps=1.0)
    assert threat.distance(image(0.3, -0.4)).tolist() == pytest.approx([length])


@pytest.mark.parametrize("norm", NORMS)
def test_vanishing_gradient_moves_nothing(norm: Norm) -> None:
    step = ThreatModel(norm=norm, eps=0.1).step(torch.zeros(2, 1, 2, 2), 0.1)
    assert step.count_nonzero() == 0


@pytest.mark.parametrize("norm", NORMS)
def test_each_image_on_its_own(norm: Norm) -> None:
    threat = ThreatModel(norm=norm, eps=0.1)
    torch.manual_seed(0)
    delta = torch.randn(3, 2, 2, 2) * torch.tensor([0.01, 1.0, 9.0]).view(3, 1, 1, 1)
    for together, alone in (
        (threat.project(delta), [threat.project(one[None]) for one in delta]),
        (threat.step(delta, 0.2), [threat.step(one[None], 0.2) for one in delta]),
        (threat.distance(delta), [threat.distance(one[None]) for one in delta]),
    ):
        assert torch.equal(together, torch.cat(alone))


def test_scaled() -> None:
    assert ThreatModel(norm="l2", eps=0.4).scaled(0.25) == ThreatModel(norm="l2", eps=0.1)


balls = st.builds(
    ThreatModel, norm=st.sampled_from(NORMS), eps=st.floats(1e-3, 10.0, allow_subnormal=False)
)
deltas = st.lists(
    st.floats(-100, 100, width=32, allow_subnormal=False), min_size=8, max_size=8
).map(lambda values: torch.tensor(values).view(2, 1, 2, 2))


@given(balls, deltas)
@settings(max_examples=60, deadline=None)
def test_projection(threat: ThreatModel, delta: Tensor) -> None:
    """Inside the ball, the same when repeated, and nothing that was inside has moved."""
    projected = threat.project(delta)
    assert (threat.distance(projected) <= threat.eps * (1 + 1e-6)).all()
    torch.testing.assert_close(threat.project(projected), projected, rtol=1e-6, atol=1e-7)
    inside = threat.distance(delta) <= threat.eps * (1 - 1e-6)
    assert torch.equal(projected[inside], delta[inside])


@given(balls, deltas, deltas)
@settings(max_examples=60, deadline=None)
def test_projection_is_the_nearest(threat: ThreatModel, delta: Tensor, other: Tensor) -> None:
    """No other perturbation of the ball is nearer to the one that was projected."""
    other = threat.project(other)

    def away(candidate: Tensor) -> Tensor:
        return (delta - candidate).double().flatten(1).norm(dim=1)

    assert (away(threat.project(delta)) <= away(other) * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start_fills_the_ball(norm: Norm) -> None:
    threat = ThreatModel(norm=norm, eps=0.3)
    torch.manual_seed(0)
    length = threat.distance(threat.random_start(torch.zeros(4000, 1, 1, 2)))
    assert (length <= 0.3 * (1 + 1e-6)).all()
    # Uniform in two dimensions: half of the ball lies within its radius over the root of two.
    assert float((length < 0.3 / math.sqrt(2)).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_l2_sign_starts_in_the_box() -> None:
    threat = ThreatModel(norm="l2_sign", eps=0.3)
    torch.manual_seed(0)
    start = threat.random_start(torch.zeros(100, 3, 8, 8))
    assert float(start.abs().max()) <= 0.3
    assert float(start.abs().mean()) == pytest.approx(0.15, abs=0.005)
    assert (threat.distance(start) > 0.3).all()  # far outside the l2 ball


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_is_centred_and_seeded(norm: Norm) -> None:
    threat = ThreatModel(norm=norm, eps=0.3)
    torch.manual_seed(0)
    start = threat.random_start(torch.ones(500, 1, 2, 2))
    assert float(start.mean()) == pytest.approx(0.0, abs=0.01)
    torch.manual_seed(0)
    assert torch.equal(threat.random_start(torch.ones(500, 1, 2, 2)), start)


@pytest.mark.parametrize(
    ("norm", "eps", "natural", "adversarial", "levels"),
    [
        ("linf", 8 / 255, [100, 0, 255], [108.4, 3.6, 250.6], [108, 4, 251]),
        ("linf", 0.3, [100, 0, 255], [176.5, 76.5, 178.5], [176, 76, 179]),  # 76.5 levels
        ("l2", 3 / 255, [100, 100], [102.0, 102.0], [102, 102]),  # 2.83
        ("l2", 2.3 / 255, [100, 100], [101.6, 98.4], [101, 99]),  # rounded it would be 2.83
        ("l2_sign", 2.3 / 255, [100, 100], [101.6, 98.4], [101, 99]),
        ("l2", 9 / 255, [250, 0], [255.0, 4.9], [255, 5]),
    ],
)
def test_rounded(
    norm: Norm, eps: float, natural: list[int], adversarial: list[float], levels: list[int]
) -> None:
    pixels = torch.tensor(natural, dtype=torch.uint8).view(1, 1, 1, -1)
    found = ThreatModel(norm=norm, eps=eps).rounded(pixels, image(*adversarial) / 255)
    assert found.dtype == torch.uint8
    assert found.flatten().tolist() == levels


@pytest.mark.parametrize("norm", NORMS)
@given(eps=st.floats(0.004, 0.5), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_rounded_images_stay_in_the_ball_and_near(norm: Norm, eps: float, seed: int) -> None:
    """Never beyond eps, and in l_inf at most a level from the exact image."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8, generator=generator)
    threat = ThreatModel(norm=norm, eps=eps)
    natural = pixels / 255.0
    moved = threat.project(torch.randn(natural.shape, generator=generator))
    adversarial = (natural + moved).clamp(0, 1)
    found = threat.rounded(pixels, adversarial)
    assert (threat.distance(found / 255.0 - natural) <= eps + 1e-4).all()
    if norm == "linf":
        assert (found - adversarial * 255).abs().max() <= 1.01


@pytest.mark.parametrize("eps", [0.3, 0.5, 1.0])
def test_rounding_keeps_an_l2_attack_nearly_as_long(eps: float) -> None:
    """Truncating it pixel by pixel would cost up to a third of it."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(60, 190, (20, 1, 28, 28), dtype=torch.uint8, generator=generator)
    threat = ThreatModel(norm="l2", eps=eps)
    moved = threat.project(9 * torch.randn(pixels.shape, generator=generator))
    found = threat.rounded(pixels, pixels / 255.0 + moved) / 255.0 - pixels / 255.0
    along = (found * moved).flatten(1).sum(dim=1) / eps
    assert (along > 0.95 * eps).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_step_has_its_length_however_small_the_gradient(scale: float) -> None:
    step = ThreatModel(norm="l2", eps=1.0).step(scale * image(3.0, -4.0), 0.2)
    assert step.flatten().tolist() == pytest.approx([0.12, -0.16])
