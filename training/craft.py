"""The stage `attack`: natural images and their attacked twins as PNG files, for anyone to try.

Writes `natural/00000.png`, `attacked/00000.png` and so on, and `labels.csv` with what was done and
what each way says of the very pixels in the files. It picks no image by its outcome: attacks that
failed are among them.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from training import metrics, predict
from training.attacks.setting import AttackSetting
from training.config import ConfigError, Way
from training.data import to_float
from training.files import new_folder
from training.predict import WAYS, Answers
from training.subject import Subject

LABELS_FILE = "labels.csv"

COLUMNS = (
    "file",  # relative to the folder
    "kind",  # natural or attacked
    "index",  # in the split
    "label",
    "class_name",
    "attacked_way",  # this and the next four are empty for natural images
    "norm",
    "eps",
    "step_size",
    "steps",
    *WAYS,  # what each way says, as a label; empty for a way that the method does not train
    "flagged",  # Eq. 12, 1 or 0
    "score",
)


@dataclass(frozen=True, kw_only=True)
class Craft:
    """One attack on one way; seed and batch size fix the random starts."""

    attack: AttackSetting
    way: Way = "standard"
    seed: int = 0
    batch_size: int = 250

    def __call__(self, subject: Subject, folder: Path, console: Console) -> int:
        """Fill `folder`, which must be new or empty; returns how many attacks fooled their way.

        Raises:
            ConfigError: the method did not train the way to attack.
            OutputError: the folder holds something already or cannot be written.
        """
        if self.way not in subject.ways:
            raise ConfigError(
                f"the {self.way} way of this model is untrained (method "
                f"{subject.header.config.method}); attack {' or '.join(subject.ways)}"
            )
        with new_folder(folder) as draft, predict.examined(subject.model):
            (draft / "natural").mkdir()
            (draft / "attacked").mkdir()
            rows, fooled = self._fill(subject, draft, console)
            with (draft / LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        return fooled

    def _fill(
        self, subject: Subject, folder: Path, console: Console
    ) -> tuple[list[dict[str, Any]], int]:
        """Write the images; returns the rows, natural ones first, and how many were fooled."""
        threat = self.attack.pgd().threat
        natural: list[dict[str, Any]] = []
        attacked: list[dict[str, Any]] = []
        made = {
            "attacked_way": self.way,
            "norm": self.attack.norm,
            "eps": self.attack.eps,
            "step_size": self.attack.step_size,
            "steps": self.attack.steps,
        }
        for position, batch in track(
            predict.batches(subject.images, self.batch_size, subject.device),
            description=f"{self.attack.name} on the {self.way} way",
            total=math.ceil(len(subject.images) / self.batch_size),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            adversarial = predict.attacked(
                subject.model,
                self.way,
                self.attack.pgd(),
                batch,
                seed=self.seed,
                position=position,
            )
            natural += _rows(subject, folder, "natural", position, batch.pixels, {})
            attacked += _rows(
                subject,
                folder,
                "attacked",
                position,
                threat.rounded(batch.pixels, adversarial),
                made,
            )
        fooled = sum(row[self.way] != row["label"] for row in attacked)
        return natural + attacked, fooled


def _rows(
    subject: Subject, folder: Path, kind: str, start: int, pixels: Tensor, made: dict[str, Any]
) -> list[dict[str, Any]]:
    """Write a batch of images and describe each."""
    said = _said(predict.answer(subject.model, to_float(pixels), subject.ways))
    rows = []
    for offset, levels in enumerate(pixels.cpu().numpy()):
        number = start + offset
        file = f"{kind}/{number:05d}.png"
        _write_png(folder / file, levels)
        label = int(subject.images.label[number])
        rows.append(
            {
                "file": file,
                "kind": kind,
                "index": subject.index[number],
                "label": label,
                "class_name": subject.images.classes[label],
                **made,
                **{column: values[offset] for column, values in said.items()},
            }
        )
    return rows


def _said(answers: Answers) -> dict[str, list[Any]]:
    """The last columns, one value an image."""
    named = {way: logits.argmax(axis=1) for way, logits in answers.items()}
    said: dict[str, list[Any]] = {way: labels.tolist() for way, labels in named.items()}
    if len(named) == len(WAYS):
        said["flagged"] = metrics.flagged(named["robust"], named["nonrobust"]).astype(int).tolist()
        scores = metrics.score(answers["robust"], answers["nonrobust"])
        said["score"] = [f"{score:.6f}" for score in scores]
    return said


def _write_png(path: Path, levels: np.ndarray) -> None:
    """uint8 (1, H, W) as mode L, (3, H, W) as RGB."""
    Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(path)
