"""Every shipped model folder keeps its promises: verified, described, and tried.

Shipped are those with samples; a folder that a user exported beside them is not.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from service import scores
from service.app import create_app
from service.manifest import DETECTOR_FILE, read_manifest, sha256_file
from service.settings import Settings
from training import card, checkpoint
from training.data import to_float

MODELS = Path(__file__).parents[1] / "models"
FOLDERS = sorted(path.parents[1] for path in MODELS.glob("*/*/samples/labels.csv"))
assert MODELS / "mnist" / "3" in FOLDERS

pytestmark = pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:])
)


def test_the_files_are_those_of_the_manifest(folder: Path) -> None:
    for name, entry in read_manifest(folder).files.items():
        assert (sha256_file(folder / name), (folder / name).stat().st_size) == (
            *(entry.sha256, entry.size),
        )


def test_the_card_is_the_manifests(folder: Path) -> None:
    text = json.loads((folder / "manifest.json").read_text())
    assert (folder / "CARD.md").read_text(encoding="utf-8") == card.render(text)


def test_every_sample_gets_the_answer_that_torch_gave(folder: Path) -> None:
    """The shipped weights, the shipped graph and the table beside the samples say the same."""
    with (folder / "samples" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 12
    model, _ = checkpoint.load_model(folder / "weights.safetensors", torch.device("cpu"))
    settings = Settings(models=MODELS, provider="cpu", default_model=folder.parent.name)
    decision = read_manifest(folder).decision
    with TestClient(create_app(settings)) as client:
        for row in rows:
            path = folder / "samples" / row["file"]
            answer = client.post(
                f"/detect?strict_size=true&version={folder.name}", content=path.read_bytes()
            ).json()
            pixels = np.array(Image.open(path)).reshape(*model_shape(folder)[1:], -1)
            with torch.no_grad():
                encoded = model.encode(to_float(torch.from_numpy(pixels.transpose(2, 0, 1)[None])))
                logits = model.decide(encoded)
            for way in ("standard", "robust", "nonrobust"):
                label = int(getattr(logits, way).argmax())
                assert answer["ways"][way]["label"] == label == int(row[way]), row["file"]
            assert answer["adversarial"] == (row["flagged"] == "1")
            logit = scores.Logits(*(part.numpy() for part in logits))
            plain = scores.score("disbelief", logit, scores.Temperature())
            assert float(plain[0]) == pytest.approx(float(row["score"]), abs=1e-4)
            own = scores.score(
                decision.score,
                logit,
                scores.Temperature(**decision.temperatures.model_dump()),
                scores.Features(*(part.numpy() for part in encoded)),
                head_of(folder),
            )
            assert answer["score"] == pytest.approx(float(own[0]), abs=1e-4)


def head_of(folder: Path) -> scores.Head | None:
    path = folder / DETECTOR_FILE
    if not path.exists():
        return None
    with np.load(path) as arrays:
        values: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    return scores.Head(**values)


def model_shape(folder: Path) -> tuple[int, int, int]:
    return read_manifest(folder).input.shape
