"""The models that are loaded: which answers to a name, a version, or where neither is said.

Where a request names no version, the active one of its model answers: the one that the operator
chose, else the newest. Knows neither files nor how a model is loaded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.errors import ModelUnknown, SettingsRefused
from service.manifest import Manifest, version_number
from service.scores import Head
from service.session import Session


@dataclass(frozen=True, slots=True)
class Model:
    """A verified model folder with its session."""

    manifest: Manifest
    session: Session
    head: Head | None = None  # where the score is `head`

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a reload found and refused; `version` is None where it is not about one."""

    name: str
    version: int | None
    reason: str

    def __str__(self) -> str:
        named = self.name if self.version is None else f"{self.name} version {self.version}"
        return f"{named}: {self.reason}"


class Catalogue:
    """Loaded models by name and version. Never changes; a reload makes another one."""

    def __init__(
        self,
        models: Iterable[Model],
        default_model: str | None = None,
        *,
        active: Mapping[str, int] | None = None,
        left_out: Iterable[LeftOut] = (),
    ) -> None:
        """`models` is not empty, and holds the version that `active` gives to a name.

        `default_model` is NAME, or NAME/VERSION, which stands above `active`. `left_out` is what a
        reload refused.

        Raises:
            SettingsRefused: `default_model` is none of them.
        """
        self._models: dict[str, dict[int, Model]] = {}
        for model in sorted(models, key=lambda model: (model.name, model.version)):
            self._models.setdefault(model.name, {})[model.version] = model
        self._active = {name: max(versions) for name, versions in self._models.items()}
        self._active |= active or {}
        self.left_out = tuple(left_out)
        name, pinned = split_default(default_model or next(iter(self._models)))
        self._default = name
        known = self._models.get(name, {})
        if not known or (pinned is not None and pinned not in known):
            loaded = (f"{model.name}/{model.version}" for model in self)
            raise SettingsRefused(
                f"default model {default_model!r} is not loaded", f"loaded: {', '.join(loaded)}"
            )
        if pinned is not None:
            self._active[name] = pinned

    def __iter__(self) -> Iterator[Model]:
        for versions in self._models.values():
            yield from versions.values()

    @property
    def default(self) -> Model:
        """What answers where nothing is said."""
        return self.find()

    def is_active(self, model: Model) -> bool:
        """Whether it answers where its name is said and no version."""
        return self._models[model.name][self._active[model.name]] is model

    def find(self, name: str | None = None, version: int | None = None) -> Model:
        """The model of that name (or the default's) and version (or the active one).

        Raises:
            ModelUnknown: nothing like it is loaded.
        """
        name = self._default if name is None else name
        versions = self._models.get(name, {})
        wanted = self._active.get(name, 0) if version is None else version
        model = versions.get(wanted)
        if model is None:
            loaded = tuple(f"{model.name} version {model.version}" for model in self)
            raise ModelUnknown(name, version, loaded)
        return model

    def active(self, name: str) -> int | None:
        """The version that answers to a name alone; None where there is no such name."""
        return self._active.get(name)

    def get(self, name: str, version: int) -> Model | None:
        """The same, or None."""
        return self._models.get(name, {}).get(version)


def split_default(text: str) -> tuple[str, int | None]:
    """NAME or NAME/VERSION as a name and the version; one that is no number is 0, which none is."""
    name, slash, version = text.partition("/")
    return name, (version_number(version) or 0) if slash else None
