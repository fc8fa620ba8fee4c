"""A run in one safetensors file: weights, average, optimiser, progress and provenance.

Rounded weights are read back from a model folder's ONNX file too. Randomness is not stored: each
step's is derived from the seed and the step. Writing is atomic, so a crash leaves the previous
checkpoint whole. Knows the model's shape and its config, not the loop.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic.dataclasses
import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from training import backbones, graph
from training.config import Config, PositiveInt, faults, from_dict
from training.data import Images
from training.errors import TrainingError
from training.files import write_bytes
from training.graph import GraphError
from training.three_way import ThreeWayModel

RUN_FILE = "checkpoint.safetensors"  # of a run's folder: what it goes on from
BEST_FILE = "best.safetensors"  # beside it, where the config keeps the best: weights to use
WEIGHTS_FILE = "weights.safetensors"  # of a model folder, and of rounded weights
GRAPH_FILE = "model.onnx"  # of a model folder whose weights are rounded: it holds them itself
AVERAGED = "averaged."  # begins the names of weights to use, in either kind of file

_KEY = "parallax"  # one JSON document in the file's metadata
_FORMAT = 1
_CLOSED = ConfigDict(extra="forbid")

Count = Annotated[int, Field(ge=0)]


class CheckpointError(TrainingError):
    """The file is not a checkpoint of ours, or not of this experiment."""


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CLOSED)
class ImageShape:
    channels: PositiveInt
    height: PositiveInt
    width: PositiveInt


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CLOSED)
class Header:
    """What a checkpoint says of itself. `seconds` is the time trained so far.

    `commit` is that of the code that went on last, `earlier` names those before it.
    """

    config: Config
    shape: ImageShape
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    step: Count
    steps_per_epoch: PositiveInt
    seconds: float
    commit: str
    data_sha256: str
    weights_sha256: str
    device: str
    torch: str
    earlier: tuple[str, ...] = ()  # "COMMIT to step N", where a run went on under other code
    rounded_from: str | None = None  # `weights_sha256` before `round`

    @property
    def finished(self) -> bool:
        return self.step >= self.steps_per_epoch * self.config.optimizer.epochs

    @property
    def rounded(self) -> bool:
        """Whether these are weights in half precision."""
        return self.rounded_from is not None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`model` holds the weights of the last step, `averaged` those to use (EMA where kept).

    Rounded weights are float16 as they are stored; a model computes with them in float32.
    """

    header: Header
    model: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def build_model(config: Config, shape: ImageShape, classes: int) -> ThreeWayModel:
    """A fresh three-way model; its weights follow torch's global seed."""
    options = {"channels": shape.channels, "height": shape.height, "width": shape.width}
    robust, nonrobust = (backbones.build(config.model, **options) for _ in range(2))
    return ThreeWayModel(
        robust.network, nonrobust.network, features=robust.features, classes=classes
    )


def shape_of(images: Images) -> ImageShape:
    _, channels, height, width = images.pixels.shape
    return ImageShape(channels=channels, height=height, width=width)


def weights_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names and values in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(weights):
        state.update(name.encode())
        state.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def state_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of what only resuming needs."""
    model, optimizer = weights_digest(checkpoint.model), weights_digest(checkpoint.optimizer)
    return hashlib.sha256(f"{model} {optimizer}".encode()).hexdigest()


def current_commit() -> str:
    """Commit of the code that runs, with `+changes` where it differs; `unknown` outside git."""
    here = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", ".", ":!*.md"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + "+changes" * bool(changes)


def short(commit: str) -> str:
    """The first twelve digits, and the mark of changed files where there is one."""
    digits, plus, mark = commit.partition("+")
    return digits[:12] + plus + mark


def flatten_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Optimiser state by `parameter/slot`, so that it fits a flat file of tensors."""
    names = [name for name, _ in model.named_parameters()]
    return {
        f"{names[index]}/{slot}": torch.as_tensor(value)
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, flat: dict[str, Tensor]
) -> None:
    """The inverse of `flatten_optimizer`, for a fresh optimiser over the same parameters."""
    index = {name: position for position, (name, _) in enumerate(model.named_parameters())}
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        name, _, slot = key.rpartition("/")
        slots.setdefault(index[name], {})[slot] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def of(place: Path) -> Path:
    """The checkpoint to use: a file as it is; of a run's folder the best where it keeps one.

    Of a model folder the weights, which lie in the graph where they are rounded.
    """
    if not place.is_dir():
        return place
    files = (place / name for name in (BEST_FILE, RUN_FILE, WEIGHTS_FILE, GRAPH_FILE))
    return next((file for file in files if file.exists()), place / RUN_FILE)


