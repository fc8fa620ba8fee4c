"""All that an evaluation was answered, as named arrays: the content of `answers.npz`.

`label` and `index` (N,) say which images of the split were asked about. `natural/WAY` are float32
logits (N, classes), and so are `ATTACK/ATTACKED WAY/rounded or float/ANSWERING WAY`. An attack's
name may hold slashes of its own (`linf:8/255:2/255:20`): names are read from the right. Knows no
model and no figures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training import arrays
from training.arrays import Arrays
from training.config import Way
from training.data import DataError
from training.metrics import Labels
from training.predict import WAYS, Answers

Inputs = Literal["rounded", "float"]  # the attacked images in 8 bits, and as the attack left them
INPUTS: tuple[Inputs, ...] = ("rounded", "float")


def natural_name(answering: Way) -> str:
    return f"natural/{answering}"


def attacked_name(attack: str, attacked: Way, inputs: Inputs, answering: Way) -> str:
    return f"{attack}/{attacked}/{inputs}/{answering}"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Arrays by the names above; ways that the model's method does not train are missing."""

    arrays: Arrays

    @property
    def label(self) -> Labels:
        return self.arrays["label"]

    @property
    def index(self) -> Labels:
        return self.arrays["index"]

    @property
    def ways(self) -> list[Way]:
        return [way for way in WAYS if natural_name(way) in self.arrays]

    @property
    def natural(self) -> Answers:
        return {way: self.arrays[natural_name(way)] for way in self.ways}

    def attacked(self, attack: str, inputs: Inputs) -> dict[Way, Answers]:
        """By the way that was attacked, what each way says."""
        return {
            attacked: {
                way: self.arrays[attacked_name(attack, attacked, inputs, way)] for way in self.ways
            }
            for attacked in self.ways
        }


def save(path: Path, answered: Answered) -> Path:
    """Write `path`, replacing an older one in one move; the same answers give the same bytes.

    Raises:
        OutputError: the place cannot be written to.
    """
    arrays.write(path, answered.arrays)
    return path


def load(path: Path) -> Answered:
    """Read back what `save` wrote.

    Raises:
        DataError: it is missing, damaged, or holds no answers.
    """
    try:
        found = arrays.read(path)
    except arrays.UNREADABLE as error:
        raise DataError(f"cannot read answers from {path}") from error
    if not {"label", "index"} <= found.keys():
        raise DataError(f"{path} holds no answers of an evaluation")
    return Answered(arrays=found)
