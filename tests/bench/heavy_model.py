"""A model whose arithmetic outweighs all else: two PreAct-ResNet18 for 3x32x32, random weights.

Made once by the project's own export into an ignored folder, and anew where the service would
refuse what lies there. Its figures are zeros: nobody should believe them.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from service.errors import ModelRefused
from service.manifest import read_manifest
from tests.bench import wire
from tests.bench.contestants import HEAVY, OURS, Contestant, Kind, Labels
from training import checkpoint, config, export
from training.checkpoint import Checkpoint, Header, ImageShape

_CLIENTS = 32
_CONFIG = Path(config.__file__).parent / "configs" / "cifar10-paper-preact.toml"
_SHAPE = ImageShape(channels=3, height=32, width=32)
_CLASSES = tuple(f"class {number}" for number in range(10))


def models(place: Path, width: int | None = None) -> Path:
    """The models directory that holds nothing but this model; a minute where it is absent.

    `width` is that of the first layer, the paper's where none is given.
    """
    if not _usable(place / HEAVY / "1"):
        shutil.rmtree(place, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            _export(Path(folder), place, width)
    return place


def contestant(python: Path, place: Path) -> Contestant:
    """The service with this model alone and its own defaults."""
    levels = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noise.png"
        requests = []
        for image in levels:
            Image.fromarray(image).save(file)
            requests.append(wire.png("/detect", file.read_bytes()))
    command = [str(python), "-m", "service.cli", "serve", "--port", "{port}"]
    return Contestant(
        name=OURS,
        model=HEAVY,
        command=(*command, "--models", str(place)),
        kinds=(Kind("PNG", tuple(requests), ((),) * len(requests), _unread, clients=(_CLIENTS,)),),
    )


def _unread(answer: bytes) -> Labels:
    """What random weights say is nobody's expectation."""
    return ()


def _usable(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except ModelRefused:
        return False
    return True


def _export(folder: Path, place: Path, width: int | None) -> None:
    experiment = config.load(_CONFIG)
    experiment = replace(experiment, model=replace(experiment.model, width=width))
    torch.manual_seed(0)
    weights = dict(checkpoint.build_model(experiment, _SHAPE, len(_CLASSES)).state_dict())
    digest = checkpoint.weights_digest(weights)
    header = Header(
        config=experiment,
        shape=_SHAPE,
        classes=_CLASSES,
        step=0,
        steps_per_epoch=1,
        seconds=0.0,
        commit="none: random weights",
        data_sha256="0" * 64,
        weights_sha256=digest,
        device="CPU",
        torch=torch.__version__,
    )
    source, evaluation = folder / "checkpoint.safetensors", folder / "evaluation.json"
    checkpoint.save(source, Checkpoint(header=header, model={}, averaged=weights, optimizer={}))
    evaluation.write_text(json.dumps(_evaluation(experiment, digest)))
    export.export(source, evaluation, place, name=HEAVY, description="random weights, for a bench")


def _evaluation(experiment: config.Config, digest: str) -> dict[str, object]:
    attack = experiment.attack
    return {
        "dataset": "none",
        "split": "test",
        "n_images": 1,
        "weights_sha256": digest,
        "notes": ["Random weights: no figure here means anything."],
        "results": [
            {
                "inputs": "rounded",
                "attack": {"name": "none", "norm": attack.norm, "eps": attack.eps},
                "metrics": dict.fromkeys(export.ESSENTIAL, 0.0),
            }
        ],
    }
