"""A multipart body to its file parts, in memory: the body was bounded before it came here.

A thin set of callbacks on python-multipart, which parses but does not notice a missing end. Knows
nothing of images.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BodyMalformed, TooManyImages

if TYPE_CHECKING:  # the library defines its types for checkers only
    from python_multipart.multipart import MultipartCallbacks


@dataclass(slots=True)
class Part:
    """One part; a form field has no file name."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    @property
    def name(self) -> str | None:
        return self._disposition("name")

    @property
    def file_name(self) -> str | None:
        return self._disposition("filename")

    def _disposition(self, option: str) -> str | None:
        _, options = parse_options_header(self.headers.get("content-disposition"))
        value: bytes | None = options.get(option.encode())
        return None if value is None else value.decode(errors="replace")


def read_parts(content_type: str, body: bytes, max_parts: int) -> list[Part]:
    """All parts of a body, in order.

    Raises:
        BodyMalformed: no boundary, not multipart, or cut before the closing boundary.
        TooManyImages: more parts than `max_parts`, noticed before they are stored.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BodyMalformed("multipart: the content type names no boundary")
    parts = _Parts(max_parts)
    try:
        MultipartParser(boundary, parts.callbacks()).write(body)
    except FormParserError:
        raise BodyMalformed("multipart: the parts do not follow the boundary's pattern") from None
    if not parts.finished:
        raise BodyMalformed("multipart: the closing boundary is missing; the body may be cut")
    return parts.parts


class _Parts:
    """What the parser has told so far."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.finished = False
        self._max_parts = max_parts
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self.parts[-1].data.extend(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise TooManyImages(self._max_parts)
        self.parts.append(Part())

    def _end_header(self) -> None:
        name = self._header.decode("latin-1").lower()
        self.parts[-1].headers[name] = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def _end(self) -> None:
        self.finished = True
