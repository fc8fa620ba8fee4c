"""JSON that is mostly numbers or base64, read at the cost of its bytes.

A general parser makes an object of every number: a body of 32 MiB becomes half a gigabyte, and no
other thread runs meanwhile. Here each array of numbers and each long string is lifted out as the
text it is, and only the rest is parsed, which is short in every honest request: beyond a limit it
is refused, so that deep, wide or repetitive JSON costs nothing. Long work is done in pieces,
between which other threads have their turn. Knows JSON; nothing of tensors.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from service.errors import BodyMalformed

LONG = 256  # bytes; a longer string is lifted
_PIECE = 64 << 10  # bytes looked at in one go ...
_FIRST_PIECE = 64  # ... and at first
_LIFTED = b"NaN"  # stands for what was lifted; JSON itself has it in strings only
_QUOTE = ord('"')

_PLAIN = re.compile(rb'(?:[^"\[]++|"[^"\\]{0,250}+")*+')  # short strings, and all between arrays
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)  # of a string
_NUMERIC = re.compile(rb"[\[\]0-9eE+\-., \t\r\n]*+")
_DIGITS = b"0123456789eE+-. \t\r\n"
_BRACKETS_TO_SPACES = bytes.maketrans(b"[]", b"  ")


@dataclass(frozen=True, slots=True)
class LongText:
    """A lifted string, as it is written between its quotes."""

    written: bytes = field(repr=False)

    def read(self) -> bytes:
        """The string in UTF-8.

        Raises:
            ValueError: it is not one.
        """
        if b"\\" not in self.written:
            return self.written
        text: str = from_json(b'"%b"' % self.written)
        return text.encode()


@dataclass(frozen=True, slots=True)
class Numbers:
    """A lifted array of numbers: `source[start:end]`, brackets included, unread and unchecked."""

    source: bytes = field(repr=False)
    start: int
    end: int

    def read(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The array: written row by row without inner brackets, or nested as its shape is.

        A number beyond float32 becomes infinite.

        Raises:
            ValueError: these are not as many numbers, or not in this order of brackets.
        """
        written = self._count(b",") + 1
        if written != math.prod(shape):
            raise ValueError(f"{written} values, where the shape has {math.prod(shape)}")
        if (self._count(b"["), self._count(b"]")) != (1, 1) and self._nesting() != _nested(shape):
            raise ValueError("its brackets are neither those of a list nor those of the shape")
        values = np.empty(written, np.float32)
        filled = 0
        for piece in self._pieces():
            numbers = _floats(piece)
            values[filled : filled + len(numbers)] = numbers
            filled += len(numbers)
        if filled != written:
            raise ValueError("a value is missing")
        return values.reshape(shape)

    def integers(self, at_most: int) -> tuple[int, ...]:
        """A flat array of few whole numbers.

        Raises:
            ValueError: it is another one.
        """
        if self._count(b",") >= at_most or self.end - self.start > LONG:
            raise ValueError(f"more than {at_most} numbers")
        numbers = from_json(self.source[self.start : self.end])
        if any(type(number) is not int for number in numbers):
            raise ValueError("not a list of whole numbers")
        return tuple(numbers)

    def _count(self, what: bytes) -> int:
        return self.source.count(what, self.start, self.end)

    def _nesting(self) -> bytes:
        """Brackets and commas alone."""
        cuts = range(self.start, self.end, _PIECE)
        pieces = (self.source[cut : min(cut + _PIECE, self.end)] for cut in cuts)
        return b"".join(piece.translate(None, _DIGITS) for piece in pieces)

    def _pieces(self) -> Iterator[bytes]:
        """The text without brackets, cut at commas."""
        position = self.start
        while position < self.end:
            cut = self.end
            if position + _PIECE < self.end:
                cut = self.source.rfind(b",", position, position + _PIECE)
                if cut < 0:
                    raise ValueError("a number of too many digits")
            yield self.source[position:cut].translate(_BRACKETS_TO_SPACES)
            position = cut + 1


