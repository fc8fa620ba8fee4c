"""Natural images that went through something: noise, blur, JPEG, fog, a turn; five severities each.

The idea, most of the kinds and their names are those of Hendrycks and Dietterich, *Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations* (2019). This is in the style of
CIFAR-10-C and MNIST-C and is not those data sets: strengths and code are ours, and figures measured
here stand beside no figure measured there.

What a corruption draws follows from the seed, its name, the severity and the image's position
alone, so that batches and what ran before do not matter. Amounts scale with the image's shorter
side: what moves or hides things is a share of it; what takes detail is in pixels of an image of 32
and grows with the root of the size, as larger images have both larger things and finer detail;
levels and noise are the same at any size. Knows no model and no labels.
"""

import io
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from training.config import ConfigError
from training.data import to_float

Generator = np.random.Generator

SEVERITIES = (1, 2, 3, 4, 5)

_SMALL = 32  # side of the images that lengths in pixels are meant for
_WAVES = 6  # knots across an elastic deformation
_COLOURS = 3  # channels of an image that has them


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """`apply` takes an image (C, H, W) in [0, 1], an amount and what to draw from.

    It gives an image of the same shape, not necessarily inside [0, 1]. `amounts` are by severity.
    """

    apply: Callable[[Tensor, float, Generator], Tensor]
    amounts: tuple[float, float, float, float, float]
    colour_only: bool = False


def gaussian_noise(image: Tensor, deviation: float, draw: Generator) -> Tensor:
    """A warm sensor: `deviation` in [0, 1] pixels."""
    return image + deviation * _normal(draw, image.shape)


def shot_noise(image: Tensor, photons: float, draw: Generator) -> Tensor:
    """Too little light: a white pixel counts `photons` on average, a black one none."""
    counted = draw.poisson(photons * image.numpy().astype(np.float64))
    return torch.from_numpy(counted.astype(np.float32)) / photons


def impulse_noise(image: Tensor, share: float, draw: Generator) -> Tensor:
    """Salt and pepper on a `share` of all values, half of each."""
    place = torch.from_numpy(draw.random(image.shape, dtype=np.float32))
    return torch.where(place < share, (place < share / 2).to(image.dtype), image)


def gaussian_blur(image: Tensor, deviation: float, draw: Generator) -> Tensor:
    """Out of focus: `deviation` in pixels of an image of 32."""
    sigma = deviation * _detail(image)
    size = 2 * min(math.ceil(3 * sigma), _side(image) - 1) + 1
    return transforms.gaussian_blur(image, [size, size], [sigma, sigma])


def motion_blur(image: Tensor, length: float, draw: Generator) -> Tensor:
    """A mean along a line in a drawn direction, `length` pixels of an image of 32."""
    half, angle = length * _detail(image) / 2, draw.uniform(0, math.pi)
    reach = min(math.ceil(half), _side(image) - 1)
    across = torch.arange(-reach, reach + 1, dtype=torch.float32)
    y, x = torch.meshgrid(across, across, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    beside = y * math.cos(angle) - x * math.sin(angle)
    kernel = (1 - torch.hypot((along.abs() - half).clamp_min(0), beside)).clamp_min(0)
    padded = transforms.pad(image, [reach], padding_mode="reflect")
    return conv2d(padded[:, None], (kernel / kernel.sum())[None, None])[:, 0]


def pixelate(image: Tensor, block: float, draw: Generator) -> Tensor:
    """Made small and large again: each block is `block` pixels wide in an image of 32."""
    height, width = image.shape[1:]
    scale = max(1.0, block * _detail(image))
    small = [max(1, round(height / scale)), max(1, round(width / scale))]
    return transforms.resize(
        transforms.resize(image, small), [height, width], InterpolationMode.NEAREST_EXACT
    )


def jpeg(image: Tensor, quality: float, draw: Generator) -> Tensor:
    """Compressed and decompressed, `quality` from 100 down to 1."""
    levels, file = _levels(image).numpy(), io.BytesIO()
    picture = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    picture.save(file, format="JPEG", quality=int(quality))
    with Image.open(file) as decoded:
        pixels = torch.from_numpy(np.array(decoded))
    return to_float(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))


def contrast(image: Tensor, factor: float, draw: Generator) -> Tensor:
    """All levels drawn towards their mean, to `factor` of their distance from it."""
    return transforms.adjust_contrast(image, factor)


def brightness(image: Tensor, amount: float, draw: Generator) -> Tensor:
    """`amount` in [0, 1] pixels of light everywhere; a factor would leave black and white alone."""
    return image + amount


def saturate(image: Tensor, factor: float, draw: Generator) -> Tensor:
    """Colours `factor` times as far from grey."""
    return transforms.adjust_saturation(image, factor)


def fog(image: Tensor, density: float, draw: Generator) -> Tensor:
    """White haze in patches of every size: the thickest lets 1 - `density` of the light through."""
    height, width = image.shape[1:]
    haze = torch.zeros(1, height, width)
    for octave in range(1, max(2, round(math.log2(_side(image))))):
        patches = _normal(draw, (1, 2**octave + 1, 2**octave + 1)) * 2.0**-octave
        haze += transforms.resize(patches, [height, width], InterpolationMode.BICUBIC)
    haze = (haze - haze.min()) / (haze.max() - haze.min()).clamp_min(1e-6)
    thickness = density * (1 + haze) / 2
    return image * (1 - thickness) + thickness


