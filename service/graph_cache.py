"""Optimised networks kept on disk: a start does not optimise again, and processes share weights.

    <directory>/<key>/{graph.onnx, weights.bin, seal.json}

The key is a digest of all that the optimised network depends on; the seal holds the hashes of the
two files. What is damaged, of another owner, or open to others' writing is not used; what cannot
be written is only logged: without the cache everything works as well, a little later. An entry is
written beside its place and renamed, so that several processes may start at once. The seal finds
damage, not forgery: who may write into the directory decides what is served.

Knows files; neither networks nor the runtime that makes and reads them.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.manifest import sha256_file

GRAPH_FILE = "graph.onnx"
WEIGHTS_FILE = "weights.bin"  # absent where a network has no weights of any size

_SEAL_FILE = "seal.json"
_LAYOUT = 1  # of an entry; another number is another key
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

log = logging.getLogger(__name__)


def processor(information: Path = Path("/proc/cpuinfo")) -> str:
    """The instruction sets that kernels are chosen by, as far as the system tells them."""
    try:
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = (line for line in lines if line.partition(":")[0].strip() in ("flags", "Features"))
    features = next(told, "").partition(":")[2].split()
    return " ".join((platform.machine(), platform.processor(), *sorted(features)))


@dataclass(frozen=True, slots=True)
class KeptGraph:
    """One network's place in a directory, which is made where it is absent.

    `parts` is what the optimised network depends on: the model, the runtime, the processor ...
    """

    directory: Path
    parts: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        text = json.dumps({**self.parts, "layout": _LAYOUT}, sort_keys=True)
        return self.directory / hashlib.sha256(text.encode()).hexdigest()

    def find(self) -> Path | None:
        """The folder where it is there and undamaged, or None."""
        folder = self.folder
        try:
            seal = json.loads((folder / _SEAL_FILE).read_bytes())
            if set(os.listdir(folder)) != {_SEAL_FILE, *seal} or not all(
                sha256_file(folder / name) == digest for name, digest in seal.items()
            ):
                raise ValueError("its files are not those that were sealed")
            for path in (folder, *folder.iterdir()):
                _check_owner(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.warning("optimised network %s is not used: %s", folder, error)
            return None
        return folder

    def keep(self, make: Callable[[Path], None]) -> Path | None:
        """Have `make` write GRAPH_FILE and WEIGHTS_FILE into a folder, and keep that.

        None where it fails, whatever the reason; nothing is left behind then.
        """
        draft = None
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.directory))
            make(draft)
            seal = {path.name: sha256_file(path) for path in draft.iterdir()}
            (draft / _SEAL_FILE).write_text(json.dumps(seal), encoding="ascii")
            for path in draft.iterdir():
                path.chmod(path.stat().st_mode & ~_OTHERS_WRITE)
            if self.find() is None:
                self._remove()
                draft.rename(self.folder)
        except Exception as error:  # the runtime's exceptions share no base class of their own
            if self.find() is None:  # else another process was faster
                log.warning("optimised network %s cannot be kept: %s", self.folder, error)
                return None
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)
        return self.folder

    def discard(self, reason: object) -> None:
        """It was found and is of no use: told, and removed where that is allowed."""
        log.warning("optimised network %s is not used: %s", self.folder, reason)
        with suppress(OSError):
            self._remove()

    def _remove(self) -> None:
        """Processes that have it open keep what they have."""
        if self.folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=".dropped-", dir=self.directory))
            self.folder.rename(aside / self.folder.name)
            shutil.rmtree(aside, ignore_errors=True)


def _check_owner(path: Path) -> None:
    """In a directory that all may write to, another user could have put it there."""
    if not hasattr(os, "geteuid"):  # pragma: no cover  # where files have no owners of this kind
        return
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & _OTHERS_WRITE:
        raise ValueError("it is, or could have been, written by another user")
