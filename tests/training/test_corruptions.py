"""What every corruption keeps to, whatever it does: shape, range, order, and what it draws from."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from training import corruptions
from training.config import ConfigError
from training.corruptions import CORRUPTIONS, SEVERITIES, corrupt, named

GREY = [name for name, corruption in CORRUPTIONS.items() if not corruption.colour_only]
CASES = [(name, 1, 28) for name in GREY] + [(name, 3, 32) for name in CORRUPTIONS]


def pictures(channels: int, side: int, count: int = 12) -> Tensor:
    """Soft blobs with hard edges, uint8: something to blur, to move and to cover."""
    generator = torch.Generator().manual_seed(side)
    coarse = torch.rand(count, channels, 6, 6, generator=generator)
    soft = interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return (255 * torch.where(soft > 0.6, soft, 0.3 * soft)).round().to(torch.uint8)


def distance(images: Tensor, name: str, severity: int) -> float:
    """Mean over images of the root mean square change of a level."""
    corrupted = corrupt(images, name, severity, seed=0, positions=range(len(images)))
    change = corrupted.double() - images.double()
    return float(change.square().mean(dim=(1, 2, 3)).sqrt().mean())


def test_there_are_many_with_five_severities() -> None:
    assert len(GREY) >= 10
    assert {len(corruption.amounts) for corruption in CORRUPTIONS.values()} == {len(SEVERITIES)}


@pytest.mark.parametrize(("name", "channels", "side"), CASES)
def test_severities_are_ordered(name: str, channels: int, side: int) -> None:
    images = pictures(channels, side)
    distances = [distance(images, name, severity) for severity in SEVERITIES]
    assert distances == sorted(set(distances))
    assert 0 < distances[0] < 0.15 * 255


@pytest.mark.parametrize(("name", "channels", "side"), CASES)
def test_batches_do_not_matter(name: str, channels: int, side: int) -> None:
    images = pictures(channels, side, 5)
    positions = (3, 4, 10, 11, 700)
    together = corrupt(images, name, 3, seed=1, positions=positions)
    assert (together.shape, together.dtype) == (images.shape, torch.uint8)
    assert torch.equal(together, corrupt(images, name, 3, seed=1, positions=positions))
    apart = [
        corrupt(images[row : row + 1], name, 3, seed=1, positions=positions[row : row + 1])
        for row in (4, 3, 2, 1, 0)
    ]
    assert torch.equal(together, torch.cat(apart[::-1]))


@pytest.mark.parametrize(
    "name",
    [
        *("gaussian-noise", "shot-noise", "impulse-noise", "motion-blur", "fog", "elastic"),
        *("rotation", "translation", "occlusion"),
    ],
)
def test_what_is_drawn_follows_from_seed_and_position(name: str) -> None:
    images = pictures(3, 32, 1).expand(12, -1, -1, -1)
    one = corrupt(images, name, 4, seed=0, positions=range(12))
    assert not torch.equal(one, corrupt(images, name, 4, seed=1, positions=range(12)))
    assert not torch.equal(one, corrupt(images, name, 4, seed=0, positions=range(12, 24)))
    assert len({image.numpy().tobytes() for image in one}) > 1


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_and_kind(name: str) -> None:
    """Large and oblong images, floating point as well as bytes, and the input left alone."""
    images = interpolate(pictures(3, 64, 1).float(), size=(224, 160)).round().to(torch.uint8)
    kept = images.clone()
    corrupted = corrupt(images, name, 2, seed=0, positions=(7,))
    assert corrupted.shape == images.shape
    assert not torch.equal(corrupted, images)
    exact = images.float() / 255
    assert torch.equal(corrupted, corrupt(exact, name, 2, seed=0, positions=(7,)))
    assert torch.equal(images, kept)
    assert torch.equal(exact, kept.float() / 255)


def test_known_amounts() -> None:
    """Where the result can be worked out: light, contrast, salt and pepper, a covering square."""
    grey = torch.full((1, 1, 40, 40), 100, dtype=torch.uint8)
    bright = corrupt(grey, "brightness", 3, seed=0, positions=(0,))
    assert bright.unique().tolist() == [round(100 + 0.25 * 255)]
    assert torch.equal(corrupt(grey, "contrast", 5, seed=0, positions=(0,)), grey)
    salted = corrupt(grey, "impulse-noise", 5, seed=0, positions=(0,))
    assert salted.unique().tolist() == [0, 100, 255]
    assert abs(float((salted != 100).float().mean()) - 0.13) < 0.03
    hidden = corrupt(grey, "occlusion", 4, seed=0, positions=(0,))
    assert int((hidden != 100).sum()) == round(0.3 * 40) ** 2
    black = torch.zeros_like(grey)
    assert torch.equal(corrupt(black, "shot-noise", 5, seed=0, positions=(0,)), black)


def test_noise_has_its_deviation() -> None:
    image = torch.full((1, 64, 64), 0.5)
    noisy = corruptions.gaussian_noise(image, 0.1, np.random.default_rng(0))
    assert float((noisy - image).std()) == pytest.approx(0.1, rel=0.05)
    counted = corruptions.shot_noise(image, 50, np.random.default_rng(0))
    assert float(counted.std()) == pytest.approx((0.5 / 50) ** 0.5, rel=0.05)


def test_moving_moves_and_mirrors() -> None:
    """A dot goes as far as it was told to, and nothing black comes in over the edge."""
    dot = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    dot[0, 0, 20, 20] = 255
    moved = corrupt(dot, "translation", 5, seed=0, positions=(0,))[0, 0].double()
    places = torch.arange(40, dtype=torch.float64)
    y, x = ((moved.sum(dim=axis) * places).sum() / moved.sum() for axis in (1, 0))
    assert float(torch.hypot(y - 20, x - 20)) == pytest.approx(0.15 * 40, abs=0.1)
    white = torch.full((1, 1, 40, 40), 255, dtype=torch.uint8)
    for name in ("translation", "rotation", "elastic"):
        assert torch.equal(corrupt(white, name, 5, seed=0, positions=(0,)), white)


def test_bad_requests_are_refused_in_one_line() -> None:
    grey = pictures(1, 28, 1)
    for name, severity, fault in (
        ("snow", 1, "'snow' is not a corruption; known: gaussian-noise, "),
        ("fog", 6, "6 is not a severity; there are 1 to 5"),
        ("fog", 0, "0 is not a severity"),
        ("saturate", 1, "saturate needs colours"),
    ):
        with pytest.raises(ConfigError, match=fault) as refused:
            corrupt(grey, name, severity, seed=0, positions=(0,))
        assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="known"):
        named("")
    with pytest.raises(ValueError, match="zip"):
        corrupt(grey, "fog", 1, seed=0, positions=(0, 1))
