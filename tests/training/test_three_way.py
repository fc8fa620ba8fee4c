import pytest
import torch
from torch import Tensor, nn

from training.config import Way
from training.three_way import Encoded, ThreeWayModel


class Counting(nn.Module):
    """Two features of an image: its mean times `gain`, and the negative."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        mean = self.gain * image.flatten(1).mean(dim=1)
        return torch.stack((mean, -mean), dim=1)


def model() -> ThreeWayModel:
    torch.manual_seed(0)
    return ThreeWayModel(Counting(1.0), Counting(-3.0), features=2, classes=3)


def calls(of: ThreeWayModel) -> tuple[int, int]:
    counts = of.encoder_robust.calls, of.encoder_nonrobust.calls
    assert all(isinstance(count, int) for count in counts)
    return counts  # type: ignore[return-value]  # checked above


image = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1)


def test_head_of_appendix_b1() -> None:
    first, relu, last = ThreeWayModel(nn.Identity(), nn.Identity(), features=5, classes=3).head
    assert isinstance(first, nn.Linear)
    assert isinstance(relu, nn.ReLU)
    assert isinstance(last, nn.Linear)
    assert first.weight.shape == (5, 10)
    assert last.weight.shape == (3, 5)
    assert first.bias is not None
    assert last.bias is not None


def test_encode() -> None:
    z_robust, z_nonrobust = model().encode(image)
    torch.testing.assert_close(z_robust, torch.tensor([[0.2, -0.2], [0.8, -0.8]]))
    torch.testing.assert_close(z_nonrobust, torch.tensor([[-0.6, 0.6], [-2.4, 2.4]]))


def test_equation_5_by_hand() -> None:
    """f(z) = W2 relu(W1 z + b1) + b2 in plain arithmetic, one half of z set to zero."""
    made = model()
    parameters = {name: value.tolist() for name, value in made.head.state_dict().items()}

    def f(z: list[float]) -> list[float]:
        hidden = [
            max(0.0, sum(w * x for w, x in zip(row, z, strict=True)) + bias)
            for row, bias in zip(parameters["0.weight"], parameters["0.bias"], strict=True)
        ]
        return [
            sum(w * x for w, x in zip(row, hidden, strict=True)) + bias
            for row, bias in zip(parameters["2.weight"], parameters["2.bias"], strict=True)
        ]

    logits = made(image)
    for row, mean in enumerate((0.2, 0.8)):
        z_r, z_n = [mean, -mean], [-3 * mean, 3 * mean]
        assert logits.standard[row].tolist() == pytest.approx(f([*z_r, *z_n]), abs=1e-6)
        assert logits.robust[row].tolist() == pytest.approx(f([*z_r, 0.0, 0.0]), abs=1e-6)
        assert logits.nonrobust[row].tolist() == pytest.approx(f([0.0, 0.0, *z_n]), abs=1e-6)


@pytest.mark.parametrize("way", ["standard", "robust", "nonrobust"])
def test_way_equals_forward(way: Way) -> None:
    made = model()
    assert torch.equal(made.way(image, way), getattr(made(image), way))


def test_decide_takes_other_representations() -> None:
    made = model()
    encoded = made.encode(image)
    swapped = made.decide(Encoded(encoded.z_robust, encoded.z_nonrobust.flip(0)))
    assert torch.equal(swapped.robust, made(image).robust)
    assert torch.equal(swapped.nonrobust, made(image).nonrobust.flip(0))


def test_forward_runs_each_encoder_once() -> None:
    made = model()
    made(image)
    assert calls(made) == (1, 1)


@pytest.mark.parametrize(
    ("way", "expected"), [("standard", (1, 1)), ("robust", (1, 0)), ("nonrobust", (0, 1))]
)
def test_way_runs_only_what_it_looks_at(way: Way, expected: tuple[int, int]) -> None:
    made = model()
    made.way(image, way)
    assert calls(made) == expected


@pytest.mark.parametrize(("way", "absent"), [("robust", "nonrobust"), ("nonrobust", "robust")])
def test_single_ways_send_no_gradient_to_the_other_encoder(way: Way, absent: str) -> None:
    made = model()
    getattr(made(image), way).sum().backward()
    assert getattr(made, f"encoder_{way}").gain.grad.abs() > 0
    # In one forward pass the absent encoder was run, but nothing came from it.
    assert getattr(made, f"encoder_{absent}").gain.grad is None


@pytest.mark.parametrize(
    "ways", [("standard", "robust", "nonrobust"), ("nonrobust", "standard"), ("robust",)]
)
def test_ways_at_once_answer_as_one_by_one(ways: tuple[Way, ...]) -> None:
    """Every way on images of its own, in different numbers."""
    torch.manual_seed(0)
    model = ThreeWayModel(nn.Linear(3, 2), nn.Linear(3, 2), features=2, classes=4)
    images = {way: torch.rand(count + 1, 3) for count, way in enumerate(ways)}
    together = model.ways(images)
    assert list(together) == list(ways)
    for way, image in images.items():
        torch.testing.assert_close(together[way], model.way(image, way))
