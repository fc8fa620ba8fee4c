"""Every stage as a careless or hostile user calls it: one clear line, and nothing half-written.

All through the command line. What each module refuses besides is in its own tests.
"""

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tests.training import examinee
from training import checkpoint, data
from training.checkpoint import RUN_FILE, weights_digest
from training.cli import main

CLASSES = ("cat", "dog")
QUICK = ["--attack", "linf:0.1:0.05:1", "--device", "cpu"]
TOML = """
name = "tiny"
method = "aat++"
data = { source = "SOURCE", validation = 2, calibration = 2 }
model = { backbone = "small_cnn", width = 1 }
optimizer = { lr = 0.05, batch_size = 4, epochs = 2 }
[attack]
norm = "linf"
eps = "0.1"
standard = { steps = 1, step_size = "0.1" }
robust = { steps = 1, step_size = "0.1" }
nonrobust = { steps = 1, step_size = "0.1" }
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """`data`, `tiny.toml` to train on it, and `run` with an untrained model; `file` is a file."""
    examinee.write_images(tmp_path / "data", CLASSES, count=6)
    source = f"imagefolder:{tmp_path / 'data'}"
    (tmp_path / "tiny.toml").write_text(TOML.replace("SOURCE", source))
    examinee.write_checkpoint(tmp_path / "run" / RUN_FILE, source, CLASSES)
    (tmp_path / "file").write_text("")
    return tmp_path


def refused(home: Path, arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a call that must fail and leave all as it was. `@` is the home."""
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    folders = {path for path in home.rglob("*") if path.is_dir()}
    folders.add(home / "data" / "evaluation.partial")  # may stay: what an evaluation goes on from
    try:
        status = main([word.replace("@", str(home)) for word in arguments.split()])
    except SystemExit as stopped:  # of the parser
        status = stopped.code if isinstance(stopped.code, int) else -1
    printed = capsys.readouterr().err
    assert status in (1, 2)
    assert printed.startswith("parallax-train")
    assert printed.count("\n") == 1
    assert printed.endswith("\n")
    after = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    assert after == before
    assert {path for path in home.rglob("*") if path.is_dir()} <= folders
    return printed


