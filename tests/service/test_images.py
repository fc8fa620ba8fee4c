"""Every kind of file that people send: exact values where it is read, the right error where not."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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
    ],
    ids=["RGBA", "LA", "P", "RGB", "L", "1", "WEBP"],
)
def test_transparency_is_refused(data: bytes) -> None:
    with pytest.raises(ImageTransparent):
        read(data)


def test_a_transparent_colour_that_no_pixel_has_is_no_transparency() -> None:
    plain = read(encode(COLOURS)).pixels  # in grey: the conversion is not to heed it either
    assert (read(encode(COLOURS, transparency=(1, 2, 3))).pixels == plain).all()


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "LAB"])
def test_other_pixel_formats_are_refused(mode: str) -> None:
    """No PNG, JPEG or WebP decodes to these today; a decoder's update must not slip one in."""
    with pytest.raises(ModeUnsupported, match=mode):
        images._plain(flat(mode))


STORED = np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40
UPRIGHT = {  # what is seen of STORED, by orientation
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 100},
    "WEBP": {"lossless": True},
}  # nearly so


def levels(data: bytes, height: int, width: int) -> list[list[float]]:
    pixels = read(data, InputSpec(channels=1, height=height, width=width)).pixels
    return (pixels[0] * 255 / 40).round(1).tolist()


def exif(orientation: int, *more: tuple[int, int, int, bytes]) -> bytes:
    """Exif of little-endian entries: tag, type, count, value of four bytes."""
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), *more])
    fields = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4)


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = UPRIGHT[orientation]
    data = encode(STORED, kind, exif=exif(orientation), **LOSSLESS[kind])
    assert levels(data, len(upright), len(upright[0])) == upright


@pytest.mark.parametrize("orientation", [0, 9, 274])
def test_orientation_of_no_meaning_is_none(orientation: int) -> None:
    assert levels(encode(STORED, exif=exif(orientation)), 2, 3) == UPRIGHT[1]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_orientation_may_be_in_xmp(kind: str) -> None:
    data = encode(STORED, kind, xmp=xmp(6), **LOSSLESS[kind])
    assert levels(data, 3, 2) == UPRIGHT[6]


def test_orientation_of_a_png_may_be_in_xmp() -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp(8))
    assert levels(encode(STORED, pnginfo=text), 3, 2) == UPRIGHT[8]


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("tag", [0x0100, 0x011A, 0x010F], ids=["width", "resolution", "maker"])
def test_sloppy_exif_beside_the_orientation_is_no_damage(tag: int, kind: str) -> None:
    """A text where a number belongs; and a number where a text does."""
    sloppy = (tag, 3, 1, b"\1\0\0\0") if tag == 0x010F else (tag, 2, 4, b"400\0")
    data = encode(STORED, kind, exif=exif(6, sloppy), **LOSSLESS[kind])
    assert levels(data, 3, 2) == UPRIGHT[6]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_exif_that_cannot_be_read_turns_nothing(kind: str) -> None:
    data = encode(STORED, kind, exif=b"Exif\0\0no such thing", **LOSSLESS[kind])
    assert levels(data, 2, 3) == UPRIGHT[1]


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
        (encode(FRAMES[0], "PNG", **ANIMATED), None, ImageAnimated),
        (encode(FRAMES[0], "WEBP", **ANIMATED), None, ImageAnimated),
        (STILL[:-12], None, ImageTruncated),
        (encode(NOISE, "WEBP")[:-1], None, ImageTruncated),
        (encode(NOISE, "WEBP")[:20] + b"\x00" * 100, None, ImageDamaged),
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


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_are_counted_before_they_are_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(TooManyPixels):
        read(encode(np.zeros((40, 40), np.uint8), kind))


@pytest.mark.parametrize(("kind", "limit"), [("PNG", 1), ("JPEG", 1), ("WEBP", 30)])
def test_no_limit_of_pixels_holds_but_ours(
    kind: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow has one as well: it warns from there on, and refuses twice as many.

    The latter it does for WebP whatever we do: see the next test.
    """
    data = encode(NOISE, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read(data).pixels.shape == (1, 6, 8)


@pytest.mark.parametrize(("limit", "told"), [(1_000, 1_000), (1 << 60, 178_956_970)])
def test_large_canvas_is_refused_by_the_limit_that_it_exceeds(limit: int, told: int) -> None:
    """A WebP's is allocated as it is opened, hence Pillow looks before that."""
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6
    data = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    with pytest.raises(TooManyPixels, match=f"limit of {told}$"):
        prepare(Upload(data), GREY, Limits(100, limit), strict_size=True)


@pytest.mark.parametrize(
    "step",
    [
        "PIL.ImageFile.ImageFile.__init__",
        "PIL.ImageFile.ImageFile.load",
        "PIL.Image.Image.getexif",
        "PIL.Image.Image.resize",
    ],
)
def test_memory_that_runs_out_is_no_fault_of_the_image(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    palette = Image.fromarray(np.zeros((12, 16), np.uint8)).convert("P")
    data = encode(palette)  # which Pillow's own reader opens
    monkeypatch.setattr(step, run_out)
    with pytest.raises(MemoryError):
        read(data, strict=False)


def test_memory_that_runs_out_in_a_plain_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    data = encode(np.zeros((12, 16), np.uint8))
    monkeypatch.setattr("PIL.Image.frombytes", run_out)
    with pytest.raises(MemoryError):
        read(data, strict=False)


def test_mistakes_of_our_own_are_not_blamed_on_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(image: Image.Image) -> Image.Image:
        raise TypeError("a mistake")

    monkeypatch.setattr(images, "_plain", mistaken)
    with pytest.raises(TypeError, match="a mistake"):
        read(STILL)


def test_cause_of_damage_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "service.images")
    with pytest.raises(ImageDamaged) as refused:
        read(b"\xff\xd8\xff\xda" + b"\x00" * 50 + b"\xff\xd9")
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert record.exc_info is not None
    assert record.exc_info[1] is refused.value.__cause__


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
    """Cut at its end. What else can be missing: `test_png` has the rows, `test_jpeg` the limits."""
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


@pytest.mark.parametrize("kind", ["BMP", "DDS", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "TIFF"])
def test_formats_beyond_ours_are_not_even_tried(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(*_: object) -> None:
        raise AssertionError("tried")

    data = encode(flat("RGB", (1, 2, 3)), kind)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.__init__", tried)
    with pytest.raises(NotAnImage):
        read(data)
