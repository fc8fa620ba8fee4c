"""Model folders, believed only after they kept their promise.

`models/<name>/<version>/`, the version a positive integer. A folder is loaded when its files have
the hashes of its manifest, the network has the contract's input and outputs, the outputs on the
golden inputs are those of the trainer (the same labels, logits within TOLERANCE), and the detector
head, where the score is one, fits the network. Knows nothing of requests; knows the runtime through
`service.session` only.
"""

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service import manifest as contract
from service.errors import ModelRefused, ModelUnknown, SettingsRefused
from service.manifest import Manifest, read_manifest, sha256_file
from service.scores import Head
from service.session import Provider, Session, SessionError

TOLERANCE = 1e-3  # of logits, absolute; of features, absolute and relative

log = logging.getLogger(__name__)

_READ = (contract.MODEL_FILE, contract.GOLDEN_FILE, contract.DETECTOR_FILE)
_VERSION = re.compile(r"[1-9][0-9]*")


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


class Catalogue:
    """Loaded models by name and version; which one answers where the request does not say."""

    def __init__(self, models: list[Model], default_model: str | None = None) -> None:
        """`models` is not empty; `default_model` is NAME, or NAME/VERSION to serve an older one.

        Raises:
            SettingsRefused: `default_model` is none of them.
        """
        self._models: dict[str, dict[int, Model]] = {}
        for model in sorted(models, key=lambda model: (model.name, model.version)):
            self._models.setdefault(model.name, {})[model.version] = model
        name, slash, version = (default_model or next(iter(self._models))).partition("/")
        self._default = name
        self._pinned = int(version) if _VERSION.fullmatch(version) else None
        known = self._models.get(name, {})
        if not known or (slash and self._pinned not in known):
            loaded = (f"{model.name}/{model.version}" for model in self)
            raise SettingsRefused(
                f"default model {default_model!r} is not loaded", f"loaded: {', '.join(loaded)}"
            )

    def __iter__(self) -> Iterator[Model]:
        for versions in self._models.values():
            yield from versions.values()

    @property
    def default(self) -> Model:
        """What answers where nothing is said."""
        return self.find()

    def find(self, name: str | None = None, version: int | None = None) -> Model:
        """The model of that name (or the default's) and version.

        Where none is said, the default's own version if it was named, else the newest by number.

        Raises:
            ModelUnknown: nothing like it is loaded.
        """
        name = self._default if name is None else name
        versions = self._models.get(name, {})
        if version is None:
            pinned = self._pinned if name == self._default else None
            version = pinned or max(versions, default=None)
        model = versions.get(version or 0)
        if model is None:
            loaded = tuple(f"{model.name} version {model.version}" for model in self)
            raise ModelUnknown(name, version, loaded)
        return model


def load_catalogue(
    directory: Path, *, provider: Provider, threads: int | None, default_model: str | None
) -> Catalogue:
    """Load every model folder of the directory.

    Raises:
        ModelRefused: there is none, or one is not what its manifest says.
        ProviderAbsent: CUDA was asked for and cannot be had.
        SettingsRefused: the default model is not there.
    """
    models = [load_model(path, provider=provider, threads=threads) for path in folders(directory)]
    return Catalogue(models, default_model)


def folders(directory: Path) -> list[Path]:
    """Model folders in the order of name and version number; other entries are passed over.

    Raises:
        ModelRefused: the directory is missing or holds no model folder.
    """
    if not directory.is_dir():
        raise ModelRefused(
            directory.absolute(),
            "there is no such directory",
            "name the right one with --models or PARALLAX_MODELS",
        )
    found = [
        version
        for name in sorted(directory.iterdir())
        if name.is_dir()
        for version in name.iterdir()
        if version.is_dir() and _VERSION.fullmatch(version.name)
    ]
    if not found:
        raise ModelRefused(
            directory, "it holds no <name>/<version>/ folder", "versions are named 1, 2, 3 ..."
        )
    return sorted(found, key=lambda path: (path.parent.name, int(path.name)))


def load_model(folder: Path, *, provider: Provider, threads: int | None = None) -> Model:
    """Verify one folder and make it ready to run; an int8 network runs on the CPU.

    Raises:
        ModelRefused: with the first reason found.
        ProviderAbsent: CUDA was asked for and cannot be had.
    """
    manifest = read_manifest(folder)
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise ModelRefused(folder, f"it says it is {manifest.name}/{manifest.version}")
    if manifest.precision == "int8":
        if provider == "cuda":
            raise ModelRefused(
                folder, "its network is int8, which is for the CPU", "ask for auto or cpu"
            )
        provider = "cpu"
    files = _verified_files(folder, manifest)
    golden = _read_golden(folder, manifest, files[contract.GOLDEN_FILE])
    head = None
    if manifest.decision.score == "head":
        features = sum(golden[name].shape[-1] for name in contract.FEATURES)
        inputs = features + len(contract.LOGITS) * len(manifest.labels)
        head = _read_head(folder, files[contract.DETECTOR_FILE], inputs)
    try:
        session = Session(files[contract.MODEL_FILE], provider=provider, threads=threads)
        _check_interface(folder, manifest, session)
        _check_golden(folder, manifest, session, golden)
    except SessionError as error:
        raise ModelRefused(folder, f"{contract.MODEL_FILE} cannot be run: {error}") from error
    what = f"{manifest.name} version {manifest.version}"
    log.info("%s runs on %s with %d threads", what, session.provider, session.threads)
    return Model(manifest, session, head)


