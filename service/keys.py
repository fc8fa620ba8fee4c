"""API keys in a file, and which of them a client gave.

One key a line, `KEY` or `NAME:KEY`; `#` begins a comment. A name may stand before several keys, so
that a client changes its key without a gap: the old one is removed once the new one is in use. Keys
are kept as digests only and never told: messages, logs and metrics have names and line numbers.
"""

import hmac
import re
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Self

from service.errors import KeysRefused

MIN_LENGTH = 16
MAX_KEYS = 1000  # each request is compared with all of them, 50 us for so many
_MAX_BYTES = 1 << 20

_KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what RFC 6750 lets a bearer token be
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Keys:
    """At least one key. A key without a name is called by its line, `#3`."""

    _digests: tuple[tuple[bytes, str], ...] = field(repr=False)  # sha256 of a key, its name

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Raises:
            ValueError: there is no key, too many, a malformed or too short one, or one twice; says
                in which line, never which key.
        """
        digests: dict[bytes, str] = {}
        lines: dict[bytes, int] = {}
        for number, line in enumerate(text.split("\n"), 1):
            entry = line.partition("#")[0].strip()
            if not entry:
                continue
            name, colon, key = entry.rpartition(":")
            if colon and not _NAME.fullmatch(name):
                raise ValueError(f"line {number}: a name is 1 to 64 letters, digits, '.', '_', '-'")
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"line {number}: a key is letters, digits and any of '-._~+/', "
                    "with '=' at its end only"
                )
            if len(key) < MIN_LENGTH:
                raise ValueError(f"line {number}: the key is shorter than {MIN_LENGTH} characters")
            digest = sha256(key.encode()).digest()
            if digest in digests:
                raise ValueError(f"line {number}: the same key as in line {lines[digest]}")
            digests[digest], lines[digest] = name or f"#{number}", number
        if not digests:
            raise ValueError("there is no key in it")
        if len(digests) > MAX_KEYS:
            raise ValueError(f"more than {MAX_KEYS} keys")
        return cls(tuple(digests.items()))

    @property
    def names(self) -> frozenset[str]:
        """Whose keys they are."""
        return frozenset(name for _, name in self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def owner(self, key: bytes) -> str | None:
        """The name of this key, None where it is unknown.

        Compares whole digests with all keys, whatever was found: the time it takes says neither how
        much of a key was right nor where in the file it stands.
        """
        digest = sha256(key).digest()
        found = None
        for known, name in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read_keys(path: Path) -> Keys:
    """
    Raises:
        KeysRefused: the file cannot be read, or holds no usable keys; says why.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise KeysRefused(path, "not a regular file")  # a pipe could be read only once
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeysRefused(path, error.strerror or str(error)) from error
    if len(data) > _MAX_BYTES:
        raise KeysRefused(path, f"more than {_MAX_BYTES} bytes")
    try:
        return Keys.parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise KeysRefused(path, "not UTF-8 text") from None
    except ValueError as error:
        raise KeysRefused(path, str(error)) from None


def readable_by_all(path: Path) -> bool:
    """Whether every user of the machine may read the file; False where it is not there."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
