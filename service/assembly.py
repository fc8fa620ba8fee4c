"""A directory of model folders to a catalogue: what is loaded, what answers, what is left out.

At the start the first fault is raised and nothing is served. At a reload, which has a catalogue to
fall back on, a fault is noted and what it stands in for goes on as before. In everything else both
follow the same rules, so that a reload ends where a start would. Knows folders and models; neither
lanes nor when it is time to look again.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from service.active import read_active
from service.catalogue import Catalogue, LeftOut, Model, split_default
from service.errors import ModelRefused, StartupError
from service.manifest import MANIFEST_FILE, MODEL_FILE
from service.memory import hand_back
from service.repository import Loader, folders

Fits = Callable[[Model], None]  # raises SettingsRefused where a model may not answer by default

log = logging.getLogger(__name__)


def load_catalogue(directory: Path, loader: Loader, *, default_model: str | None) -> Catalogue:
    """Every model folder of the directory, at the start.

    Raises:
        ModelRefused: there is none, or one is not what its manifest says, or the active version of
            a name is not there.
        ProviderAbsent: CUDA was asked for and cannot be had.
        SettingsRefused: the default model is not there.
    """
    return _Assembly(directory, loader, default_model).catalogue()


def reload_catalogue(
    directory: Path, loader: Loader, old: Catalogue, *, default_model: str | None, fits: Fits
) -> Catalogue:
    """The directory as it is now; models that did not change are those of `old`.

    A new version with a network that `old` runs shares its session. A folder without a manifest is
    not yet there. A version whose folder is gone leaves, unless it is the one that is to answer.

    Raises:
        ModelRefused: there is no folder at all, which is a lost directory rather than a wish.
    """
    for model in old:
        loader.sessions.setdefault(model.manifest.files[MODEL_FILE].sha256, model.session)
    return _Assembly(directory, loader, default_model, old, fits).catalogue()


class _Assembly:
    """One catalogue in the making."""

    def __init__(
        self,
        directory: Path,
        loader: Loader,
        default_model: str | None,
        old: Catalogue | None = None,
        fits: Fits = lambda model: None,
    ) -> None:
        self._directory = directory
        self._loader = loader
        self._default_model = default_model
        self._default, self._pinned = split_default(default_model or "")
        self._old = old
        self._fits = fits
        self._models: dict[tuple[str, int], Model] = {}
        self._left_out: list[LeftOut] = []

    def catalogue(self) -> Catalogue:
        for folder in folders(self._directory):
            self._load(folder)
        names = {name for name, _ in self._models}
        if self._old is not None and self._default_model is not None:
            names.add(self._default)
        chosen = {name: self._choose(name) for name in sorted(names)}
        active = {name: version for name, version in chosen.items() if version is not None}
        models = [model for (name, _), model in self._models.items() if name in active]
        if not models:
            raise ModelRefused(self._directory, "no folder in it can be served")
        hand_back()  # what loading took
        return Catalogue(models, self._default_model, active=active, left_out=self._left_out)

    def _load(self, folder: Path) -> None:
        name, version = folder.parent.name, int(folder.name)
        known = self._known(name, version)
        if self._old is not None and not (folder / MANIFEST_FILE).exists():
            log.info("%s has no manifest yet", folder)
            if known is not None:
                self._models[name, version] = known
            return
        try:
            self._models[name, version] = self._loader.load(folder, known)
        except StartupError as error:
            self._refuse(name, version, error)

    def _choose(self, name: str) -> int | None:
        """The version that answers where none is named, or None where the name is left out."""
        for version in self._candidates(name):
            while (model := self._models.get((name, version))) is not None:
                try:
                    self._fits(model)
                except StartupError as error:
                    self._refuse(name, version, error)
                    if self._models.get((name, version)) is model:
                        break
                else:
                    return version
        return None

    def _candidates(self, name: str) -> list[int]:
        """Versions in the order in which they are asked: as wished for, as before, the newest."""
        before = None if self._old is None else self._old.active(name)
        try:
            wanted = self._wanted(name, before)
        except ModelRefused as error:
            self._refuse(name, None, error)
            return [] if before is None else [before]
        newest = sorted((version for of, version in self._models if of == name), reverse=True)
        if wanted is None:
            return newest
        return [wanted, *([] if before is None else [before]), *newest]

    def _wanted(self, name: str, before: int | None) -> int | None:
        """What the operator says: the settings, else the folder; None is the newest.

        Raises:
            ModelRefused: what the folder says is no version, or one that is not there.
        """
        pinned = self._pinned if name == self._default else None
        wanted = read_active(self._directory / name) if pinned is None else pinned
        if wanted is None and any(of == name for of, _ in self._models):
            return None
        wanted = before if wanted is None else wanted  # the default's last folder is gone
        if wanted is None or (name, wanted) in self._models:
            return wanted
        known = self._known(name, wanted)
        if known is not None:
            self._models[name, wanted] = known
            self._note(name, wanted, "its folder is gone, and it is to answer")
        elif pinned is None:  # else the catalogue refuses it in the words of the settings
            raise ModelRefused(
                self._directory / name,
                f"version {wanted} is to answer and is not there",
                f"`parallax models activate {name} newest` takes another",
            )
        return wanted

    def _known(self, name: str, version: int) -> Model | None:
        return None if self._old is None else self._old.get(name, version)

    def _refuse(self, name: str, version: int | None, error: StartupError) -> None:
        """Raise it at the start; else note it, and have the model that was there before go on."""
        if self._old is None:
            raise error
        self._note(name, version, error.reason if isinstance(error, ModelRefused) else str(error))
        if version is not None:
            self._models.pop((name, version), None)
            known = self._known(name, version)
            if known is not None:
                self._models[name, version] = known

    def _note(self, name: str, version: int | None, reason: str) -> None:
        self._left_out.append(LeftOut(name, version, reason))
