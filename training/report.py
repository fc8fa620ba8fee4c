"""The stage `report`: the paper's tables and figures beside ours, from evaluations that exist.

Reads what `evaluate` wrote and draws what a model's ways and representations hold; it trains and
attacks nothing. What the tables say is `reproduction`'s business.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from training import proposition, reproduction
from training.config import ConfigError
from training.data import to_float
from training.errors import TrainingError
from training.evaluation_document import JSON_FILE
from training.figures import NAMES
from training.files import write_text
from training.gradients import loss_gradient, shown
from training.inversion import Inversion, distance
from training.markdown import table
from training.paper_faults import FAULTS
from training.plots import style
from training.plots.ablation import ablation
from training.plots.features import pictures
from training.predict import WAYS, examined
from training.reproduction import Document
from training.subject import Subject

_EVALUATIONS = "evaluations"  # folder of what the rows are made of, beside the report
_IMAGES = "images"  # folder of the pictures, beside the report
_MODEL = ("name", "method", "loss", "backbone", "norm", "eps", "seed", "step", "steps")
_TITLES = {"standard": "standard", "robust": "robust", "nonrobust": "non-robust"}

_HEAD = """\
# The paper, reproduced

Wang et al. 2020, [arXiv 2007.01356](https://arxiv.org/abs/2007.01356), table by table. Figures are
in %. Rows of the paper's are what it prints; rows of ours were measured here, on the data that they
name, on attacked images rounded to 8 bits, and nothing of the paper's enters them. A row that was
not run says so. S, R and N are the standard, the robust and the non-robust way. The evaluations
behind the rows lie in [evaluations/](evaluations/) with their seeds, image numbers and weights'
hashes.
"""


class ReportError(TrainingError):
    """An evaluation cannot be used; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """`inversion` draws Figures 2a and 4; `simulated` samples check Proposition 1."""

    inversion: Inversion
    simulated: int = 1_000_000
    seed: int = 0

    def __call__(
        self, documents: Sequence[Document], out: Path, subject: Subject | None, console: Console
    ) -> list[Path]:
        """Write the report `out` and its pictures in a folder beside it; returns all paths.

        The pictures of gradients and inversions are of the images of `subject`, or left out with a
        word where there is none.

        Raises:
            ConfigError: the subject's method does not train all three ways.
            OutputError: a place cannot be written to.
        """
        if subject is not None and len(subject.ways) < len(WAYS):
            raise ConfigError("gradients and inversions are drawn of a model of three ways")
        folder = out.parent / _IMAGES
        kept = _keep(documents, out.parent / _EVALUATIONS)
        lines = [_HEAD]
        for number in (1, 2, 3):
            lines += reproduction.paper_table(number, documents)
        written, drawn = self._ablation(documents, folder)
        lines += drawn
        lines += reproduction.detection(documents)
        for number in (6, 7, 8):
            lines += reproduction.paper_table(number, documents)
        if subject is None:
            lines += [
                "## Figures 2a, 3 and 4: what the ways see",
                "",
                "Not drawn: no model was given.",
                "",
            ]
        else:
            with examined(subject.model):
                for part in (self._gradients, self._inversions):
                    path, drawn = part(subject, folder)
                    console.print(f"{path}", highlight=False, soft_wrap=True)
                    written.append(path)
                    lines += drawn
        lines += self._proposition()
        lines += _faults()
        write_text(out, "\n".join(lines))
        return [out, *written, *kept]

    def _ablation(
        self, documents: Sequence[Document], folder: Path
    ) -> tuple[list[Path], list[str]]:
        paths: list[Path] = []
        lines = [
            "## Figure 2b: what each term adds",
            "",
            "The paper draws this for WideResNet-34-10 on CIFAR-10 and prints no figures.",
            "",
        ]
        for words, stages in reproduction.ablations(documents):
            number = f"-{len(paths) + 1}" if paths else ""
            path = style.save(ablation(stages), folder / f"reproduction-ablation{number}.svg")
            paths.append(path)
            lines += [f"{words}:", "", *reproduction.ablation_table(stages), ""]
            lines += [f"![Figure 2b: {words}]({_IMAGES}/{path.name})", ""]
        return paths, lines if paths else [*lines, "Not run.", ""]

    def _gradients(self, subject: Subject, folder: Path) -> tuple[Path, list[str]]:
        image, label = _images(subject)
        rows = {"image": image} | {
            _TITLES[way]: shown(loss_gradient(subject.model, image, label, way)) for way in WAYS
        }
        path = style.save(pictures(_arrays(rows)), folder / "reproduction-gradients.svg")
        return path, [
            "## Figure 3: gradients of each way's loss",
            "",
            "Clipped at three standard deviations of their mean and rescaled, as in appendix D.1. "
            + _about(subject),
            "",
            f"![Figure 3]({_IMAGES}/{path.name})",
            "",
        ]

    def _inversions(self, subject: Subject, folder: Path) -> tuple[Path, list[str]]:
        image, _ = _images(subject)
        encoders = {
            "robust": subject.model.encoder_robust,
            "nonrobust": subject.model.encoder_nonrobust,
        }
        found = {way: self.inversion(encoder, image) for way, encoder in encoders.items()}
        rows = {"image": image} | {_TITLES[way]: part for way, part in found.items()}
        path = style.save(pictures(_arrays(rows)), folder / "reproduction-inversion.svg")
        far = {
            way: float(distance(encoder, image, found[way]).median())
            for way, encoder in encoders.items()
        }
        return path, [
            "## Figures 2a and 4: inverted representations",
            "",
            f"From noise, {self.inversion.steps} steps of normalised gradient descent on the "
            "relative distance of the representations; what is reached, the median of the images: "
            f"{far['robust']:.2f} for the robust one, {far['nonrobust']:.2f} for the non-robust. "
            + _about(subject),
            "",
            f"![Figures 2a and 4]({_IMAGES}/{path.name})",
            "",
        ]

    def _proposition(self) -> list[str]:
        rows = [
            [one.name, *(f"{value:.4f}" for value in (one.stated, *_values(one)))]
            for one in proposition.check(count=self.simulated, seed=self.seed)
        ]
        header = ["classifier", "the paper's", "exact", "simulated", "simulated under attack"]
        return [
            "## Proposition 1",
            "",
            "Seven features, each right with probability 0.8, and an l_inf attack of 0.02 "
            f"(appendix A.2). Accuracy, not in %, from the whole binomial sum and from "
            f"{self.simulated:,} samples:",
            "",
            *table(header, rows),
            "",
            "The conclusion stands: all features are better on natural inputs and worthless under "
            "attack, the robust ones keep their accuracy.",
            "",
        ]


def _keep(documents: Sequence[Document], folder: Path) -> list[Path]:
    """Copies of the evaluations, so that a report can be made again without the runs."""
    paths = []
    for document in documents:
        name, number = document["model"]["name"], 2
        while folder / f"{name}.json" in paths:
            name, number = f"{document['model']['name']}-{number}", number + 1
        paths.append(folder / f"{name}.json")
        write_text(paths[-1], json.dumps(document, indent=2) + "\n")
    return paths


def read(place: Path) -> dict[str, Any]:
    """An evaluation, given as its file or as the folder of its run.

    Raises:
        ReportError: it cannot be read, is none, is of an older form, or not of test images.
    """
    path = place / JSON_FILE if place.is_dir() else place
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model = document["model"]
        known = all(key in model for key in _MODEL)
        split, results = document["split"], document["results"]
        measured = all(set(NAMES) <= set(result["metrics"]) for result in results)
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"cannot read {path}: {error}; run `parallax-train evaluate`") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{path} is not an evaluation ({error!r})") from error
    if not results:
        raise ReportError(f"{path} is not an evaluation")
    if not known or not measured:
        raise ReportError(f"{path} is of an older form; evaluate again")
    if split != "test":
        raise ReportError(f"{path} is of {split} images; the paper's tables are of test images")
    return document


def _values(finding: proposition.Finding) -> tuple[float, float, float]:
    return finding.exact, finding.simulated, finding.attacked


def _images(subject: Subject) -> tuple[Tensor, Tensor]:
    images = subject.images.to(subject.device)
    return to_float(images.pixels), images.label


def _arrays(rows: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {title: part.detach().cpu().numpy() for title, part in rows.items()}


def _about(subject: Subject) -> str:
    header = subject.header
    numbers = ", ".join(map(str, subject.index))
    return (
        f"`{header.config.name}`, weights `{header.weights_sha256[:12]}`, images {numbers} of the "
        f"{subject.split} split of {subject.dataset}."
    )


def _faults() -> list[str]:
    return [
        "## Where the paper contradicts itself, and how it is read here",
        "",
        *table(["where", "what", "reading"], FAULTS),
        "",
    ]
