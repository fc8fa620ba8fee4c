"""Key files: what is taken, what is refused and how that is said, and whose key one is."""

import hmac
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import KeysRefused
from service.keys import MAX_KEYS, MIN_LENGTH, Keys, read_keys, readable_by_all

KEY = "abcdefghijklmnop"  # as short as is allowed

TOKENS = st.text(string.ascii_letters + string.digits + "-._~+/", min_size=MIN_LENGTH, max_size=60)
NAMES = st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=64)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (KEY, {"#1"}),
        (f"robot:{KEY}", {"robot"}),
        (f"\n# nobody\n  robot:{KEY}  # the arm\r\n\n{KEY[::-1]}==\n", {"robot", "#5"}),
        (f"robot:{KEY}\nrobot:{KEY[::-1]}", {"robot"}),  # a key and its successor
        (f"{KEY}aA0-._~+/=", {"#1"}),
    ],
)
def test_what_a_file_may_hold(text: str, names: set[str]) -> None:
    assert Keys.parse(text).names == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key in it"),
        ("\n# only a comment\n", "there is no key in it"),
        (f"#{KEY}", "there is no key in it"),
        (KEY[:-1], "line 1: the key is shorter than 16 characters"),
        (f"{KEY}\nrobot:short", "line 2: the key is shorter"),
        (f"{KEY}\nother:{KEY}", "line 2: the same key as in line 1"),
        (f"{KEY} {KEY}", "line 1: a key is letters"),
        (f"=={KEY}", "line 1: a key is letters"),
        (f"{KEY}é", "line 1: a key is letters"),
        (f"{KEY}\x00", "line 1: a key is letters"),
        (f"{KEY}\v{KEY}", "line 1: a key is letters"),
        ("robot:", "line 1: a key is letters"),
        (f":{KEY}", "line 1: a name is"),
        (f"a:b:{KEY}", "line 1: a name is"),
        (f"the robot:{KEY}", "line 1: a name is"),
        (f"{'x' * 65}:{KEY}", "line 1: a name is"),
        ("\n".join(f"{KEY}{i}" for i in range(MAX_KEYS + 1)), "more than 1000 keys"),
    ],
)
def test_what_it_may_not_hold_is_said_without_the_key(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="^" + said) as caught:
        Keys.parse(text)
    assert KEY not in str(caught.value)


@given(st.dictionaries(TOKENS, NAMES | st.none(), min_size=1, max_size=20))
def test_every_key_is_found_under_its_name_and_no_other_is(wanted: dict[str, str | None]) -> None:
    lines = [key if name is None else f"{name}:{key}" for key, name in wanted.items()]
    keys = Keys.parse("\n".join(lines))
    assert len(keys) == len(wanted)
    for number, (key, name) in enumerate(wanted.items(), 1):
        assert keys.owner(key.encode()) == (name or f"#{number}")
        for near in (key[:-1], key + "x", key.swapcase() + "_", "", f"{name}:{key}"):
            assert near in wanted or keys.owner(near.encode()) is None


@given(st.text())
def test_any_text_is_keys_or_a_reason_in_one_line(text: str) -> None:
    said = ""
    try:
        assert len(Keys.parse(text)) >= 1
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


@given(st.binary(max_size=200))
def test_any_bytes_may_be_given_as_a_key(key: bytes) -> None:
    assert Keys.parse(KEY).owner(key) == ("#1" if key == KEY.encode() else None)


@pytest.mark.parametrize("given", [f"{KEY}0", f"{KEY}9", "unknown", ""])
def test_all_keys_are_compared_whatever_is_found(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whole digests, by the comparison whose time says nothing."""
    compared: list[tuple[int, int]] = []

    def counted(known: bytes, digest: bytes) -> bool:
        compared.append((len(known), len(digest)))
        return real(known, digest)

    real = hmac.compare_digest
    keys = Keys.parse("\n".join(f"{KEY}{i}" for i in range(10)))
    monkeypatch.setattr("service.keys.hmac.compare_digest", counted)
    keys.owner(given.encode())
    assert compared == [(32, 32)] * 10


def test_no_key_is_shown() -> None:
    assert repr(Keys.parse(f"robot:{KEY}")) == "Keys()"


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")  # as some editors leave it
    assert read_keys(file).owner(KEY.encode()) == "#1"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "No such file or directory"),
        (b"", "there is no key in it"),
        (b"\xff" * 40, "not UTF-8 text"),
        (b"short", "line 1: the key is shorter"),
        (b"\n" * (1 << 20) + KEY.encode(), "more than 1048576 bytes"),
    ],
)
def test_an_unusable_file_is_refused(tmp_path: Path, data: bytes | None, said: str) -> None:
    file = tmp_path / "keys"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(KeysRefused) as caught:
        read_keys(file)
    assert f"API keys in {file} refused: {said}" in str(caught.value)


def test_only_a_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(KeysRefused, match="not a regular file"):
        read_keys(tmp_path)
    with pytest.raises(KeysRefused, match="not a regular file"):
        read_keys(Path("/dev/zero"))


def test_who_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert not readable_by_all(file)
    file.touch(0o600)
    assert not readable_by_all(file)
    file.chmod(0o644)
    assert readable_by_all(file)