def _verified_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The files that are read, the very bytes that were hashed; others are hashed in place."""
    kept: dict[str, bytes] = {}
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            if name in _READ:
                kept[name] = path.read_bytes()
                actual = hashlib.sha256(kept[name]).hexdigest()
            else:
                actual = sha256_file(path)
        except OSError as error:
            raise ModelRefused(folder, f"{name} cannot be read ({error.strerror})") from error
        if actual != entry.sha256:
            raise ModelRefused(
                folder, f"{name} has sha256 {actual[:12]}..., the manifest {entry.sha256[:12]}..."
            )
    return kept


def _check_interface(folder: Path, manifest: Manifest, session: Session) -> None:
    if set(session.outputs) != set(contract.OUTPUTS):
        raise ModelRefused(
            folder,
            f"{contract.MODEL_FILE} has outputs {', '.join(sorted(session.outputs))}; "
            f"the contract has {', '.join(sorted(contract.OUTPUTS))}",
        )
    wanted = (None, *manifest.input.shape)
    if session.inputs != {contract.INPUT: wanted}:
        raise ModelRefused(
            folder,
            f"{contract.MODEL_FILE} takes {_inputs(session.inputs)}; the manifest says "
            f"{_inputs({contract.INPUT: wanted})}",
        )
    if session.input_types[contract.INPUT] != "tensor(float)":
        raise ModelRefused(
            folder,
            f"{contract.MODEL_FILE} takes {session.input_types[contract.INPUT]}; "
            "the contract says tensor(float)",
        )


def _inputs(inputs: Mapping[str, tuple[int | None, ...]]) -> str:
    return ", ".join(
        f"{name} ({', '.join('N' if size is None else str(size) for size in shape)})"
        for name, shape in inputs.items()
    )


def _read_golden(folder: Path, manifest: Manifest, data: bytes) -> dict[str, NDArray[np.float32]]:
    """The arrays of golden.npz, with the shapes that the contract gives them."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            golden = {name: np.asarray(file[name]) for name in (contract.INPUT, *contract.OUTPUTS)}
    except KeyError as error:
        raise ModelRefused(folder, f"{contract.GOLDEN_FILE} lacks an array: {error}") from error
    except Exception as error:  # numpy and zipfile raise whatever the bytes provoke
        raise ModelRefused(folder, f"{contract.GOLDEN_FILE} cannot be read") from error
    for name, array in golden.items():
        if array.dtype != np.float32:
            raise ModelRefused(
                folder, f"{contract.GOLDEN_FILE} {name} is {array.dtype}, not float32"
            )
    image = golden[contract.INPUT]
    expected = (len(image) if image.ndim else 0, *manifest.input.shape)
    if image.shape != expected or not len(image):
        raise ModelRefused(
            folder,
            f"{contract.GOLDEN_FILE} image is {image.shape}, "
            f"expected {('n', *manifest.input.shape)}",
        )
    return golden


def _read_head(folder: Path, data: bytes, inputs: int) -> Head:
    """The detector head, with the shapes that `service.scores.Head` gives its weights."""

    def refused(reason: str) -> ModelRefused:
        return ModelRefused(folder, f"{contract.DETECTOR_FILE} {reason}")

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # numpy and zipfile raise whatever the bytes provoke
        raise refused("cannot be read") from error
    names = {field.name for field in fields(Head)}
    if arrays.keys() != names:
        raise refused(f"holds {', '.join(sorted(arrays))}; a head is {', '.join(sorted(names))}")
    units = arrays["hidden_bias"].size
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("mean", "scale"), (inputs,)),
        "hidden_weight": (units, inputs),
        **dict.fromkeys(("hidden_bias", "output_weight"), (units,)),
        "output_bias": (),
    }
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise refused(f"{name} is {array.shape}, expected {shapes[name]}")
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise refused(f"{name} holds what is no finite number")
    if not (arrays["scale"] > 0).all():
        raise refused("scale is not above 0")
    bias = float(arrays.pop("output_bias"))
    return Head(**arrays, output_bias=bias)


def _check_golden(
    folder: Path, manifest: Manifest, session: Session, golden: Mapping[str, NDArray[np.float32]]
) -> None:
    answers = session.run(contract.INPUT, golden[contract.INPUT], contract.OUTPUTS)
    n, classes = len(golden[contract.INPUT]), len(manifest.labels)
    for name in contract.OUTPUTS:
        got, want = answers[name], golden[name]
        if name in contract.LOGITS and got.shape != (n, classes):
            raise ModelRefused(folder, f"{name} is {got.shape}, expected {(n, classes)}")
        if got.shape != want.shape:
            raise ModelRefused(folder, f"golden {name} is {want.shape}, the model's {got.shape}")
        relative = 0.0 if name in contract.LOGITS else TOLERANCE
        if not np.allclose(got, want, rtol=relative, atol=TOLERANCE):  # NaN is never close
            worst = float(np.abs(got - want).max())
            raise ModelRefused(folder, f"{name} is off the golden values by {worst:.2g}")
        if name in contract.LOGITS and (got.argmax(axis=1) != want.argmax(axis=1)).any():
            raise ModelRefused(folder, f"{name} gives other labels than the golden values")
