"""Model folders, believed only after they kept their promise.

`models/<name>/<version>/`, the version a positive integer. A folder is loaded when its files have
the hashes of its manifest, the network has the contract's input and outputs, the outputs on the
golden inputs are those of the trainer, and the detector head, where the score is one, fits the
network. Knows nothing of requests; knows the runtime through `service.session` only.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from service import manifest as contract
from service.catalogue import Model
from service.errors import ModelRefused
from service.golden import check_golden, read_golden
from service.graph_cache import KeptGraph, processor
from service.head import read_head
from service.manifest import Manifest, read_manifest, sha256_file, version_number
from service.session import RUNTIME_VERSION, Arrays, Provider, Session, SessionError
from service.settings import Settings

log = logging.getLogger(__name__)

_READ = (contract.MODEL_FILE, contract.GOLDEN_FILE, contract.DETECTOR_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How folders become models. Versions with the same network share a session.

    `cache` is where optimised networks are kept, `max_batch` up to which size a session is warmed
    (0 not at all), `sessions` those that are there, by the network's sha256.
    """

    provider: Provider
    threads: int | None = None
    cache: Path | None = None
    cuda_graphs: bool = False
    max_batch: int = 0
    sessions: dict[str, Session] = field(default_factory=dict)

    def load(self, folder: Path, known: Model | None = None) -> Model:
        """Verify one folder and make it ready to run; `known` where the folder still holds that.

        An int8 network runs on the CPU, whatever `auto` would take.

        Raises:
            ModelRefused: with the first reason found.
            ProviderAbsent: CUDA was asked for and cannot be had.
        """
        manifest = read_manifest(folder)
        if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
            raise ModelRefused(folder, f"it says it is {manifest.name}/{manifest.version}")
        if known is not None and known.manifest == manifest:
            _verified_files(folder, manifest, ())
            return known
        files = _verified_files(folder, manifest, _READ)
        golden = read_golden(folder, manifest, files[contract.GOLDEN_FILE])
        head = None
        if manifest.decision.score == "head":
            features = sum(golden[name].shape[-1] for name in contract.FEATURES)
            inputs = features + len(contract.LOGITS) * len(manifest.labels)
            head = read_head(folder, files[contract.DETECTOR_FILE], inputs)
        try:
            loader = self._for(folder, manifest)
            session = loader._session(folder, manifest, files[contract.MODEL_FILE], golden)
        except SessionError as error:
            raise ModelRefused(folder, f"{contract.MODEL_FILE} cannot be run: {error}") from error
        what = f"{manifest.name} version {manifest.version}"
        log.info("%s runs on %s, threads %d", what, session.provider, session.threads)
        return Model(manifest, session, head)

    def _for(self, folder: Path, manifest: Manifest) -> "Loader":
        """What loads this network: integers are for the CPU."""
        if manifest.precision != "int8":
            return self
        if self.provider == "cuda":
            reason = "its network is int8, which is for the CPU"
            raise ModelRefused(folder, reason, "ask for auto or cpu")
        return replace(self, provider="cpu", cuda_graphs=False)

    def _session(self, folder: Path, manifest: Manifest, network: bytes, golden: Arrays) -> Session:
        """The session that others with this network use, or a new one; checked and warm."""
        digest = manifest.files[contract.MODEL_FILE].sha256
        if digest in self.sessions:
            _check(folder, manifest, self.sessions[digest], golden)
            return self.sessions[digest]
        kept = self._kept(digest)
        session = self._open(network, kept)
        try:
            _check(folder, manifest, session, golden)
        except (ModelRefused, SessionError) as error:
            if kept is None or not session.from_cache:
                raise
            kept.discard(error)
            session = self._open(network, None)
            _check(folder, manifest, session, golden)
        if self.max_batch:
            session.warm_up(contract.INPUT, manifest.input.shape, self.max_batch)
        self.sessions[digest] = session
        return session

    def _open(self, network: bytes, kept: KeptGraph | None) -> Session:
        return Session(
            network,
            provider=self.provider,
            threads=self.threads,
            kept=kept,
            cuda_graphs=self.cuda_graphs,
        )

    def _kept(self, digest: str) -> KeptGraph | None:
        if self.cache is None:
            return None
        parts = {"model": digest, "runtime": RUNTIME_VERSION, "processor": processor()}
        return KeptGraph(self.cache, parts)


def loader_of(settings: Settings, *, max_batch: int = 0) -> Loader:
    """A loader as an operator wants it."""
    return Loader(
        provider=settings.provider,
        threads=settings.threads,
        cache=settings.cache,
        cuda_graphs=settings.cuda_graphs,
        max_batch=max_batch,
    )


def load_model(folder: Path, *, provider: Provider, threads: int | None = None) -> Model:
    """`Loader.load` of one folder alone."""
    return Loader(provider=provider, threads=threads).load(folder)


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
    try:
        found = [
            version
            for name in sorted(directory.iterdir())
            if name.is_dir()
            for version in name.iterdir()
            if version.is_dir() and version_number(version.name)
        ]
    except OSError as error:
        raise ModelRefused(directory, f"it cannot be read ({error.strerror})") from error
    if not found:
        raise ModelRefused(
            directory, "it holds no <name>/<version>/ folder", "versions are named 1, 2, 3 ..."
        )
    return sorted(found, key=lambda path: (path.parent.name, int(path.name)))


def _verified_files(folder: Path, manifest: Manifest, read: Collection[str]) -> dict[str, bytes]:
    """The files to `read`, the very bytes that were hashed; others are hashed in place."""
    kept: dict[str, bytes] = {}
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            if name in read:
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


def _check(folder: Path, manifest: Manifest, session: Session, golden: Arrays) -> None:
    _check_interface(folder, manifest, session)
    check_golden(folder, manifest, session, golden)


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
