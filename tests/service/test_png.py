"""PNG files built sample by sample: all pixels are there, and opaque, or the file is refused."""

import struct
import tracemalloc
import zlib
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import png
from service.errors import (
    ImageDamaged,
    ImageRefused,
    ImageTransparent,
    ImageTruncated,
    TooManyPixels,
)
from service.images import Limits, Upload, prepare
from service.manifest import InputSpec

PASSES = (  # of an interlaced image: left, top, steps across and down
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [
    *((0, depth) for depth in (1, 2, 4, 8, 16)),
    *((3, depth) for depth in (1, 2, 4, 8)),
    *((colour, depth) for colour in (2, 4, 6) for depth in (8, 16)),
]
RAMP = bytes(np.repeat(np.arange(256, dtype=np.uint8)[::-1], 3))  # entry i is the grey 255 - i

rng = np.random.default_rng(11)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0, *last: int) -> bytes:
    return chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(last or (0,) * 3))
    )


def file(*chunks: bytes) -> bytes:
    return png.SIGNATURE + b"".join(chunks) + chunk(b"IEND")


def packed(samples: NDArray[Any], depth: int) -> NDArray[np.int64]:
    """(rows, columns, channels) as bytes of rows."""
    if depth == 16:
        rows = samples.astype(">u2").view(np.uint8)
    elif depth == 8:
        rows = samples.astype(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8), axis=2)[:, :, 8 - depth :]
        rows = np.packbits(bits.reshape(len(samples), -1), axis=1)
    return rows.reshape(len(samples), -1).astype(np.int64)