def elastic(image: Tensor, share: float, draw: Generator) -> Tensor:
    """Every place moved smoothly, by `share` of the side in the root mean square of each axis."""
    knots = _normal(draw, (2, _WAVES, _WAVES))

    def bend(padded: Tensor) -> Tensor:
        moved = transforms.resize(knots, list(padded.shape[1:]), InterpolationMode.BICUBIC)
        moved = moved / moved.square().mean(dim=(1, 2), keepdim=True).sqrt()
        pixels = share * _side(image) * moved
        size = torch.tensor([padded.shape[2], padded.shape[1]])  # x, then y
        displacement = (2 * pixels / size[:, None, None]).permute(1, 2, 0)[None]
        return transforms.elastic(padded, displacement)

    return _beyond_the_edge(image, bend)


def rotation(image: Tensor, degrees: float, draw: Generator) -> Tensor:
    """About the centre, to a drawn side."""
    return _affine(image, degrees * (1 if draw.random() < 0.5 else -1), (0.0, 0.0))


def translation(image: Tensor, share: float, draw: Generator) -> Tensor:
    """By `share` of the side, in a drawn direction."""
    angle, distance = draw.uniform(0, 2 * math.pi), share * _side(image)
    return _affine(image, 0.0, (distance * math.cos(angle), distance * math.sin(angle)))


def occlusion(image: Tensor, share: float, draw: Generator) -> Tensor:
    """A grey square before it, `share` of the side wide, at a drawn place inside."""
    width = max(1, round(share * _side(image)))
    top, left = (int(draw.integers(0, size - width + 1)) for size in image.shape[1:])
    hidden = image.clone()
    hidden[:, top : top + width, left : left + width] = 0.5
    return hidden


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian-noise": Corruption(apply=gaussian_noise, amounts=(0.03, 0.06, 0.09, 0.13, 0.17)),
    "shot-noise": Corruption(apply=shot_noise, amounts=(200, 90, 45, 22, 11)),
    "impulse-noise": Corruption(apply=impulse_noise, amounts=(0.01, 0.025, 0.05, 0.08, 0.13)),
    "gaussian-blur": Corruption(apply=gaussian_blur, amounts=(0.5, 0.7, 0.9, 1.15, 1.45)),
    "motion-blur": Corruption(apply=motion_blur, amounts=(1.5, 2.5, 3.5, 5, 6.5)),
    "pixelate": Corruption(apply=pixelate, amounts=(1.2, 1.45, 1.75, 2.1, 2.5)),
    "jpeg": Corruption(apply=jpeg, amounts=(80, 55, 35, 20, 12)),
    "contrast": Corruption(apply=contrast, amounts=(0.8, 0.6, 0.42, 0.3, 0.2)),
    "brightness": Corruption(apply=brightness, amounts=(0.08, 0.16, 0.25, 0.35, 0.45)),
    "saturate": Corruption(apply=saturate, amounts=(1.5, 2.2, 3.2, 5, 8), colour_only=True),
    "fog": Corruption(apply=fog, amounts=(0.2, 0.35, 0.5, 0.65, 0.8)),
    "elastic": Corruption(apply=elastic, amounts=(0.008, 0.016, 0.024, 0.032, 0.04)),
    "rotation": Corruption(apply=rotation, amounts=(4, 8, 13, 19, 26)),
    "translation": Corruption(apply=translation, amounts=(0.03, 0.06, 0.09, 0.12, 0.15)),
    "occlusion": Corruption(apply=occlusion, amounts=(0.1, 0.16, 0.23, 0.3, 0.37)),
}


def named(name: str) -> Corruption:
    """The corruption of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"{name!r} is not a corruption; known: {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[name]


def corrupt(
    images: Tensor, name: str, severity: int, *, seed: int, positions: Sequence[int]
) -> Tensor:
    """Images (N, C, H, W), uint8 or float in [0, 1], to uint8 of that shape, as they would travel.

    `positions` (N,) are the images' own, wherever they stand in this batch.

    Raises:
        ConfigError: unknown name or severity, or grey images for what needs colours.
    """
    corruption = named(name)
    if severity not in SEVERITIES:
        raise ConfigError(f"{severity} is not a severity; there are 1 to {SEVERITIES[-1]}")
    if corruption.colour_only and images.shape[1] != _COLOURS:
        raise ConfigError(f"{name} needs colours, and these images have none")
    exact = images if images.is_floating_point() else to_float(images)
    amount = corruption.amounts[severity - 1]
    corrupted = torch.empty(exact.shape, dtype=torch.uint8)
    for row, (image, position) in enumerate(zip(exact, positions, strict=True)):
        draw = np.random.default_rng((seed, zlib.crc32(name.encode()), severity, position))
        corrupted[row] = _levels(corruption.apply(image.float().cpu(), amount, draw))
    return corrupted


def _levels(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _normal(draw: Generator, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(draw.standard_normal(tuple(shape), dtype=np.float32))


def _side(image: Tensor) -> int:
    return min(image.shape[1:])


def _detail(image: Tensor) -> float:
    """How many pixels stand for one of an image of 32."""
    return math.sqrt(_side(image) / _SMALL)


def _affine(image: Tensor, degrees: float, translate: tuple[float, float]) -> Tensor:
    def turn(padded: Tensor) -> Tensor:
        return transforms.affine(
            padded, degrees, list(translate), 1.0, [0.0, 0.0], InterpolationMode.BILINEAR
        )

    return _beyond_the_edge(image, turn)


def _beyond_the_edge(image: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """`move` on an image that goes on as its own mirror image, so that no black border comes in."""
    margin = _side(image) // 3
    padded = move(transforms.pad(image, [margin], padding_mode="reflect"))
    return padded[:, margin : margin + image.shape[1], margin : margin + image.shape[2]]
