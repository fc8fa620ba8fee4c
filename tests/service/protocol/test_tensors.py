"""Tensors through the wire and back; what does not fit its shape or range is refused."""

import base64
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.errors import TensorRefused
from service.protocol import bulk
from service.protocol.tensors import Raw, read_elements, read_pixels, to_binary, to_json

SHAPE = (2, 1, 3, 4)
UNIT = arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))


def json_source(value: Any) -> Any:
    return bulk.parse(json.dumps({"data": value}).encode(), 1 << 20)["data"]


def raw(data: bytes, before: int = 0, after: int = 0) -> Raw:
    return Raw(b"\xff" * before + data + b"\xff" * after, before, len(data))


def framed(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@given(UNIT, st.integers(0, 9), st.integers(0, 9))
def test_pixels_travel_as_bytes(pixels: Any, before: int, after: int) -> None:
    read = read_pixels(raw(to_binary(pixels, "FP32"), before, after), SHAPE, "image")
    np.testing.assert_array_equal(read, pixels)
    assert read.flags.aligned
    assert read.flags.c_contiguous


@given(UNIT, st.booleans())
def test_pixels_travel_as_json(pixels: Any, flat: bool) -> None:
    data = to_json(pixels) if flat else pixels.tolist()
    np.testing.assert_array_equal(read_pixels(json_source(data), SHAPE, "image"), pixels)


def test_aligned_bytes_are_not_copied() -> None:
    body = np.zeros(SHAPE, "<f4").tobytes()
    start = -np.frombuffer(body, np.uint8).__array_interface__["data"][0] % 4
    assert start == 0  # a bytes object's data begin on a word
    pixels = read_pixels(Raw(body, 0, len(body)), SHAPE, "image")
    assert np.shares_memory(pixels, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0000001, -1e-30, 255])
def test_what_is_no_pixel_is_refused(value: float) -> None:
    pixels = np.full(SHAPE, 0.5, np.float32)
    pixels[1, 0, 2, 1] = value
    sources = [raw(to_binary(pixels, "FP32"))]
    if np.isfinite(value):  # JSON has no other
        sources.append(json_source(to_json(pixels)))
    for source in sources:
        with pytest.raises(TensorRefused, match="image 1 has the value"):
            read_pixels(source, SHAPE, "image")


def test_the_ends_of_the_range_are_pixels() -> None:
    pixels = np.zeros(SHAPE, np.float32)
    pixels[0], pixels[1, 0, 0, 0] = 1.0, -0.0
    np.testing.assert_array_equal(
        read_pixels(raw(to_binary(pixels, "FP32")), SHAPE, "image"), pixels
    )


@pytest.mark.parametrize("size", [0, 1, 95, 97, 192])
def test_bytes_fit_the_shape(size: int) -> None:
    with pytest.raises(TensorRefused, match=f"{size} bytes, where the shape has 96"):
        read_pixels(raw(bytes(size)), SHAPE, "image")


@pytest.mark.parametrize(
    "data", ["text", ["0.5"] * 24, [True] * 24, [None] * 24, {}, 0.5, True, [], [0.5] * 23]
)
def test_other_data_are_refused(data: Any) -> None:
    with pytest.raises(TensorRefused):
        read_pixels(json_source(data), SHAPE, "image")


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=6), st.integers(0, 5))
def test_elements_travel(elements: list[bytes], before: int) -> None:
    assert read_elements(raw(framed(elements), before), len(elements), "bytes") == elements
    texts = [base64.b64encode(element).decode() for element in elements]
    assert read_elements(json_source(texts), len(elements), "bytes") == elements


@given(st.binary(max_size=40), st.integers(1, 4))
def test_any_bytes_are_elements_or_refused(data: bytes, count: int) -> None:
    try:
        elements = read_elements(raw(data, 3, 3), count, "bytes")
    except TensorRefused:
        return
    assert framed(elements) == data


@pytest.mark.parametrize(
    ("data", "count", "words"),
    [
        (b"", 1, "ends before element 0"),
        (b"\0\0\0", 1, "ends before element 0"),
        (framed([b"ab"]), 2, "ends before element 1"),
        (framed([b"ab"])[:-1], 1, "2 bytes, of which 1"),
        (b"\xff\xff\xff\xffab", 1, "4294967295 bytes, of which 2"),
        (framed([b"ab", b"c"]), 1, "5 bytes follow"),
    ],
)
def test_other_elements_are_refused(data: bytes, count: int, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TensorRefused, match=words):
            read_elements(raw(data), count, "bytes")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # nothing of the size that is claimed
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        *("text", [1], [None], [["YQ=="]], ["YQ==", 1], {}, 1, ["YQ"], ["Y Q=="], ["\u00e9"]),
        *(["data:image/png;base64,YQ=="], ["a" * 301], ["\u00e9" * 300], ["\ud800"]),
    ],
)
def test_other_texts_are_refused(data: Any) -> None:
    with pytest.raises(TensorRefused):
        read_elements(json_source(data), 1, "bytes")


def test_outputs_have_the_bytes_of_the_extension() -> None:
    assert to_binary(np.array([1.0], np.float64), "FP32") == b"\0\0\x80\x3f"
    assert to_binary(np.array([True, False]), "BOOL") == b"\1\0"
    assert to_binary(np.array([-2], np.int32), "INT64") == b"\xfe" + b"\xff" * 7
    assert to_binary(["ab", "\u00e9"], "BYTES") == b"\2\0\0\0ab\2\0\0\0\xc3\xa9"
    assert to_json(np.array([[1, 2], [3, 4]])) == [1, 2, 3, 4]
    assert to_json(["a", "b"]) == ["a", "b"]