def parse(text: bytes, limit: int) -> Any:
    """A JSON text's value, with `Numbers` for arrays of numbers and `LongText` for long strings.

    `limit` bounds the bytes that are left when those are lifted out. An object holds no key twice.

    Raises:
        BodyMalformed: it is no JSON, or more than `limit` is left.
    """
    lifted: list[LongText | Numbers] = []
    rest = _lift(text, limit, lifted)
    taken = iter(lifted)

    def constant(name: str) -> LongText | Numbers:
        value = next(taken, None) if name == _LIFTED.decode() else None
        if value is None:
            raise ValueError(f"{name} is no JSON")
        return value

    try:
        return json.loads(rest.decode(), parse_constant=constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise BodyMalformed(f"JSON: {' '.join(str(error).split())[:200]}") from None


def _lift(text: bytes, limit: int, lifted: list[LongText | Numbers]) -> bytes:
    """The text without what is appended to `lifted`, in the same order."""
    kept: list[bytes] = []
    room, position = limit, 0
    while room >= 0:
        start = _end(_PLAIN, text, position, position + room + 1)
        if start - position > room:
            break
        kept.append(text[position:start])
        if start == len(text):
            return b"".join(kept)
        room -= start - position
        position, value = (_string if text[start] == _QUOTE else _array)(text, start)
        if value is not None:
            lifted.append(value)
        kept.append(text[start:position] if value is None else _LIFTED)
        room -= len(kept[-1])
    raise BodyMalformed(f"JSON: more than {limit} bytes beside long strings and arrays of numbers")


def _end(pattern: re.Pattern[bytes], text: bytes, start: int, stop: int) -> int:
    """Where the pattern's match ends; it matches nothing, too."""
    match = pattern.match(text, start, stop)
    assert match is not None
    return match.end()


def _string(text: bytes, start: int) -> tuple[int, LongText | None]:
    """Where the string ends that begins here, and the string where it is long."""
    end = text.find(b'"', start + 1)
    if text.find(b"\\", start + 1, max(end, 0)) >= 0:  # that quote may be an escaped one
        end = start + 1
        while text[end : end + 1] != b'"':
            before = end
            end = _end(_INSIDE, text, before, before + _PIECE)
            if end == before:
                _refuse_endless()
    if end < 0:
        _refuse_endless()
    return end + 1, LongText(text[start + 1 : end]) if end - start > LONG else None


def _refuse_endless() -> NoReturn:
    raise BodyMalformed("JSON: a string has no end")


def _array(text: bytes, start: int) -> tuple[int, Numbers | None]:
    """Where the array of numbers ends that begins here; or the brackets alone, of others.

    Pieces grow, so that looking costs as much as what is found to belong to it.
    """
    position, piece, depth = start, _FIRST_PIECE, 0
    while True:
        stop = _end(_NUMERIC, text, position, position + piece)
        end, depth = _closing(text, position, stop, depth)
        if end or stop < position + piece:
            break
        position, piece = stop, min(2 * piece, _PIECE)
    if not end:
        if text[start:stop].strip(b"[ \t\r\n"):
            raise BodyMalformed("JSON: an array begins with a number and does not go on with them")
        return stop, None
    if not text[start + 1 : end - 1].strip():  # an empty one
        return end, None
    return end, Numbers(text, start, end)


def _closing(text: bytes, start: int, stop: int, depth: int) -> tuple[int, int]:
    """Where in this piece the bracket is that ends all of `depth`, or 0; and the depth after."""
    first = text.find(b"]", start, stop) + 1
    opened = text.count(b"[", start, first or stop)
    if not first or depth + opened == 1:
        return first, depth + opened
    piece = np.frombuffer(text, np.uint8, stop - start, start)
    depths = depth + np.cumsum((piece == ord("[")).astype(np.int32) - (piece == ord("]")))
    closed = np.flatnonzero(depths == 0)
    return (start + int(closed[0]) + 1 if closed.size else 0), int(depths[-1])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _nested(shape: tuple[int, ...]) -> bytes:
    """Brackets and commas of a nested list of this shape."""
    inner = b""
    for size in reversed(shape):
        inner = b"[" + b",".join([inner] * size) + b"]"
    return inner


def _floats(text: bytes) -> NDArray[np.float32]:
    """Numbers between commas."""
    numbers = from_json(b"[%b]" % text)
    try:
        with np.errstate(over="ignore"):
            return np.array(numbers, np.float32)
    except OverflowError:
        raise ValueError("a number is beyond any float") from None
