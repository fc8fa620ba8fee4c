"""Tensors on the wire, to arrays and back: JSON lists, or raw bytes by the binary extension.

Binary numbers are little-endian, row by row, without padding; a BOOL is one byte; an element of
BYTES is led by its length in four bytes. In JSON, an encoded image is base64 (it is no UTF-8) and a
text is a string. Knows no requests.
"""

import binascii
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import TensorRefused
from service.protocol.bulk import LongText, Numbers

Datatype = Literal["BOOL", "INT64", "FP32", "BYTES"]
Pixels = NDArray[np.float32]
Column = NDArray[Any] | Sequence[str]  # one value, or one row of them, an image
Shape = tuple[int, ...]

ANY = -1  # a size that each request chooses

_LENGTH = struct.Struct("<I")
_FP32 = np.dtype("<f4")
_DTYPES: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT64": np.dtype("<i8"),
    "FP32": _FP32,
}


class TensorSpec(NamedTuple):
    """A tensor that a model takes or gives; ANY stands for the number of images."""

    name: str
    datatype: Datatype
    shape: Shape


@dataclass(frozen=True, slots=True)
class Raw:
    """Binary data of one tensor, where it lies in the body."""

    body: bytes
    start: int
    size: int


Source = Raw | Numbers | list[Any]


def read_pixels(source: Source, shape: Shape, name: str) -> Pixels:
    """(N, C, H, W) float32, finite and in [0, 1]; aligned bytes are not copied.

    `shape` has been checked against the model.

    Raises:
        TensorRefused: its data has another size or is no numbers, or a value is not a pixel's.
    """
    if isinstance(source, Raw):
        needed = math.prod(shape) * _FP32.itemsize
        if source.size != needed:
            raise TensorRefused(name, f"{source.size} bytes, where the shape has {needed}")
        body, start = source.body, source.start
        if (
            start % _FP32.itemsize
        ):  # numbers that are not aligned are slow, and no runtime likes them
            body, start = body[start : start + needed], 0
        pixels = np.frombuffer(body, _FP32, math.prod(shape), start).reshape(shape)
    elif isinstance(source, Numbers):
        try:
            pixels = source.read(shape)
        except ValueError as error:
            raise TensorRefused(name, str(error)) from None
    else:
        raise TensorRefused(name, "its data is not a list of numbers")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN is neither
        _refuse_value(pixels, name)
    return pixels


def _refuse_value(pixels: Pixels, name: str) -> None:
    fine = ((pixels >= 0) & (pixels <= 1)).reshape(len(pixels), -1)
    index = int(np.argmin(fine.all(axis=1)))
    value = float(pixels[index].reshape(-1)[int(np.argmin(fine[index]))])
    raise TensorRefused(name, f"image {index} has the value {value:g}, outside [0, 1]")


def read_elements(source: Source, count: int, name: str) -> list[bytes]:
    """The elements of a one-dimensional BYTES tensor, base64 in JSON.

    Raises:
        TensorRefused: they are not so many, or not written as elements.
    """
    if isinstance(source, Raw):
        return _split(source, count, name)
    if not isinstance(source, list):
        raise TensorRefused(name, "its data is not a list of strings")
    if len(source) != count:
        raise TensorRefused(name, f"{len(source)} values, where the shape has {count}")
    return [_from_base64(text, index, name) for index, text in enumerate(source)]


def _split(source: Raw, count: int, name: str) -> list[bytes]:
    elements = []
    position, end = source.start, source.start + source.size
    for index in range(count):
        if end - position < _LENGTH.size:
            raise TensorRefused(name, f"its data ends before element {index}")
        (length,) = _LENGTH.unpack_from(source.body, position)
        position += _LENGTH.size
        if length > end - position:
            raise TensorRefused(
                name, f"element {index} has {length} bytes, of which {end - position} are there"
            )
        elements.append(source.body[position : position + length])
        position += length
    if position != end:
        raise TensorRefused(name, f"{end - position} bytes follow its {count} elements")
    return elements


def _from_base64(text: object, index: int, name: str) -> bytes:
    try:
        if isinstance(text, LongText):
            return binascii.a2b_base64(text.read(), strict_mode=True)
        if isinstance(text, str):
            return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise TensorRefused(name, f"element {index} is not base64") from None
    raise TensorRefused(name, f"element {index} is not a string")


def to_json(column: Column) -> list[Any]:
    """A tensor's data as a flat list."""
    return column.ravel().tolist() if isinstance(column, np.ndarray) else list(column)


def to_binary(column: Column, datatype: Datatype) -> bytes:
    """A tensor's data as bytes."""
    if isinstance(column, np.ndarray):
        return column.astype(_DTYPES[datatype], copy=False).tobytes()
    return b"".join(_framed(column))


def _framed(texts: Iterable[str]) -> Iterable[bytes]:
    for text in texts:
        element = text.encode()
        yield _LENGTH.pack(len(element))
        yield element