def filtered(rows: NDArray[np.int64], step: int, kinds: NDArray[np.int64]) -> bytes:
    """Each row by its own filter, `step` bytes after the pixel on the left."""

    def before(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.pad(rows, ((0, 0), (step, 0)))[:, : rows.shape[1]]

    above = np.pad(rows, ((1, 0), (0, 0)))[:-1]
    left, corner = before(rows), before(above)
    guess = left + above - corner
    nearest = np.argmin([abs(guess - it) for it in (left, above, corner)], axis=0)
    paeth = np.choose(nearest, [left, above, corner])
    predicted = np.choose(
        kinds[:, None], [np.zeros_like(rows), left, above, (left + above) // 2, paeth]
    )
    return np.column_stack([kinds, (rows - predicted) % 256]).astype(np.uint8).tobytes()


def raw(
    samples: NDArray[Any], depth: int, *, interlaced: bool = False, kind: int | None = 0
) -> bytes:
    """The pixels as a PNG compresses them, by one kind of filter or by any."""
    step = max(1, depth * samples.shape[2] // 8)
    out = b""
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        part = samples[top::down, left::across]
        kinds = rng.integers(0, 5, len(part)) if kind is None else np.full(len(part), kind)
        out += filtered(packed(part, depth), step, kinds) if part.size else b""
    return out


def stored(samples: NDArray[Any], depth: int, colour: int, *extra: bytes, **options: Any) -> bytes:
    height, width = samples.shape[:2]
    palette = [chunk(b"PLTE", RAMP[: 3 << depth])] if colour == 3 else []
    return file(
        header(width, height, depth, colour, 0, 0, int(options.get("interlaced", False))),
        *palette,
        *extra,
        chunk(b"IDAT", zlib.compress(raw(samples, depth, **options))),
    )


def read(data: bytes, width: int = 8, height: int = 6, limit: int = 10_000) -> NDArray[np.float32]:
    spec = InputSpec(channels=3, height=height, width=width)
    return prepare(Upload(data), spec, Limits(1 << 20, limit), strict_size=True).pixels


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
@pytest.mark.parametrize(("width", "height"), [(8, 6), (1, 1), (3, 9), (17, 2)])
def test_every_kind_arrives(
    colour: int, depth: int, width: int, height: int, interlaced: bool
) -> None:
    largest = (1 << depth) - 1
    samples = rng.integers(0, largest + 1, (height, width, CHANNELS[colour]))
    if colour in (4, 6):
        samples[:, :, -1] = largest
    data = stored(samples, depth, colour, interlaced=interlaced, kind=None if depth > 7 else 0)
    shown = samples[:, :, :-1] if colour in (4, 6) else samples
    if colour == 3:
        expected = (255 - shown) / np.float32(255)
    elif depth == 16 and colour:  # read with 8 bits
        expected = (shown >> 8) / np.float32(255)
    else:
        expected = shown / np.float32(largest)
    assert (read(data, width, height) == expected.astype(np.float32).transpose(2, 0, 1)).all()


GREY = rng.integers(0, 256, (6, 8, 1))
WHOLE = {inter: raw(GREY, 8, interlaced=inter) for inter in (False, True)}
SPLIT = zlib.compress(WHOLE[False])


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
def test_a_clean_stream_of_too_few_bytes_is_truncated(interlaced: bool) -> None:
    """So are missing rows, and missing passes: Pillow would show black or coarse ones."""
    top = header(8, 6, 8, 0, 0, 0, int(interlaced))
    for length in range(len(WHOLE[interlaced])):
        short = zlib.compress(WHOLE[interlaced][:length])
        with pytest.raises(ImageTruncated):
            read(file(top, chunk(b"IDAT", short)))


@pytest.mark.parametrize("surplus", [b"\x00", b"\x00" * 9, b"\x00" * (1 << 20)])
def test_more_bytes_than_pixels_are_damage(surplus: bytes) -> None:
    with pytest.raises(ImageDamaged):
        read(file(header(8, 6), chunk(b"IDAT", zlib.compress(WHOLE[False] + surplus))))


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (SPLIT[:-4], ImageTruncated),
        (SPLIT[:-1], ImageTruncated),
        (SPLIT[:-4] + b"\x00" * 4, ImageDamaged),
        (b"\x00" + SPLIT[1:], ImageDamaged),
        (WHOLE[False], ImageDamaged),
        (b"", ImageTruncated),
    ],
    ids=["no checksum", "part of it", "wrong checksum", "no zlib header", "no zlib", "empty"],
)
def test_the_stream_ends_as_it_should(stream: bytes, error: type[ImageRefused]) -> None:
    with pytest.raises(error):
        read(file(header(8, 6), chunk(b"IDAT", stream)))


def test_a_stream_in_many_chunks_is_one() -> None:
    parts = [chunk(b"IDAT", SPLIT[at : at + 1]) for at in range(len(SPLIT))]
    whole = file(header(8, 6), chunk(b"IDAT"), *parts, chunk(b"IDAT"), chunk(b"IDAT", b"more"))
    assert (read(whole)[0] * 255 == GREY[:, :, 0]).all()


PIXELS = chunk(b"IDAT", SPLIT)
TEXT = chunk(b"tEXt", b"Title\x00none")
FRAMES = chunk(b"acTL", struct.pack(">II", 1, 0))


def frame(width: int, height: int, left: int = 0, top: int = 0) -> bytes:
    fields = struct.pack(">IIIIIHHBB", 0, width, height, left, top, 1, 1, 0, 0)
    return chunk(b"fcTL", fields)


@pytest.mark.parametrize("number", range(4))
def test_every_checksum_counts(number: int) -> None:
    chunks = [header(8, 6), TEXT, PIXELS, TEXT]
    chunks[number] = chunks[number][:-1] + bytes([chunks[number][-1] ^ 1])
    with pytest.raises(ImageDamaged):
        read(file(*chunks))


@pytest.mark.parametrize(
    "chunks",
    [
        (TEXT, header(8, 6), PIXELS),
        (chunk(b"IHDR", b"\x00" * 12), PIXELS),
        (header(8, 6), header(8, 6), PIXELS),
        (header(0, 6), PIXELS),
        (header(8, 0), PIXELS),
        (header(8, 6, 7), PIXELS),
        (header(8, 6, 4, 2), PIXELS),
        (header(8, 6, 8, 5), PIXELS),
        (header(8, 6, 8, 0, 1, 0, 0), PIXELS),
        (header(8, 6, 8, 0, 0, 1, 0), PIXELS),
        (header(8, 6, 8, 0, 0, 0, 2), PIXELS),
        (header(8, 6, 8, 3), PIXELS),
        (header(8, 6, 8, 3), PIXELS, chunk(b"PLTE", RAMP)),
        (header(8, 6), PIXELS, chunk(b"tRNS", b"\x00\x00")),
        (header(8, 6), chunk(b"tRNS", b"\x00"), PIXELS),
        (header(8, 6), chunk(b"tRNS"), PIXELS),
        (header(8, 6), chunk(b"tRNS", b"\x00" * 3), PIXELS),
        (header(8, 6), *[chunk(b"tRNS", b"\x00\x00")] * 2, PIXELS),
        (header(8, 6), FRAMES, FRAMES, PIXELS),
        (header(8, 6), chunk(b"ABCD"), PIXELS),
        (header(8, 6), chunk(b"ab1d"), PIXELS),
        (header(8, 6), chunk(b"IDAT", SPLIT[:9]), TEXT, chunk(b"IDAT", SPLIT[9:])),
        (header(8, 6), chunk(b"fdAT", b"\x00" * 4 + SPLIT), PIXELS),
        (header(8, 6), frame(4, 6), PIXELS),
        (header(8, 6), frame(8, 6, left=1), PIXELS),
        (header(8, 6), FRAMES, frame(8, 5), PIXELS),
    ],
)
def test_chunks_that_could_be_misread_are_damage(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(ImageDamaged):
        read(file(*chunks))


@pytest.mark.parametrize(
    "chunks",
    [
        (header(8, 6), TEXT, PIXELS, TEXT, chunk(b"abCd", b"unknown"), TEXT),
        (header(8, 6), FRAMES, frame(8, 6), PIXELS),
        (header(8, 6), PIXELS, frame(4, 3)),
        (header(8, 6), chunk(b"PLTE", RAMP), PIXELS),
    ],
    ids=["ancillary", "one frame", "a frame after all", "suggested palette"],
)
def test_chunks_that_change_no_pixel_are_none_of_our_business(chunks: tuple[bytes, ...]) -> None:
    assert (read(file(*chunks) + b"and bytes behind")[0] * 255 == GREY[:, :, 0]).all()


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iCCP", b"wide\0\0" + zlib.compress(bytes(3 << 20))),  # a printer's profile
        chunk(b"zTXt", b"history\0\0" + zlib.compress(bytes(3 << 20))),
        chunk(b"iTXt", b"history\0\1\0\0\0" + zlib.compress(bytes(3 << 20))),
        chunk(b"gAMA", b"\0"),
        chunk(b"pHYs", b"\0"),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_large_or_odd_extras_are_passed_over(extra: bytes) -> None:
    """Pillow would refuse the file for them."""
    plain = stored(rng.integers(0, 256, (6, 8, 1)), 8, 0)
    start = len(png.SIGNATURE) + 25
    with_extra = plain[:start] + extra + plain[start:]
    assert np.array_equal(read(with_extra), read(plain))


def test_no_part_passes_for_the_whole() -> None:
    data = file(header(8, 6), TEXT, PIXELS, TEXT)
    for length in range(9, len(data)):
        with pytest.raises(ImageTruncated):
            read(data[:length])


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 10_000), (101, 100)])
def test_size_is_refused_before_pixels_are_inflated(size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels):
        read(file(header(*size), chunk(b"IDAT", b"no zlib")))


