"""Multipart bodies as browsers, curl and mischief send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BodyMalformed, RequestError, TooManyImages
from service.parts import read_parts

TYPE = "multipart/form-data; boundary=b"


def part(disposition: bytes, data: bytes, *headers: bytes) -> bytes:
    lines = (b"--b", b"Content-Disposition: form-data" + disposition, *headers, b"", data)
    return b"\r\n".join(lines) + b"\r\n"


FILE = part(b'; name="file"; filename="a.png"', b"\x89PNG\r\n--not", b"content-TYPE: image/png")
FIELD = part(b'; name="other"', b"value")
END = b"--b--\r\n"


def test_parts_come_in_order_with_their_headers() -> None:
    file, field = read_parts(TYPE, FILE + FIELD + END, 2)
    assert (file.name, file.file_name, file.content_type) == ("file", "a.png", "image/png")
    assert bytes(file.data) == b"\x89PNG\r\n--not"
    assert (field.name, field.file_name, field.content_type) == ("other", None, None)
    assert bytes(field.data) == b"value"


@given(st.binary(max_size=300).filter(lambda data: b"\r\n--b" not in b"\r\n" + data))
def test_any_bytes_survive(data: bytes) -> None:
    (found,) = read_parts(TYPE, part(b'; name="file"; filename="x"', data) + END, 1)
    assert bytes(found.data) == data


def test_no_parts_are_no_error() -> None:
    assert read_parts(TYPE, END, 1) == []


def test_part_without_a_name_has_none() -> None:
    (found,) = read_parts(TYPE, part(b"", b"x") + END, 1)
    assert found.name is None


def test_name_in_another_encoding_is_no_crash() -> None:
    (found,) = read_parts(TYPE, part(b'; name="f\xff"', b"x") + END, 1)
    assert found.name is not None


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("multipart/form-data", FILE + END, "no boundary"),
        ("multipart/form-data; boundary=", FILE + END, "no boundary"),
        ("multipart/form-data; boundary=" + "x" * 999, FILE + END, "pattern"),
        (TYPE, b"hello", "pattern"),
        (TYPE, b"--b\r\nno header\r\n\r\n" + END, "pattern"),
        (TYPE, part(b"", b"x", b"a: " + b"y" * 9999) + END, "pattern"),
        (TYPE, part(b"", b"x", *[b"a: b"] * 99) + END, "pattern"),
        (TYPE, FILE, "closing boundary is missing"),
        (TYPE, FILE + FILE[:-20], "closing boundary is missing"),
    ],
)
def test_malformed_bodies_are_refused(content_type: str, body: bytes, said: str) -> None:
    with pytest.raises(BodyMalformed, match=said):
        read_parts(content_type, body, 9)


def test_parts_are_counted_before_they_are_stored() -> None:
    assert len(read_parts(TYPE, FILE * 3 + END, 3)) == 3
    with pytest.raises(TooManyImages):
        read_parts(TYPE, FILE * 4 + END, 3)


@given(st.binary(max_size=300))
def test_any_body_is_answered(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_parts(TYPE, b"x" + body, 3)
