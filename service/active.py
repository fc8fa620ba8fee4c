"""Which version of a model answers where none is named: one line in models/<name>/active.

Without the file it is the newest. Knows this file; neither whether such a version exists nor
whether it keeps its promise, which is for whoever writes it to see to first.
"""

import os
from pathlib import Path

from service.errors import ModelRefused, VersionUnwritable
from service.manifest import version_number

ACTIVE_FILE = "active"

_LONGEST = 64  # bytes that are looked at; a version has fewer


def read_active(model: Path) -> int | None:
    """The version in the file of the folder models/<name>, or None where there is no file.

    Raises:
        ModelRefused: it cannot be read, or holds anything but a version.
    """
    try:
        with (model / ACTIVE_FILE).open("rb") as file:
            text = file.read(_LONGEST).decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(model, f"cannot be read ({error.strerror})") from error
    version = version_number(text.removesuffix("\n"))
    if version is None:
        raise _refused(model, f"holds {text[:20]!r}, which is no version")
    return version


def write_active(model: Path, version: int | None) -> None:
    """Make `version` the active one, None the newest: whole or not at all, also through a crash.

    Raises:
        VersionUnwritable: with the reason; nothing was changed.
    """
    target = model / ACTIVE_FILE
    draft = model / f".{ACTIVE_FILE}.{os.getpid()}"
    try:
        if version is None:
            target.unlink(missing_ok=True)
            return
        with draft.open("w", encoding="ascii") as file:
            file.write(f"{version}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise VersionUnwritable(target, error.strerror or str(error)) from error


def _refused(model: Path, reason: str) -> ModelRefused:
    return ModelRefused(
        model, f"{ACTIVE_FILE} {reason}", "`parallax models activate NAME VERSION` writes it"
    )