def describe(checkpoint: Checkpoint) -> str:
    """The JSON document that travels in the file with the tensors."""
    header = checkpoint.header
    document = {
        "format": _FORMAT,
        "state_sha256": state_digest(checkpoint),
        **vars(header),
        "config": header.config.as_dict(),
        "shape": vars(header.shape),
    }
    return json.dumps(document)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file and rename it into place.

    Raises:
        OutputError: the place cannot be written to; an older checkpoint there is still whole.
    """
    groups = {
        "model": checkpoint.model,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
    }
    tensors = {
        f"{group}.{name}": tensor.detach().cpu().contiguous().clone()
        for group, content in groups.items()
        for name, tensor in content.items()
    }
    write_bytes(path, serialize(tensors, metadata={_KEY: describe(checkpoint)}))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        CheckpointError: missing, damaged, of another format, or its weights do not match its hash.
    """
    text, tensors = _read_graph(path) if path.suffix == ".onnx" else _read(path)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "optimizer": {}}
    try:
        document: dict[str, Any] = json.loads(text)
        if document.pop("format", None) != _FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of format {_FORMAT}")
        state = document.pop("state_sha256", None)  # which older files do not have
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        document["config"] = from_dict(document["config"])
        header = TypeAdapter(Header).validate_python(document)
    except CheckpointError:
        raise
    except ValidationError as error:
        raise CheckpointError(f"{path}: the header is damaged: {faults(error)}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the header is damaged: {error}") from error
    checkpoint = Checkpoint(header=header, **groups)
    if weights_digest(checkpoint.averaged) != checkpoint.header.weights_sha256:
        raise CheckpointError(f"{path}: the weights do not match their hash")
    if state is not None and state != state_digest(checkpoint):
        raise CheckpointError(f"{path}: what a run goes on from does not match its hash")
    return checkpoint


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    return text, tensors


def _read_graph(path: Path) -> tuple[str, dict[str, Tensor]]:
    try:
        text, tensors = graph.read(path, AVERAGED)
    except GraphError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    if not text:
        raise CheckpointError(f"{path} holds no weights for torch; look for {WEIGHTS_FILE}")
    return text, tensors


def load_model(path: Path, device: torch.device) -> tuple[ThreeWayModel, Header]:
    """The model to use (averaged weights) in eval mode, and where it came from."""
    checkpoint = load(path)
    return model_of(checkpoint).to(device), checkpoint.header


def model_of(checkpoint: Checkpoint) -> ThreeWayModel:
    """The model to use, built from what was read, in eval mode on the CPU.

    Raises:
        CheckpointError: the weights are those of another network.
    """
    header = checkpoint.header
    model = build_model(header.config, header.shape, len(header.classes))
    try:
        model.load_state_dict(checkpoint.averaged)
    except RuntimeError as error:
        raise CheckpointError("the weights do not fit the network that the config names") from error
    return model.eval()


def weights_only(checkpoint: Checkpoint) -> Checkpoint:
    """The same without what only resuming needs: small enough to ship beside the model."""
    return Checkpoint(
        header=checkpoint.header, model={}, averaged=checkpoint.averaged, optimizer={}
    )