STAGES = {
    "evaluate": f"evaluate @/PLACE {' '.join(QUICK)}",
    "stress": "stress @/PLACE --count 2 --steps 1 --device cpu",
    "attack": f"attack @/PLACE @/new {' '.join(QUICK)}",
    "shift": "shift @/PLACE --count 2 --device cpu",
    "round": "round @/PLACE",
    "export": "export @/PLACE --name toy --models @/models",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("place", ["nowhere", "file", "data", "nowhere.onnx"])
def test_what_is_no_checkpoint(
    home: Path, stage: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(home, STAGES[stage].replace("PLACE", place), capsys)
    assert f"cannot read checkpoint {home / place}" in said


Tensors = dict[str, torch.Tensor]


def rewrite(path: Path, change: Callable[[Tensors, dict[str, Any]], Any]) -> None:
    """Another content under hashes that are true."""
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["parallax"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    change(tensors, document)
    weights = {name.removeprefix("averaged."): tensor for name, tensor in tensors.items()}
    document |= {"weights_sha256": weights_digest(weights), "state_sha256": None}
    save_file(tensors, path, metadata={"parallax": json.dumps(document)})


BIAS = "averaged.head.2.bias"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, _: tensors.pop(BIAS), "the weights do not fit the network"),
        (lambda tensors, _: tensors.update({BIAS: torch.zeros(7)}), "do not fit the network"),
        (lambda tensors, _: tensors[BIAS].fill_(torch.nan), "numbers that are not finite"),
        (lambda _, document: document["shape"].update(height=0), "shape.height: Input should"),
        (lambda _, document: document["shape"].update(height="x"), "shape.height: Input should"),
        (lambda _, document: document["shape"].update(depth=3), "shape.depth is not a key"),
        (lambda _, document: document.update(classes=[]), "classes: "),
        (lambda _, document: document.update(classes=5), "classes: "),
        (lambda _, document: document.update(step="x"), "step: Input should be a valid integer"),
        (lambda _, document: document.pop("seconds"), "seconds is missing"),
        (lambda _, document: document.update(colour=1), "colour is not a key"),
        (lambda _, document: document["config"].update(colour=1), "colour is not a key"),
        (
            lambda _, document: document["config"]["model"].update(backbone="magic"),
            "unknown backbone 'magic'",
        ),
    ],
)
def test_a_checkpoint_that_contradicts_itself(
    home: Path,
    change: Callable[[Tensors, dict[str, Any]], Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rewrite(home / "run" / RUN_FILE, change)
    assert said in refused(home, STAGES["evaluate"].replace("PLACE", "run"), capsys)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("colour=1", "colour is not a key"),
        ("data.colour=1", "data.colour is not a key"),
        ("model=3", "model: Input should be"),
        ("a.b.c=1", "a is not a key"),
        ("name.x=1", "'name' is a value, not a section"),
        ("novalue", "'novalue' is not an override"),
        ("name=a/b", "name: "),
        ("name=..", "name: "),
        ("name=", "name: "),
        ("seed=x", "seed: "),
        ("seed=99999999999999999999", "seed: "),
        ("method=magic", "method: "),
        ("attack.norm=lnif", "attack.norm: Input should be 'linf'"),
        ("attack.eps=0", "'0' is no room for an attack"),
        ("attack.eps=1/0", "'1/0' is not a distance"),
        ("attack.eps=nan", "'nan' is not a distance"),
        ("optimizer.lr=nan", "optimizer.lr: "),
        ("optimizer.epochs=0", "optimizer.epochs: "),
        ("optimizer.batch_size=100", "is more than 8 images"),
        ("data.validation=100", "leave none of 12 to train on"),
        ("data.source=magic:x", "'magic:x' is not a source"),
        ("data.source=imagefolder:@/nowhere", "No such file or directory"),
        ("data.source=imagefolder:@/file", "Not a directory"),
        ("data.source=parquet:@/nowhere", "no train-*.parquet there"),
        ("data.image_size=8", "needs images of 16x16 or more"),
        ("data.image_size=100000000", "the images do not fit into memory"),
        ("model.backbone=magic", "unknown backbone 'magic'"),
        ("--run @/file", "file"),
        ("--run @/file/below", "Not a directory"),
        ("--max-steps 0", "'0' is not a whole number of 1 or more"),
        ("--save-every nan", "'nan' is not a number of seconds"),
        ("--save-every -1", "'-1' is not a number of seconds"),
        ("--device tpu", "invalid choice: 'tpu'"),
    ],
)
def test_train(home: Path, option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = "" if "--run" in option else "--run @/new"
    assert said in refused(home, f"train @/tiny.toml {place} {option}", capsys)


def no_class(part: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        for path in (data / part / "dog").iterdir():
            path.unlink()

    return change


def one_class(data: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(data / part / "dog")


def no_images(data: Path) -> None:
    for path in data.rglob("*.png"):
        path.unlink()


def another_size(data: Path) -> None:
    Image.new("RGB", (16, 8)).save(data / "train" / "cat" / "0.png")


def another_size_of_the_test_images(data: Path) -> None:
    for path in (data / "test").rglob("*.png"):
        Image.new("RGB", (32, 32)).save(path)


def a_text(data: Path) -> None:
    (data / "train" / "cat" / "0.png").write_text("no image")


def a_link_to_nowhere(data: Path) -> None:
    (data / "train" / "cat" / "x.png").symlink_to(data / "nowhere")


def one_class_more(data: Path) -> None:
    shutil.copytree(data / "train" / "cat", data / "train" / "bird")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_class, "one class, cat; there is nothing to tell apart"),
        (no_class("train"), "no valid file for the classes dog"),
        (no_class("test"), "no valid file for the classes dog"),
        (no_images, "no valid file for the classes cat, dog"),
        (another_size, "images differ in size; set data.image_size"),
        (another_size_of_the_test_images, "train and test images differ in size"),
        (a_text, "0.png cannot be read as an image"),
        (a_link_to_nowhere, "x.png cannot be read as an image"),
        (one_class_more, "train and test have different classes"),
    ],
)
def test_image_folders(
    home: Path, change: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(home / "data")
    assert said in refused(home, "train @/tiny.toml --run @/new", capsys)


def named(*names: Any) -> str:
    return json.dumps({"info": {"features": {"label": {"names": names}}}})


@pytest.mark.parametrize(
    ("labels", "metadata", "said"),
    [
        ([0, 2], "{}", "2 different train labels, the highest 2; some classes have no image"),
        ([0, 10**12], "{}", "some classes have no image"),
        ([0, 0], "{}", "one class, 0; there is nothing to tell apart"),
        ([-1, 0], "{}", "the train labels are not whole numbers from 0"),
        ([None, 0], "{}", "the train labels are not whole numbers from 0"),
        ([True, False], "{}", "the train labels are not whole numbers from 0"),
        ([0.5, 1.0], "{}", "the train labels are not whole numbers from 0"),
        (["a", "b"], "{}", "the train labels are not whole numbers from 0"),
        ([0, 1], named("a"), "label 1, but only 1 class names"),
        ([0, 1], named("a", "b", "c"), "no training image of class c"),
        ([0, 1], named("a", "a"), "two classes are named a"),
        ([0, 1], named(1, 2), "the class names in the metadata are no list of names"),
        ([0, 1], "{", "the metadata is damaged"),
        ([0, 1], "[]", "the metadata is damaged"),
    ],
)
def test_labels(
    home: Path, labels: list[Any], metadata: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoded = (home / "data" / "train" / "cat" / "0.png").read_bytes()
    rows = [{"bytes": encoded, "path": None}] * 12
    table = pyarrow.table({"image": rows, "label": labels * 6})
    for part in ("train", "test"):
        pyarrow.parquet.write_table(
            table.replace_schema_metadata({"huggingface": metadata}), home / f"{part}-0.parquet"
        )
    assert said in refused(home, "train @/tiny.toml --run @/new data.source=parquet:@", capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate @/run --count 0", "'0' is not a whole number of 1 or more"),
        ("evaluate @/run --batch-size x", "'x' is not a whole number of 1 or more"),
        ("evaluate @/run --seed 4294967296", "not a whole number of 0 or more, below 4294967296"),
        ("evaluate @/run --split magic", "invalid choice: 'magic'"),
        ("evaluate @/run --shard 3/2", "3/2"),
        ("evaluate @/run --shard x", "'x'"),
        ("evaluate @/run --out @/file", "cannot write to"),
        ("evaluate @/run --out @/file/below", "cannot write to"),
        ("evaluate @/run --data magic", "'magic' is not a source"),
        ("evaluate @/run --split train", "is cut otherwise than in training"),
        ("evaluate @/run --attack linf", "'linf' is not an attack"),
        ("evaluate @/run --attack linf:0:0.1:1", "'0' is not a distance above 0"),
        ("evaluate @/run --attack linf:1e400:0.1:1", "'1e400' is not a distance"),
        ("evaluate @/run --attack lnif:0.1:0.1:1", "norm 'lnif' is none of linf, l2, l2_sign"),
        ("evaluate @/run --attack linf:0.1:0.1:1.5", "'1.5' is not a number of steps"),
        ("stress @/run --eps 0", "'0' is no room for an attack"),
        ("stress @/run --alarm-eps -1", "'-1' is negative"),
        ("stress @/run --out @/file", "cannot write to"),
        ("shift @/run --corruption magic", "magic"),
        ("shift @/run", "is cut otherwise than in training"),
        ("report --paper @/nowhere --out @/new.md", "nowhere"),
        ("report --paper @/file --out @/new.md", "file"),
        ("report --paper @/run --out @/new.md", "evaluation.json"),
        ("report --paper --model @/nowhere --out @/new.md", "cannot read checkpoint"),
        ("attack @/run @/file", "is a file"),
        ("attack @/run @/file/below", "cannot write"),
        ("attack @/run @/data", "is not empty"),
        ("attack @/run @/new --way magic", "invalid choice: 'magic'"),
        ("round @/run --out @/file", "cannot write"),
        ("round @/run --out @/file/below", "cannot write"),
        ("export @/run", "--name"),
        ("export @/run --name a/b", "'a/b' is no name"),
        ("export @/run --name ..", "'..' is no name"),
        ("export @/run --name A", "'A' is no name"),
        ("export @/run --name toy --version 0", "'0' is not a whole number of 1 or more"),
        ("export @/run --name toy --ways magic", "--ways: magic; known: "),
        ("export @/run --name toy --evaluation @/nowhere", "run `parallax-train evaluate` first"),
        ("export @/run --name toy --evaluation @/data", "is not an evaluation"),
        ("export @/run --name toy --evaluation @/file", "is not an evaluation"),
        ("magic", "invalid choice: 'magic'"),
        ("evaluate @/run surplus", "unrecognized arguments: surplus"),
    ],
)
def test_options(home: Path, arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(home, arguments, capsys)


@pytest.fixture
def evaluated(home: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """With an evaluation that can be exported."""
    path = home / "run" / RUN_FILE
    saved = checkpoint.load(path)
    digest = data.load(saved.header.config.data).train.digest()
    checkpoint.save(path, replace(saved, header=replace(saved.header, data_sha256=digest)))
    assert main(["evaluate", str(home / "run"), *QUICK]) == 0
    capsys.readouterr()
    return home


@pytest.mark.parametrize("below", ["", "/below"])
def test_models_in_a_file(evaluated: Path, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(evaluated, f"export @/run --name toy --models @/file{below}", capsys)
    assert "cannot write" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy_standard_natural": None}, "does not say accuracy_standard_natural"),
        ({"rad_all": "x"}, "is not an evaluation: metrics.rad_all: "),
        ({"rad_all": float("nan")}, "is not an evaluation: metrics.rad_all: "),
    ],
)
def test_a_doctored_evaluation(
    evaluated: Path, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evaluated / "run" / "evaluation.json"
    document = json.loads(path.read_text())
    document["results"][0]["metrics"] |= change
    path.write_text(json.dumps(document))
    assert said in refused(evaluated, "export @/run --name toy --models @/models", capsys)


def test_an_interrupted_export_leaves_nothing(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.export.compare", stop)
    models = evaluated / "models"
    assert main(["export", str(evaluated / "run"), "--name", "toy", "--models", str(models)]) == 130
    assert capsys.readouterr().err == "parallax-train: stopped\n"
    assert not models.exists()


def test_a_loss_that_diverges(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = home / "new"
    arguments = ["train", str(home / "tiny.toml"), "--run", str(run), "optimizer.lr=1e6"]
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("parallax-train: ")
    assert "a lower optimizer.lr" in printed.lower()
    assert printed.count("\n") == 1
    assert not list(run.glob("*.safetensors"))


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """A file may hold so many bytes; what is written beyond them fails as on a full disk.

    Only within: the file that the tests themselves report to may be longer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ("evaluate @/run --out @/data " + " ".join(QUICK), [100]),
        ("stress @/run --count 2 --steps 1 --device cpu --out @/data", [100]),
        ("attack @/run @/new " + " ".join(QUICK), [0, 1000]),
        ("round @/run --out @/data", [1000]),
        ("export @/run --name toy --models @/models", [1000, 100_000]),
    ],
)
def test_a_full_disk(
    evaluated: Path,
    arguments: str,
    sizes: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for size in sizes:
        with full_disk(size):
            said = refused(evaluated, arguments, capsys)
        assert os.strerror(errno.EFBIG) in said


@pytest.mark.parametrize("size", [10, 300, 2000])
def test_a_full_disk_in_training(
    home: Path,
    size: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The curves are full first, then the log, then the checkpoint."""
    with full_disk(size):
        assert main(["train", str(home / "tiny.toml"), "--run", str(home / "new")]) == 1
    printed = capsys.readouterr().err
    assert os.strerror(errno.EFBIG) in printed
    assert printed.count("\n") == 1
    assert not list((home / "new").glob("*.safetensors"))


@pytest.mark.parametrize("content", [b"junk\n[]\n3\n{}\n", b"\xff\xfe\x00"])
def test_a_log_that_is_none(home: Path, content: bytes) -> None:
    """Lines that are not the log's go, as those do that a crash cut off."""
    log = home / "new" / "log.jsonl"
    log.parent.mkdir()
    log.write_bytes(content)
    assert main(["train", str(home / "tiny.toml"), "--run", str(home / "new")]) == 0
    assert {json.loads(line)["kind"] for line in log.read_text().splitlines()} == {
        "train",
        "validation",
    }


def test_stopped_while_torch_is_loaded() -> None:
    """Ctrl-C at the moment when the commands, and torch with them, are imported."""
    code = """
import builtins, os, signal
load = builtins.__import__
def interrupted(name, *arguments, **options):
    if name == "training.commands":
        os.kill(os.getpid(), signal.SIGINT)
    return load(name, *arguments, **options)
builtins.__import__ = interrupted
from training.cli import main
main(["evaluate", "run"])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (130, "parallax-train: stopped\n")
