"""One encoded image to one model input: checked, decoded, converted, sized.

    bytes > size > signature > structure > header (type, frames, pixels) > decoded > opaque >
    upright > colours > sized

Everything that can be refused from the header is refused before a pixel is decoded. Colour profiles
and gamma are not applied: the model sees the stored values, as in training. Pillow decodes;
`service.png` and `service.jpeg` know what it does not check. Knows nothing of HTTP, models or
batches.
"""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service import jpeg, png
from service.errors import (
    ImageAnimated,
    ImageDamaged,
    ImageEmpty,
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

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")

log = logging.getLogger(__name__)

_READERS: dict[str, Callable[[io.BytesIO], ImageFile]] = dict(
    zip(MEDIA_TYPES, (JpegImageFile, PngImageFile, WebPImageFile), strict=True)
)
_WEBP_PIXELS = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS; its WebP reader insists on it
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LIGHT_BYTES, _LIGHT_PIXELS = 8 << 10, 128 * 128
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


class ModelInput(NamedTuple):
    """(C, H, W) float32 in [0, 1]; `resized` where the image had another size."""

    pixels: NDArray[np.float32]
    resized: bool


def is_light(upload: Upload) -> bool:
    """Whether `prepare` takes less than a millisecond, as far as size and header tell."""
    data = upload.data
    if len(data) > _LIGHT_BYTES:
        return False
    reader = png if data.startswith(png.SIGNATURE) else jpeg if data[:2] == jpeg.SIGNATURE else None
    return reader is not None and reader.announced_pixels(data) <= _LIGHT_PIXELS


def prepare(upload: Upload, spec: InputSpec, limits: Limits, *, strict_size: bool) -> ModelInput:
    """The whole way from bytes to model input.

    An 8-bit image of the model's own size and colours arrives exactly as value / 255, 16-bit grey
    as value / 65535 (16-bit colour, or grey with alpha, is read with 8 bits). RGB becomes grey by
    the ITU-R 601 luma, grey becomes RGB by repetition.

    What a whole file is: a PNG has every row, under right checksums; a WebP has the length it
    announces, and libwebp misses none of it. A JPEG has its end, but no checksums, and libjpeg
    fills what is missing or damaged inside its scans (grey, or less sharp) with a warning that
    Pillow does not pass on: a JPEG that was cut and then ended properly is taken as it decodes.

    Raises:
        ImageRefused: the first reason found, by the order above.
        MemoryError: the image is within the limits, but the memory is not there.
    """
    media_type = _media_type(upload.data, limits.max_bytes)
    if upload.declared is not None and upload.declared != media_type:
        raise TypeMismatch(upload.declared, media_type)
    image = _decode(upload.data, media_type, limits.max_pixels)
    return _fit(_plain(image), spec, strict_size=strict_size)


def _media_type(data: bytes, max_bytes: int) -> str:
    """By signature, as the decoder would: what is declared is compared with this."""
    if not data:
        raise ImageEmpty
    if len(data) > max_bytes:
        raise ImageTooLarge(len(data), max_bytes)
    if data.startswith(png.SIGNATURE):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    start = data[:16].lstrip()
    raise NotAnImage(
        next((name for sign, name in _STRANGERS.items() if start.startswith(sign)), None)
    )


def _decode(data: bytes, media_type: str, max_pixels: int) -> Image.Image:
    """Whole and opaque, or refused.

    Each reader is called by name, as `Image.open` has a limit of pixels of its own.
    """
    if media_type == "image/png":
        file = png.parse(data)
        if file.is_plain:
            return _decode_plain(file, max_pixels)
        image = _open(media_type, file.essential, max_pixels)
        png.check_pixels(file)
    else:
        file = None
        if media_type == "image/jpeg":
            jpeg.check_markers(data)
        elif len(data) < 8 + int.from_bytes(data[4:8], "little"):
            raise ImageTruncated
        image = _open(media_type, data, max_pixels)
    with _faults_of_the_file():
        image.load()
    if _is_transparent(image) if file is None else png.is_transparent(file, image):
        raise ImageTransparent
    image.info.pop("transparency", None)  # a colour that no pixel has, but conversions heed
    return _upright(image)


def _decode_plain(file: png.Png, max_pixels: int) -> Image.Image:
    """What nearly every PNG is; it has no transparency, no turn and one frame."""
    if file.width * file.height > max_pixels:
        raise TooManyPixels(max_pixels)
    png.check_pixels(file)
    with _faults_of_the_file():
        return png.decode_plain(file)


def _open(media_type: str, data: bytes, max_pixels: int) -> Image.Image:
    """Header read and checked, nothing decoded."""
    try:
        with _faults_of_the_file():
            image = _READERS[media_type](io.BytesIO(data))
    except Image.DecompressionBombError:  # asked before WebP's canvas is allocated
        raise TooManyPixels(min(max_pixels, _WEBP_PIXELS)) from None
    _check_header(image, max_pixels)
    return image


@contextmanager
def _faults_of_the_file() -> Iterator[None]:
    """Only round Pillow's parsers and decoders, which raise whatever they hit."""
    try:
        yield
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        log.debug("the image cannot be decoded", exc_info=True)
        raise ImageDamaged from error


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise TooManyPixels(max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageAnimated(frames)


def _is_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as Exif or XMP say; as stored where they cannot be read.

    Pillow's `exif_transpose` also writes the Exif anew, and fails over tags that have no part here.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:
        log.debug("the image's Exif cannot be read", exc_info=True)
        return image
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    """As mode L, RGB (both 8 bit) or F (grey, [0, 65535]); alpha, opaque by now, dropped."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    if image.mode in ("P", "RGBA", "CMYK"):
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image).astype(np.float32))
    raise ModeUnsupported(image.mode)


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
    values = np.divide(np.asarray(image), scale, dtype=np.float32)
    if image.mode == "F":
        values = np.clip(values, 0.0, 1.0)  # resizing rounds
    if values.ndim == 3:
        return ModelInput(np.ascontiguousarray(values.transpose(2, 0, 1)), resized)
    return ModelInput(np.repeat(values[None], spec.channels, axis=0), resized)
