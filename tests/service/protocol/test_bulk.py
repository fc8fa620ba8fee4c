"""JSON without its bulk: the same values as a general parser's, and a bound on what is left."""

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BodyMalformed
from service.protocol.bulk import LongText, Numbers, parse

ROOM = 1 << 20

NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False, width=32)
)
LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(), st.text(min_size=250, max_size=300)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(NUMBERS), st.lists(inner), st.dictionaries(st.text(max_size=20), inner)
    ),
    max_leaves=20,
)


def restored(value: Any) -> Any:
    """As a general parser would have it; numbers as float32."""
    if isinstance(value, LongText):
        return value.read().decode()
    if isinstance(value, Numbers):
        return nested(json.loads(value.source[value.start : value.end]))
    if isinstance(value, dict):
        return {key: restored(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [restored(inner) for inner in value]
    return value


def nested(value: Any) -> Any:
    return [nested(inner) for inner in value] if isinstance(value, list) else value


def has_mixture(value: Any) -> bool:
    """A list that begins with numbers and goes on with other things: refused, no tensor is such."""
    if isinstance(value, dict):
        return any(map(has_mixture, value.values()))
    if isinstance(value, list):
        kinds = [is_numeric(inner) for inner in value]
        return (any(kinds) and not all(kinds)) or any(map(has_mixture, value))
    return False


def is_numeric(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_values_are_those_of_a_general_parser(value: Any, ascii_: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_, indent=indent).encode(errors="surrogatepass")
    try:
        parsed = restored(parse(text, ROOM))
    except (BodyMalformed, ValueError):
        assert has_mixture(value) or not whole(value)
    else:
        assert parsed == value


def whole(value: Any) -> bool:
    """Whether its texts can be written in UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.binary(max_size=300) | st.text('{}[],:"\\ NaInfy-+e.0123', max_size=60).map(str.encode))
def test_any_bytes_are_json_or_refused(text: bytes) -> None:
    try:
        value = parse(text, ROOM)
    except BodyMalformed:
        return
    if isinstance(value, Numbers):
        with pytest.raises(ValueError, match=r"."):
            value.read((3, 5))
    elif not isinstance(value, LongText):
        json.loads(text, parse_constant=pytest.fail)  # what is taken is JSON


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200), st.sampled_from([0, 1, 2]))
def test_numbers_are_read_flat_and_nested(values: list[float], depth: int) -> None:
    array = np.array(values, np.float32).reshape((1,) * depth + (-1,))
    for data in (array.tolist(), values):
        read = parse(json.dumps({"data": data}).encode(), ROOM)["data"].read(array.shape)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, array)


def test_long_arrays_are_read_piece_by_piece() -> None:
    array = np.random.default_rng(0).random((40, 3, 50, 7), np.float32)
    for data in (array.tolist(), array.ravel().tolist()):
        text = json.dumps(data, indent=1).encode()
        assert len(text) > 4 * 65536
        np.testing.assert_array_equal(parse(text, 3).read(array.shape), array)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("[1, 2, 3]", (2,)),
        ("[1, 2, 3]", (4,)),
        ("[1, 2, 3, 4, 5, 6]", (2, 2)),
        ("[[1, 2], [3]]", (3,)),
        ("[[1, 2], [3, 4]]", (4,)),
        ("[[1, 2], [3, 4]]", (4, 1)),
        ("[[1, 2, 3], [4]]", (2, 2)),
        ("[1,, 2]", (3,)),
        ("[1, 2,]", (3,)),
        ("[,1]", (2,)),
        ("[1 2, 3]", (2,)),
        ("[1, 2-]", (2,)),
        ("[01, 2]", (2,)),
        ("[.5, 2]", (2,)),
        ("[1, +2]", (2,)),
        ("[1, 1" + "0" * 400 + "]", (2,)),
        ("[1, 0." + "3" * 70_000 + ", 2]", (3,)),
        ("[0" + ", 0" * 70_000 + "," * 5 + "]", (70_006,)),
    ],
)
def test_other_numbers_are_refused(text: str, shape: tuple[int, ...]) -> None:
    value = parse(text.encode(), 10)
    assert isinstance(value, Numbers)
    with pytest.raises(ValueError, match=r"."):
        value.read(shape)


def test_what_is_beyond_float32_is_infinite() -> None:
    assert parse(b"[1e300, -1e999]", 10).read((2,)).tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize(("text", "numbers"), [("[1, 28]", (1, 28)), ("[ -1 ]", (-1,))])
def test_few_whole_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert parse(text.encode(), 10).integers(8) == numbers


@pytest.mark.parametrize("text", ["[1.0]", "[[1]]", "[1, 2, 3]", "[1,]", "[1" + "0" * 300 + "]"])
def test_other_than_few_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text.encode(), 10).integers(2)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", '{"a": 1,}', "[1, NaN]", "NaN", '{"a": NaN}', "[NaN, 1]", "[NaN], [1]"),
        *('{"a": Infinity}', '{"a": -Infinity}', "Infinity", "nan"),
        *('{"a": 1, "a": 1}', '{"a": {"b": [1], "b": [1]}}', '{"a": [{"b": 1, "b": 2}]}'),
        *('"no end', '"', '"\\"', '"\\', '"' + "\\" * 99_999, '"' + '\\"' * 99_999, '"\\x"'),
        *('{"a": "' + "x" * 300, "{" + '"x' * 300 + '": 1}'),
        *("[1, true]", '[1, "a"]', "[1, [true]]", "[1, {}]", "[-]x", "[" * 1000, "[[1]" * 1000),
        *("[[1, 2]]]", "[1, 2], [3, 4]", "[]1, 2[]", "[1]" * 1000, "[1],[2]"),
        *("[" + "1," * 90_000, "[1" + " " * 90_000, "[" + " " * 90_000 + '"', "[[],[null]]"),
        *("[" * 2000 + '"a"' + "]" * 2000, '{"a":' * 2000 + "1" + "}" * 2000),
        *("1" * 5000, '{"a": ' + "9" * 5000 + "}"),
        *("\ufeff{}", '{"a": 1} x'),
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(BodyMalformed):
        parse(text.encode(), ROOM)


@pytest.mark.parametrize("text", [b'{"a": "\xff"}', b"\xff", b'"\xc3"', b'\x00{"a": 1}'])
def test_what_is_not_utf8_is_refused(text: bytes) -> None:
    with pytest.raises(BodyMalformed):
        parse(text, ROOM)


@pytest.mark.parametrize("written", [b"\xff" * 300, b"\\x" * 300, b"\\ud800" * 100, b"\n" * 300])
def test_a_long_string_is_checked_when_it_is_read(written: bytes) -> None:
    text = parse(b'"%b"' % written, 10)
    if b"\\" in written:
        with pytest.raises(ValueError, match=r"."):
            text.read()
    else:  # who reads it as base64 refuses it then
        assert text.read() == written


@pytest.mark.parametrize("unit", ['"",', '"' + "x" * 300 + '",', '{"":', "{},", '["a"],', "true,"])
def test_what_is_left_is_bounded(unit: str) -> None:
    """Megabytes of structure are given up after the limit, without an object made of them."""
    text = b'{"a": [' + unit.encode() * ((8 << 20) // len(unit))
    tracemalloc.start()
    try:
        with pytest.raises(BodyMalformed):
            parse(text, 4096)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "value", [{}, [], {"a": "x" * 300}, {"a": [1, 2], "b": [["c"], []]}, {"a": '"' * 9, "b": "c"}]
)
def test_the_limit_is_exact(value: Any) -> None:
    text = json.dumps(value).encode()
    limits = range(len(text) + 1)
    fits = []
    for limit in limits:
        try:
            parse(text, limit)
        except BodyMalformed:
            continue
        fits.append(limit)
    assert fits == list(range(fits[0], len(text) + 1))
    assert fits[0] <= len(text)


def test_numbers_cost_what_their_text_does() -> None:
    count = 500_000
    text = b'{"data": [' + b"0.5," * (count - 1) + b"0.5]}"
    tracemalloc.start()
    try:
        values = parse(text, 4096)["data"].read((count,))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (values == 0.5).all()
    assert peak < 3 * len(text)
