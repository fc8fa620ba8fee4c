"""What `evaluation.json` holds: every figure, and all that is needed to get it again.

Plain JSON types from a subject and what its ways answered. Neither asks a model nor writes a file.
"""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from training.answers import INPUTS, Answered
from training.attacks.setting import AttackSetting
from training.checkpoint import current_commit
from training.figures import Figures, measure
from training.subject import Subject

STEM = "evaluation"  # of the files that the stage leaves
JSON_FILE = f"{STEM}.json"

_FORMAT = 1
_NOTES = (
    "Attacks are PGD with one random start, against the true label; the last iterate counts. They "
    "do not know of the detector, and an attacker who does can do better.",
    "An attack on the standard way is successful where that way is wrong on the attacked image.",
    "Rounding to 8 bits keeps an attacked image within its eps.",
    "Thresholds of the score, and the detection at them, are read off the very natural images that "
    "are measured: what the score could do, not a rate that is promised.",
    "ECE is the expected calibration error of the softmax of the logits as they are, in 15 bins of "
    "equal width. Under an attack it is that of images made to be named wrongly.",
)
_MIXED = "The answers were computed in more than one place; `made_by` in the JSON says where."

Made = Mapping[str, Any]


def maker(device: torch.device) -> Made:
    """Which code, libraries and device are answering here."""
    return {
        "commit": current_commit(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
    }


def build(
    subject: Subject,
    answered: Answered,
    makers: Sequence[Made],
    *,
    attacks: Sequence[AttackSetting],
    dataset: str | None,
    seed: int,
    batch_size: int,
    seconds: float,
) -> dict[str, Any]:
    """The whole document; shares are in [0, 1].

    `makers` are those of the batches, one each, and `seconds` is what all batches took together.
    `results` has two entries an attack: images rounded to 8 bits first, as they travel, then as
    the attack left them. Each maps every name of `figures.NAMES` to a number, or to null with the
    reason under `absent`.
    """
    made_by = _counted(makers)
    return {
        "format": _FORMAT,
        **_identity(subject, dataset),
        "notes": [*_NOTES, *_unfinished(subject), *([_MIXED] if len(made_by) > 1 else [])],
        "attacks": [attack.name for attack in attacks],
        "seed": seed,
        "batch_size": batch_size,
        "commit": current_commit(),
        "torch": torch.__version__,
        "device": ", ".join(dict.fromkeys(made["device"] for made in made_by)),
        "made_by": made_by,
        "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "seconds": round(seconds, 1),
        "results": [
            _result(
                attack,
                inputs,
                measure(
                    answered.label,
                    answered.natural,
                    answered.attacked(attack.name, inputs),
                    method=subject.header.config.method,
                ),
            )
            for attack in attacks
            for inputs in INPUTS
        ],
    }


def _counted(makers: Sequence[Made]) -> list[dict[str, Any]]:
    """Each maker once, with the number of its batches."""
    found: list[dict[str, Any]] = []
    for made in makers:
        same = next((one for one in found if one == {**made, "batches": one["batches"]}), None)
        if same is None:
            found.append({**made, "batches": 1})
        else:
            same["batches"] += 1
    return found


def _identity(subject: Subject, dataset: str | None) -> dict[str, Any]:
    """Which weights were examined on which images."""
    header, config = subject.header, subject.header.config
    return {
        "dataset": dataset or subject.dataset,
        "split": subject.split,
        "n_images": len(subject.images),
        "weights_sha256": header.weights_sha256,
        "model": {
            "name": config.name,
            "method": config.method,
            "loss": dataclasses.asdict(config.loss),
            "backbone": config.model.backbone,
            "norm": config.attack.norm,
            "eps": config.attack.eps,
            "seed": config.seed,
            "step": header.step,
            "steps": header.steps_per_epoch * config.optimizer.epochs,
            "commit": header.commit,
        },
        "data": {
            "source": subject.source,
            "split_seed": config.data.split_seed,
            "available": subject.available,
            "sha256": subject.images.digest(),
            "index": subject.drawn,  # null: all of the split
        },
    }


def _unfinished(subject: Subject) -> list[str]:
    header = subject.header
    if header.config.keep == "best":
        return ["Of all epochs the one that withstood most of an attack on validation images."]
    if header.finished:
        return []
    return ["The model was evaluated before its training had finished."]


def _result(attack: AttackSetting, inputs: str, found: Figures) -> dict[str, Any]:
    """One attack and one kind of input, every figure under its flat name."""
    return {
        "attack": {"name": attack.name, **vars(attack), "random_start": True},
        "inputs": inputs,
        "metrics": {name: figure.value for name, figure in found.items()},
        "intervals": {
            name: list(figure.interval) for name, figure in found.items() if figure.interval
        },
        "counts": {
            name: figure.count for name, figure in found.items() if figure.count is not None
        },
        "absent": {name: figure.absent for name, figure in found.items() if figure.absent},
    }
