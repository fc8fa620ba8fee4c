"""One encoded image to one model input: checked, decoded, converted, sized.

    bytes > size > signature > header (type, frames, pixels) > decoded > upright > colours > sized

Everything that can be refused from the header is refused before a pixel is decoded. Colour profiles
and gamma are not applied: the model sees the stored values, as in training. Knows nothing of HTTP,
models or batches.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from service.errors import (
    ImageAnimated,
    ImageDamaged,
    ImageEmpty,
    ImageRefused,
    ImageTooLarge,
    ImageTransparent,
    ImageTruncated,
    ModeUnsupported,
    NotAnImage,
    SizeMismatch,
    TooManyPixels,
    TypeMismatch,
)
from service.manifest import InputSpec

PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)  # imported, hence known to Pillow
FORMATS = ("JPEG", "PNG", "WEBP")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_STRANGERS = {  # signatures of what people send by mistake
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"PK\x03\x04": "ZIP",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that claim to be an image, and the media type that the client declared, if any."""

    data: bytes
    declared: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one image may cost."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class ModelInput:
    """(C, H, W) float32 in [0, 1]; `resized` where the image had another size."""

    pixels: NDArray[np.float32]
    resized: bool


def prepare(upload: Upload, spec: InputSpec, limits: Limits, *, strict_size: bool) -> ModelInput:
    """The whole way from bytes to model input.

    An 8-bit image of the model's own size and colours arrives exactly as value / 255, 16-bit grey
    as value / 65535 (16-bit colour is read with 8 bits). RGB becomes grey by the ITU-R 601 luma,
    grey becomes RGB by repetition.

    Raises:
        ImageRefused: the first reason found, by the order above.
    """
    media_type = _media_type(upload.data, limits.max_bytes)
    if upload.declared is not None and upload.declared != media_type:
        raise TypeMismatch(upload.declared, media_type)
    if _is_cut(upload.data, media_type):
        raise ImageTruncated
    try:
        with Image.open(io.BytesIO(upload.data), formats=FORMATS) as image:
            _check_header(image, limits.max_pixels)
            image.load()
            upright = ImageOps.exif_transpose(image)
        return _fit(_plain(upright), spec, strict_size=strict_size)
    except ImageRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels(limits.max_pixels) from None
    except Exception as error:  # Pillow's decoders raise whatever their parsers hit
        raise (ImageTruncated if "truncated" in str(error) else ImageDamaged)() from error


def _media_type(data: bytes, max_bytes: int) -> str:
    """By signature, as the decoder would: what is declared is compared with this."""
    if not data:
        raise ImageEmpty
    if len(data) > max_bytes:
        raise ImageTooLarge(len(data), max_bytes)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    start = data[:16].lstrip()
    raise NotAnImage(
        next((name for sign, name in _STRANGERS.items() if start.startswith(sign)), None)
    )


def _is_cut(data: bytes, media_type: str) -> bool:
    """Whether the file's end is missing; decoders forgive that where all pixels came before it."""
    if media_type == "image/png":
        return _PNG_END not in data
    if media_type == "image/jpeg":
        return _JPEG_END not in data
    return len(data) < 8 + int.from_bytes(data[4:8], "little")


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise TooManyPixels(max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the further pictures of an MPO are previews
        raise ImageAnimated(frames)


def _plain(image: Image.Image) -> Image.Image:
    """As mode L, RGB (both 8 bit) or F (grey, [0, 65535]); opaque alpha dropped."""
    if image.has_transparency_data:
        image = _opaque(image)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "CMYK"):
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image).astype(np.float32))
    raise ModeUnsupported(image.mode)


def _opaque(image: Image.Image) -> Image.Image:
    """The image without its alpha, where that is opaque everywhere."""
    if image.mode.startswith("I;16"):  # 16-bit grey with one transparent value
        if (np.asarray(image) == image.info["transparency"]).any():
            raise ImageTransparent
        return image
    grey = image.mode in ("1", "L", "LA")
    image = image.convert("LA" if grey else "RGBA")
    alpha = image.getchannel("A").getextrema()
    if alpha != (255, 255):
        raise ImageTransparent
    return image.convert("L" if grey else "RGB")


def _fit(image: Image.Image, spec: InputSpec, *, strict_size: bool) -> ModelInput:
    """Model's colours first, then its size (bilinear, with antialiasing where it shrinks)."""
    size = (spec.width, spec.height)
    resized = image.size != size
    if resized and strict_size:
        raise SizeMismatch(image.size, size)
    if spec.channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    if resized:
        image = image.resize(size, Image.Resampling.BILINEAR)
    scale = np.float32(65535 if image.mode == "F" else 255)
    values = np.asarray(image, dtype=np.float32) / scale
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    pixels = np.ascontiguousarray(np.broadcast_to(planes, spec.shape))
    return ModelInput(np.clip(pixels, 0.0, 1.0), resized)
