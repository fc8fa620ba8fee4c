"""Markers of a JPEG: where the image ends, and how many scans the decoder is made to run."""

import numpy as np
import pytest

from service.errors import ImageDamaged, ImageTruncated
from service.images import Limits, Upload, prepare
from service.jpeg import MAX_SCANS, check_markers
from service.manifest import InputSpec
from tests.service.toy import encode

START, END, SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
SPEC = InputSpec(channels=1, height=32, width=32)
NOISE = np.random.default_rng(3).integers(0, 256, (32, 32), dtype=np.uint8)
PROGRESSIVE = encode(NOISE, "JPEG", progressive=True)


def read(data: bytes) -> float:
    """The mean of its pixels."""
    taken = prepare(Upload(data), SPEC, Limits(1 << 20, 1_024), strict_size=True)
    return float(taken.pixels.mean())


def segment(code: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2) + content


def with_scans(number: int) -> bytes:
    """A progressive file whose last scan is repeated without its data, as a bomb would."""
    last = PROGRESSIVE.rindex(SCAN)
    again = PROGRESSIVE[last : last + 10]
    return PROGRESSIVE[:-2] + again * (number - PROGRESSIVE.count(SCAN)) + END


def test_as_many_scans_as_an_image_may_have_are_decoded() -> None:
    assert 1 < PROGRESSIVE.count(SCAN) < MAX_SCANS
    assert read(with_scans(MAX_SCANS)) == pytest.approx(0.5, abs=0.1)


def test_more_scans_are_refused_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: decoded.append(image))
    with pytest.raises(ImageDamaged):
        read(with_scans(MAX_SCANS + 1))
    assert not decoded


@pytest.mark.parametrize(
    "between",
    [
        b"",
        b"coded data",
        b"\xff\x00" * 9,
        b"\xff" * 9,
        b"\xff\xd0\xff\xd7",
        b"\xff\xd8",
        b"\xff\x01\xff\xff",
        b"\xff\x02\xff\xff",
        b"\xff\xfe\x00\x00",
        segment(0xC4, b"tables"),
    ],
    ids=["", "data", "stuffed", "fill", "restart", "start", "TEM", "reserved", "no length", "DHT"],
)
def test_scans_cannot_hide(between: bytes) -> None:
    """What libjpeg passes over without a length is passed over here, and not a byte beyond it."""
    check_markers(START + (between + segment(0xDA)) * MAX_SCANS + between + END)
    with pytest.raises(ImageDamaged):
        check_markers(START + (between + segment(0xDA)) * (MAX_SCANS + 1) + between + END)


def test_what_is_inside_a_segment_is_not_of_the_image() -> None:
    """A thumbnail brings scans and an end of its own."""
    inside = segment(0xE1, b"Exif\x00\x00" + SCAN * (MAX_SCANS + 1) + END)
    check_markers(START + inside + END)
    with pytest.raises(ImageTruncated):
        check_markers(START + inside)
    with pytest.raises(ImageTruncated):
        read(START + inside + PROGRESSIVE[2:-2])


def test_what_follows_the_end_is_not_of_the_image() -> None:
    """The further pictures of a telephone, for one."""
    check_markers(START + END + SCAN * (MAX_SCANS + 1))


@pytest.mark.parametrize("tail", [b"", b"\xff", b"\xff\xe1", b"\xff\xe1\x00", segment(0xE1)])
def test_an_image_without_its_end_is_truncated(tail: bytes) -> None:
    with pytest.raises(ImageTruncated):
        check_markers(START + tail)
    with pytest.raises(ImageTruncated):
        check_markers(START + b"\xff\xe1\xff\xff" + tail + END)


def test_restarts_and_many_kinds_of_coding_are_read() -> None:
    for options in ({"restart_marker_blocks": 1}, {"optimize": True}, {"progressive": True}):
        assert read(encode(NOISE, "JPEG", **options)) == pytest.approx(NOISE.mean() / 255, abs=0.01)


@pytest.mark.parametrize("progressive", [False, True], ids=["sequential", "progressive"])
def test_a_cut_with_an_end_put_behind_it_is_not_noticed(progressive: bool) -> None:
    """A limit that `prepare` admits: libjpeg fills the rest, and Pillow drops its warning."""
    data = encode(NOISE, "JPEG", progressive=progressive)
    cut = data[: data.rindex(SCAN) + 40] + END
    assert len(cut) < len(data)
    assert 0 <= read(cut) <= 1
