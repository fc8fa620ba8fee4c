"""The whole way in small: train, evaluate, export, serve, and get torch's labels over HTTP."""

import base64
import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from training import checkpoint
from training.cli import main
from training.data import to_float

CONFIG = Path(checkpoint.__file__).parent / "configs" / "mnist-fast.toml"
SMALL = (
    "model.width=4",
    "data.validation=8",
    "data.calibration=8",
    "optimizer.batch_size=16",
    "optimizer.epochs=2",
    "precision=float32",
)


def write_digits(folder: Path) -> None:
    """An MNIST in its own files, 96 images of two kinds of stripes to train on and 32 to test."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", 96), ("t10k", 32)):
        label = generator.integers(0, 2, count, dtype=np.uint8)
        pixels = generator.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for index, kind in enumerate(label):
            rows = pixels[index] if kind else pixels[index].T
            rows[::4] += 180
        for name, kind, array in (("images-idx3", 3, pixels), ("labels-idx1", 1, label)):
            head = np.array([0x0800 + kind, *array.shape], dtype=">u4").tobytes()
            with gzip.open(raw / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(head + array.tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the four stages left their files."""
    folder = tmp_path_factory.mktemp("first-light")
    write_digits(folder / "data")
    data = f"data.source=mnist:{folder / 'data'}"
    run, quick = str(folder / "run"), ("--attack", "linf:0.3:0.1:3")
    assert main(["train", str(CONFIG), data, *SMALL, "--run", run, "--device", "cpu"]) == 0
    assert main(["evaluate", run, *quick, "--count", "16"]) == 0
    assert main(["export", run, "--name", "stripes", "--models", str(folder / "models")]) == 0
    assert main(["attack", run, str(folder / "images"), "--count", "6", *quick]) == 0
    return folder


def test_http_gives_the_labels_that_torch_gives(folder: Path) -> None:
    model, header = checkpoint.load_model(
        folder / "run" / "checkpoint.safetensors", torch.device("cpu")
    )
    files = sorted((folder / "images").glob("*/*.png"))
    assert len(files) == 12
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])[:, None]
    with torch.no_grad():
        logits = model(to_float(torch.from_numpy(pixels)))
    settings = Settings(models=folder / "models", provider="cpu")
    with TestClient(create_app(settings)) as client:
        body = {"images": [base64.b64encode(file.read_bytes()).decode() for file in files]}
        answer = client.post("/detect", json=body)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
    for way in ("standard", "robust", "nonrobust"):
        served = [result["ways"][way]["label"] for result in results]
        assert served == getattr(logits, way).argmax(dim=1).tolist()
    flagged = (logits.robust.argmax(dim=1) != logits.nonrobust.argmax(dim=1)).tolist()
    assert [result["adversarial"] for result in results] == flagged
    assert header.finished


def test_the_written_labels_agree_with_the_service(folder: Path) -> None:
    with (folder / "images" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    with TestClient(create_app(Settings(models=folder / "models", provider="cpu"))) as client:
        for row in rows:
            image = (folder / "images" / row["file"]).read_bytes()
            answer = client.post(
                "/detect?strict_size=true", content=image, headers={"Content-Type": "image/png"}
            ).json()
            assert answer["ways"]["standard"]["class_name"] == row["standard"]
            assert answer["adversarial"] == bool(int(row["flagged"]))
