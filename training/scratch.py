"""Finished parts of long work in a folder that says what they belong to, until all are there.

A part is a few named arrays in a file of its own. It carries what it belongs to, so that parts of
other settings are never taken for it, wherever they were carried from; a file that was cut short or
altered counts as absent. Knows nothing of what is computed.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training import arrays
from training.arrays import Arrays
from training.files import OutputError, write_text

_SAYS = "belongs.json"
_ABOUT = "about"  # the one array of a part's file that is not the part's own
_DAMAGED = (*arrays.UNREADABLE, AttributeError, KeyError)


@dataclass(frozen=True, kw_only=True)
class Part:
    """`arrays` by name, and `notes` on how they came about as JSON types."""

    arrays: Arrays
    notes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """`belongs`, as JSON types, holds every setting that a part depends on.

    The folder appears with the first part. Several processes may fill it at the same time.
    """

    folder: Path
    belongs: Mapping[str, Any]

    @property
    def begun(self) -> bool:
        return (self.folder / _SAYS).exists()

    def check(self) -> None:
        """Make sure that what is there may be gone on with.

        Raises:
            OutputError: it belongs to something else, or does not say what it belongs to.
        """
        path = self.folder / _SAYS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            own = json.loads(json.dumps(self.belongs))
            others = {key for key, _ in _pairs(found) ^ _pairs(own)}
        except FileNotFoundError:
            return
        except _DAMAGED as error:
            raise OutputError(f"cannot read {path}; remove its folder to start anew") from error
        if others:
            raise OutputError(
                f"{self.folder} holds parts of other work ({', '.join(sorted(others))} differ); "
                "finish that, remove the folder, or write to another place"
            )

    def get(self, name: str) -> Part | None:
        """The part, or None where it is absent or its file is damaged.

        Raises:
            OutputError: the file is whole but belongs to something else.
        """
        path = self._path(name)
        try:
            found = arrays.read(path)
            about = json.loads(str(found.pop(_ABOUT)))
            belongs, named, notes = about["belongs"], about["name"], about["notes"]
            whole = sorted(found) == about["arrays"]
        except _DAMAGED:
            return None
        if not whole:
            return None
        if (belongs, named) != (self._digest(), name):
            raise OutputError(f"{path} belongs to other work; remove it or write to another place")
        return Part(arrays=found, notes=notes)

    def put(self, name: str, part: Part) -> None:
        """Keep a part, whole or not at all.

        Raises:
            OutputError: the place cannot be written to.
        """
        if not self.begun:
            write_text(self.folder / _SAYS, json.dumps(self.belongs, indent=2) + "\n")
        about = {
            "belongs": self._digest(),
            "name": name,
            "notes": dict(part.notes),
            "arrays": sorted(part.arrays),
        }
        written = {_ABOUT: np.array(json.dumps(about)), **part.arrays}
        arrays.write(self._path(name), written)

    def discard(self) -> None:
        """Remove the folder; first what it says, so that no other process takes it for whole."""
        with contextlib.suppress(OSError):
            (self.folder / _SAYS).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(self.belongs, sort_keys=True).encode()).hexdigest()


def _pairs(values: dict[str, Any]) -> set[tuple[str, str]]:
    return {(key, json.dumps(value)) for key, value in values.items()}
