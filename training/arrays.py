"""Named arrays in one npz file, written whole or not at all and read without running any code.

The same arrays give the same bytes. Knows nothing of what the arrays are.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.files import write_bytes

Arrays = Mapping[str, NDArray[Any]]
Name = TypeVar("Name", bound=str)
Number = TypeVar("Number", bound=np.generic)

# What the reader raises for a file that is missing, cut short, altered or no npz at all.
UNREADABLE = (
    *(OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError),  # an altered byte may announce a method of compression
)


def joined(parts: Sequence[Mapping[Name, NDArray[Number]]]) -> dict[Name, NDArray[Number]]:
    """Arrays of consecutive batches as one, name by name."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write(path: Path, arrays: Arrays) -> None:
    """Replace `path` in one move.

    Raises:
        OutputError: the place cannot be written to.
    """
    content = io.BytesIO()
    plain: dict[str, Any] = dict(arrays)
    np.savez(content, **plain)
    write_bytes(path, content.getvalue())


def read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays, each compared with its checksum.

    Raises:
        one of UNREADABLE.
    """
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
