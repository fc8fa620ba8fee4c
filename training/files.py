"""Results appear whole or not at all: written beside their place, then renamed into it.

Knows nothing of what is written.
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.errors import TrainingError


class OutputError(TrainingError):
    """A result cannot be written where it was asked for; the message names the place."""


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, replacing an older one in one move.

    Raises:
        OutputError: the place cannot be written to.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, replacing an older one in one move.

    Raises:
        OutputError: the place cannot be written to.
    """
    # By chance, as processes on several machines that share a folder may have one number.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a loss of power may leave the new name without content
        draft.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def write_report(folder: Path, stem: str, document: dict[str, Any], text: str) -> Path:
    """Write `stem.md` to read and `stem.json`, replacing older ones; returns the JSON's path.

    Raises:
        OutputError: the folder cannot be written to.
    """
    plain = json.dumps(document, indent=2, allow_nan=False) + "\n"
    path = folder / f"{stem}.json"
    write_text(folder / f"{stem}.md", text)
    write_text(path, plain)
    return path


def ready_folder(path: Path) -> None:
    """Make the folder if it is absent, so that hours of work do not end at a closed door.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {path}: permission denied")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A draft folder to fill; it becomes `path` at the end, or goes if the block fails.

    Raises:
        OutputError: `path` is a file or holds something, its place cannot be written to, or the
            block ran out of space.
    """
    path = path.resolve()  # `.` has no name
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    absent = [folder for folder in path.parents if not folder.exists()]
    try:
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file; choose a folder that is new or empty")
        if path.is_dir() and any(path.iterdir()):
            raise OutputError(f"{path} is not empty; choose a folder that is new or empty")
        draft.mkdir(parents=True)
        yield draft
        if path.is_dir():
            path.rmdir()
        draft.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):  # one that holds something, as `path`
            for folder in absent:
                folder.rmdir()
