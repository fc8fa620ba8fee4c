"""Every kind of file that people send: exact values where it is read, the right error where not."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service import images
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
from service.images import Limits, ModelInput, Upload, prepare
from service.manifest import InputSpec
from tests.service.toy import encode

GREY = InputSpec(channels=1, height=6, width=8)
COLOUR = InputSpec(channels=3, height=6, width=8)
LIMITS = Limits(max_bytes=100_000, max_pixels=1_000)

rng = np.random.default_rng(7)
NOISE = rng.integers(0, 256, (6, 8), dtype=np.uint8)
COLOURS = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def read(
    data: bytes, spec: InputSpec = GREY, declared: str | None = None, *, strict: bool = True
) -> ModelInput:
    return prepare(Upload(data, declared), spec, LIMITS, strict_size=strict)


def flat(mode: str, colour: Any = None) -> Image.Image:
    return Image.new(mode, (8, 6), colour)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG built chunk by chunk, for what encoders would not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


@given(arrays(np.uint8, (6, 8)))
def test_grey_png_arrives_exactly(values: NDArray[np.uint8]) -> None:
    taken = read(encode(values))
    assert taken.pixels.dtype == np.float32
    assert taken.pixels.shape == (1, 6, 8)
    assert (taken.pixels[0] == values.astype(np.float32) / np.float32(255)).all()
    assert not taken.resized


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_colour_arrives_exactly(kind: str, options: dict[str, Any]) -> None:
    taken = read(encode(COLOURS, kind, **options), COLOUR)
    assert (taken.pixels == COLOURS.transpose(2, 0, 1) / np.float32(255)).all()
    assert taken.pixels.flags.c_contiguous


def test_sixteen_bits_arrive_exactly() -> None:
    wide = rng.integers(0, 65536, (6, 8), dtype=np.uint16)
    assert (read(encode(wide)).pixels[0] == wide.astype(np.float32) / np.float32(65535)).all()
    same = (NOISE.astype(np.uint16)) * 257
    assert (read(encode(same)).pixels == read(encode(NOISE)).pixels).all()


def test_grey_becomes_colour_by_repetition() -> None:
    taken = read(encode(NOISE), COLOUR)
    assert taken.pixels.shape == (3, 6, 8)
    assert (taken.pixels == read(encode(NOISE)).pixels).all()


def test_colour_becomes_grey_by_luma() -> None:
    taken = read(encode(COLOURS)).pixels[0] * 255
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(taken - luma).max() <= 0.51
    assert (read(encode(np.dstack([NOISE] * 3))).pixels == read(encode(NOISE)).pixels).all()


@pytest.mark.parametrize(
    ("image", "kind", "value"),
    [
        (flat("1", 1), "PNG", 255),
        (flat("L", 100), "JPEG", 100),
        (flat("L", 100), "WEBP", 100),
        (flat("LA", (100, 255)), "PNG", 100),
        (flat("RGBA", (100, 100, 100, 255)), "PNG", 100),
        (flat("RGBA", (100, 100, 100, 255)), "WEBP", 100),
        (flat("P", 100), "PNG", 100),
        (flat("CMYK", (0, 0, 0, 155)), "JPEG", 100),
        (flat("I;16", 100 * 257), "PNG", 100),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_every_pixel_format_keeps_its_value(
    image: Image.Image, kind: str, value: int, spec: InputSpec
) -> None:
    if image.mode == "P":
        image.putpalette([level for level in range(256) for _ in range(3)])
    taken = read(encode(image, kind), spec).pixels
    assert taken.shape == spec.shape
    assert np.abs(taken * 255 - value).max() <= (1.0 if kind != "PNG" else 0.0)


@pytest.mark.parametrize(
    "data",
    [
        encode(flat("RGBA", (1, 2, 3, 254))),
        encode(flat("LA", (1, 0))),
        encode(flat("P", 0), transparency=0),
        encode(flat("RGB", (1, 2, 3)), transparency=(1, 2, 3)),
        encode(flat("L", 5), transparency=5),
        encode(flat("1", 1), transparency=255),
        encode(flat("RGBA", (1, 2, 3, 100)), "WEBP"),
        png(8, 6, 16, 0, b"\x00" * 17 * 6, chunk(b"tRNS", b"\x00\x00")),
    ],
    ids=["RGBA", "LA", "P", "RGB", "L", "1", "WEBP", "I;16"],
)
def test_transparency_is_refused(data: bytes) -> None:
    with pytest.raises(ImageTransparent):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        encode(flat("L", 5), transparency=6),
        png(8, 6, 16, 0, b"\x00" * 17 * 6, chunk(b"tRNS", b"\x00\x07")),
    ],
    ids=["L", "I;16"],
)
def test_a_transparent_colour_that_no_pixel_has_is_no_transparency(data: bytes) -> None:
    assert read(data).pixels.shape == (1, 6, 8)


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "LAB"])
def test_other_pixel_formats_are_refused(mode: str) -> None:
    """No PNG, JPEG or WebP decodes to these today; a decoder's update must not slip one in."""
    with pytest.raises(ModeUnsupported, match=mode):
        images._plain(flat(mode))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, np.fliplr),
        (3, lambda stored: np.rot90(stored, 2)),
        (4, np.flipud),
        (6, lambda stored: np.rot90(stored, -1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(
    orientation: int, upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    turned = upright(NOISE)
    spec = InputSpec(channels=1, height=turned.shape[0], width=turned.shape[1])
    taken = read(encode(NOISE, exif=exif(orientation)), spec)
    assert (taken.pixels[0] == turned / np.float32(255)).all()


@pytest.mark.parametrize("wide", [False, True], ids=["8 bit", "16 bit"])
def test_another_size_is_resized_and_says_so(wide: bool) -> None:
    level = np.full((12, 16), 100, np.uint8)
    stored = level.astype(np.uint16) * 257 if wide else level
    taken = read(encode(stored), strict=False)
    assert taken.resized
    assert taken.pixels == pytest.approx(np.full((1, 6, 8), 100 / 255), abs=1e-6)
    assert taken.pixels.max() <= 1.0


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((6, 16), np.uint8)
    stripes[:, ::2] = 255
    inner = read(encode(stripes), strict=False).pixels[0, :, 1:-1]
    assert np.abs(inner - 0.5).max() < 0.05


def test_strict_size_refuses_another_size() -> None:
    with pytest.raises(SizeMismatch, match=r"16x12 \(width x height\), the model takes 8x6"):
        read(encode(np.zeros((12, 16), np.uint8)))


STILL = encode(NOISE)
FRAMES = [flat("L", level) for level in (1, 200)]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:]}


@pytest.mark.parametrize(
    ("data", "declared", "error"),
    [
        (b"", None, ImageEmpty),
        (b"hello, this is no image", None, NotAnImage),
        (b"\x00" * 100, None, NotAnImage),
        (encode(NOISE, "GIF"), None, NotAnImage),
        (encode(NOISE, "BMP"), None, NotAnImage),
        (encode(NOISE, "TIFF"), None, NotAnImage),
        (b" <svg xmlns='http://www.w3.org/2000/svg'/>", None, NotAnImage),
        (b"RIFF\x00\x00\x00\x00WAVE", None, NotAnImage),
        (STILL, "image/jpeg", TypeMismatch),
        (encode(NOISE, "JPEG"), "image/png", TypeMismatch),
        (encode(NOISE, "WEBP"), "image/jpeg", TypeMismatch),
        (STILL, "text/plain", TypeMismatch),
        (STILL + b"\x00" * 100_000, None, ImageTooLarge),
        (encode(np.zeros((40, 40), np.uint8)), None, TooManyPixels),
        (png(60_000, 60_000, 8, 0, b""), None, TooManyPixels),
        (png(12_000, 10_000, 8, 0, b""), None, TooManyPixels),
        (encode(FRAMES[0], "PNG", **ANIMATED), None, ImageAnimated),
        (encode(FRAMES[0], "WEBP", **ANIMATED), None, ImageAnimated),
        (png(8, 6, 8, 0, b"\x00" * 9 * 6)[:-12], None, ImageTruncated),
        (png(8, 6, 7, 9, b""), None, ImageDamaged),
        (STILL[:41] + b"\xff\xff\xff" + STILL[44:], None, ImageDamaged),
        (b"\xff\xd8\xff" + b"\x00" * 50 + b"\xff\xd9", None, ImageDamaged),
    ],
)
def test_bad_files_are_refused_by_name(
    data: bytes, declared: str | None, error: type[ImageRefused]
) -> None:
    with pytest.raises(error):
        read(data, declared=declared)


def test_strangers_are_named() -> None:
    with pytest.raises(NotAnImage, match="a GIF file"):
        read(encode(NOISE, "GIF"))


def test_pixels_are_counted_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(TooManyPixels):
        read(encode(np.zeros((40, 40), np.uint8)))


def test_first_picture_of_an_mpo_is_the_image() -> None:
    """Telephones append previews to a JPEG; that makes no animation of it."""
    data = encode(FRAMES[0], "MPO", **ANIMATED)
    taken = read(data, declared="image/jpeg")
    assert taken.pixels * 255 == pytest.approx(np.full((1, 6, 8), 1), abs=0.01)


def test_bytes_after_the_end_are_ignored() -> None:
    assert (read(STILL + b"PK\x03\x04 more").pixels == read(STILL).pixels).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})],
    ids=["png", "jpeg", "progressive", "webp"],
)
def test_no_part_of_a_file_passes_for_the_whole(kind: str, options: dict[str, Any]) -> None:
    data = encode(NOISE, kind, **options)
    for length in range(len(data)):
        with pytest.raises(ImageRefused):
            read(data[:length])
    assert read(data).pixels.shape == (1, 6, 8)


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.data())
def test_damage_is_refused_or_read_but_never_a_crash(kind: str, data: st.DataObject) -> None:
    file = bytearray(encode(NOISE, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        taken = read(bytes(file), strict=False)
    except ImageRefused:
        return
    assert taken.pixels.shape == (1, 6, 8)
    assert taken.pixels.min() >= 0.0
    assert taken.pixels.max() <= 1.0


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    with pytest.raises(ImageRefused):
        read(data)


def test_formats_beyond_ours_are_not_even_tried() -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(encode(NOISE, "BMP")), formats=images.FORMATS)
