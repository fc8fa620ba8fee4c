"""Another version answers: verified first, then written down for the service to heed.

Knows model folders and their `active` file; nothing of a service that may be running.
"""

from pathlib import Path

from service.active import read_active, write_active
from service.errors import ModelRefused, SettingsRefused
from service.repository import Loader, folders


def active_version(directory: Path, name: str) -> int:
    """The version that answers: the one written down, else the newest.

    Raises:
        SettingsRefused: there is no such model.
        ModelRefused: what is written down is no version.
    """
    return read_active(directory / name) or _versions(directory, name)[-1]


def activate(directory: Path, loader: Loader, name: str, version: int | None) -> None:
    """Have this version answer, or the newest for ever where None.

    Raises:
        SettingsRefused: there is no such model or version.
        ModelRefused: the version does not keep its promise.
        VersionUnwritable: it cannot be written down.
    """
    versions = _versions(directory, name)
    if version is not None and version not in versions:
        known = ", ".join(map(str, versions))
        raise SettingsRefused(f"{name} has no version {version}", f"there are {known}")
    loader.load(directory / name / str(version or versions[-1]))
    write_active(directory / name, version)


def rollback(directory: Path, loader: Loader, name: str, to: int | None) -> int:
    """Have an older version answer and return it: `to`, else the next lower that verifies.

    Raises:
        SettingsRefused: there is no such model, or `to` is not below what answers now.
        ModelRefused: `to`, or every lower version, does not keep its promise.
        VersionUnwritable: it cannot be written down.
    """
    present = active_version(directory, name)
    if to is not None:
        if to >= present:
            hint = f"`parallax models activate {name} {to}` takes a newer one"
            raise SettingsRefused(f"version {to} is not below version {present}, the active", hint)
        activate(directory, loader, name, to)
        return to
    refused = None
    for version in reversed(_versions(directory, name)):
        if version >= present:
            continue
        try:
            activate(directory, loader, name, version)
        except ModelRefused as error:
            refused = error
        else:
            return version
    hint = f"`parallax models activate {name} VERSION` takes any that is there"
    below = f"there is no version below {present} to go back to"
    raise ModelRefused(directory / name, below, hint) from refused


def _versions(directory: Path, name: str) -> list[int]:
    """Of a name, rising; there is one at least."""
    versions = [int(path.name) for path in folders(directory) if path.parent.name == name]
    if not versions:
        raise SettingsRefused(
            f"there is no model {name!r}", "`parallax models` lists what is there"
        )
    return versions