@pytest.mark.parametrize("height", [4096, 6])
def test_pixels_are_counted_in_little_memory(height: int) -> None:
    """Those of an image of 16 MiB, and of a stream that holds more than its image."""
    stream = zlib.compress(bytes(4096 * 4096))
    parsed = png.parse(file(header(4095, height), chunk(b"IDAT", stream)))
    tracemalloc.start()
    with nullcontext() if height == 4096 else pytest.raises(ImageDamaged):
        png.check_pixels(parsed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def trns(*samples: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_is_found_in_the_depth_of_the_file(depth: int) -> None:
    largest = (1 << depth) - 1
    for sample in {*range(min(largest, 16) + 1), largest // 3, largest - 1, largest}:
        others = rng.integers(0, largest, (6, 8, 1))
        others += others >= sample  # all but the transparent one
        assert read(stored(others, depth, 0, trns(sample))).shape == (3, 6, 8)
        others[5, 7] = sample
        with pytest.raises(ImageTransparent):
            read(stored(others, depth, 0, trns(sample)))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_bits_beyond_the_depth_of_a_transparent_colour_are_ignored(depth: int) -> None:
    with pytest.raises(ImageTransparent):
        read(stored(np.ones((6, 8, 1)), depth, 0, trns(0xFF00 + (1 << depth & 0xFF) + 1)))


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@given(
    st.sampled_from([0x0000, 0x00FF, 0x1234, 0xFF00, 0xFFFF]),
    st.integers(0, 4),
    st.integers(0, 47),
    st.integers(0, 2),
    st.sampled_from([1, 0x100, 0x8001]),
    st.integers(0, 2**32 - 1),
)
def test_transparent_colour_of_16_bits_is_compared_to_the_last_bit(
    interlaced: bool, level: int, kind: int, place: int, channel: int, off: int, seed: int
) -> None:
    """Also where only the byte differs that Pillow drops, and whatever the filter."""
    samples = np.random.default_rng(seed).integers(0, 65536, (6, 8, 3))
    pixel = samples.reshape(-1, 3)[place]  # a view: what follows writes into the image
    pixel[:] = level
    colour = trns(level, level, level)
    with pytest.raises(ImageTransparent):
        read(stored(samples, 16, 2, colour, interlaced=interlaced, kind=kind))
    pixel[channel] ^= off
    taken = read(stored(samples, 16, 2, colour, interlaced=interlaced, kind=kind))
    assert (taken * 255).round().astype(int).tolist() == (samples >> 8).transpose(2, 0, 1).tolist()


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("colour", [4, 6], ids=["grey", "RGB"])
@pytest.mark.parametrize("depth", [8, 16])
@given(st.integers(0, 4), st.integers(0, 47), st.integers(0, 15))
def test_alpha_is_opaque_to_the_last_bit(
    depth: int, colour: int, interlaced: bool, kind: int, place: int, bit: int
) -> None:
    samples = np.random.default_rng(place).integers(0, 1 << depth, (6, 8, CHANNELS[colour]))
    samples[:, :, -1] = (1 << depth) - 1
    assert read(stored(samples, depth, colour, interlaced=interlaced, kind=kind)).any()
    samples.reshape(48, -1)[place, -1] ^= 1 << bit % depth
    with pytest.raises(ImageTransparent):
        read(stored(samples, depth, colour, interlaced=interlaced, kind=kind))


def test_transparent_colour_has_no_say_beside_an_alpha_channel() -> None:
    samples = np.full((6, 8, 2), 255)
    assert (read(stored(samples, 8, 4, trns(255))) == 1).all()


def test_transparent_colour_of_8_bits_needs_all_its_samples() -> None:
    samples = np.tile([1, 2, 3], (6, 8, 1))
    assert read(stored(samples, 8, 2, trns(1, 2, 4))).shape == (3, 6, 8)
    with pytest.raises(ImageTransparent):
        read(stored(samples, 8, 2, trns(1, 2, 3)))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alpha", [b"\xff\x00", b"\xff\xfe", b"\x00\xff", b"\x7f\x80\xff\xff"])
def test_palette_may_be_transparent_where_no_pixel_uses_it(depth: int, alpha: bytes) -> None:
    for entry in (0, 1):
        data = stored(np.full((6, 8, 1), entry), depth, 3, chunk(b"tRNS", alpha))
        if alpha[entry] == 255:
            assert (read(data) == np.float32(255 - entry) / np.float32(255)).all()
        else:
            with pytest.raises(ImageTransparent):
                read(data)


def test_large_blocks_of_16_bits_are_joined_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image higher than one piece: the last row is looked at too."""
    monkeypatch.setattr(png, "_PIECE", 100)
    samples = np.full((6, 8, 4), 0xFFFF)
    assert (read(stored(samples, 16, 6, kind=4)) == 1).all()
    samples[5, 7, 3] = 0xFFFE
    with pytest.raises(ImageTransparent):
        read(stored(samples, 16, 6, kind=4))


@pytest.mark.parametrize("colour", [0, 2, 3])
def test_a_filter_that_there_is_not_is_damage(colour: int) -> None:
    rows = np.zeros((6, 1 + 8 * CHANNELS[colour]), np.uint8)
    rows[3, 0] = 5
    palette = [chunk(b"PLTE", RAMP)] if colour == 3 else []
    data = zlib.compress(rows.tobytes())
    with pytest.raises(ImageDamaged):
        read(file(header(8, 6, 8, colour), *palette, chunk(b"IDAT", data)))


@pytest.mark.parametrize(
    ("samples", "colour", "extra", "plain"),
    [
        (1, 0, [], True),
        (3, 2, [], True),
        (3, 2, [chunk(b"tEXt", b"a\0b")], True),
        (3, 2, [chunk(b"tRNS", bytes(6))], False),
        (1, 0, [chunk(b"eXIf", b"MM")], False),
        (2, 4, [], False),
        (1, 3, [], False),
    ],
)
def test_which_images_need_no_reader(
    samples: int, colour: int, extra: list[bytes], plain: bool
) -> None:
    pixels = np.zeros((6, 8, samples), np.uint8)
    assert png.parse(stored(pixels, 8, colour, *extra)).is_plain is plain
