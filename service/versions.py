"""A new version of a model folder beside an old one: the same files, another manifest.

Knows files and the contract; not why there is a new version.
"""

import os
import shutil
from pathlib import Path

from service.errors import VersionUnwritable
from service.manifest import Manifest, write_manifest


def write_version(folder: Path, manifest: Manifest) -> Path:
    """A folder beside `folder` with its files and the manifest, numbered after the highest there.

    Files are hard links where the file system has them. The folder appears whole or not at all.

    Raises:
        VersionUnwritable: with the reason; nothing is left behind.
    """
    versions = [int(path.name) for path in folder.parent.iterdir() if path.name.isdecimal()]
    version = max(versions) + 1
    target = folder.parent / str(version)
    draft = folder.parent / f".{version}.{os.getpid()}"
    try:
        draft.mkdir()
        for name in manifest.files:
            _link(folder / name, draft / name)
        write_manifest(manifest.model_copy(update={"version": version}), draft)
        draft.rename(target)  # fails where somebody else was faster
    except OSError as error:
        raise VersionUnwritable(target, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
