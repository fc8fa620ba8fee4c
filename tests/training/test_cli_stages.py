"""`parallax-train` from the command line to the files, and its faults."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training import examinee
from training.cli import main
from training.errors import ToldElsewhere
from training.figures import NAMES

CLASSES = ("cat", "dog")
QUICK = "linf:0.1:0.05:2"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with an untrained model, its data inside."""
    folder = tmp_path_factory.mktemp("run")
    examinee.write_images(folder / "data", CLASSES, count=4)
    source = f"imagefolder:{folder / 'data'}"
    path = folder / "checkpoint.safetensors"
    examinee.write_checkpoint(path, source, CLASSES)
    (folder / "damaged").write_bytes(path.read_bytes()[:-100])
    return folder


def test_attack(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["attack", str(run), str(out), "--count", "5", "--attack", QUICK, "--way", "robust"]
    assert main([*arguments, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert f"{out}: 5 natural images and as many attacked with {QUICK}; " in printed
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    pixels = []
    for row in rows:
        with Image.open(out / row["file"]) as image:
            assert (image.mode, image.size) == ("RGB", (16, 16))
            pixels.append(np.asarray(image).astype(int))
    for natural, attacked in zip(pixels[:5], pixels[5:], strict=True):
        assert 0 < np.abs(attacked - natural).max() <= 0.1 * 255 + 0.5
    source = sorted((run / "data" / "test").rglob("*.png"))
    with Image.open(source[int(rows[0]["index"])]) as image:
        assert np.array_equal(np.asarray(image), pixels[0])


def test_attack_defaults_to_the_models_own_threat_model(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["attack", str(run), str(out), "--count", "1", "--device", "cpu"]) == 0
    with (out / "labels.csv").open(newline="") as file:
        attacked = list(csv.DictReader(file))[1]
    made = ("attacked_way", "norm", "eps", "step_size", "steps")
    assert [attacked[column] for column in made] == ["standard", "linf", "0.1", "0.0125", "20"]


def test_evaluate(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(run), "--out", str(tmp_path), "--data-name", "Cats (noise)"]
    attacks = ["--attack", QUICK, "--attack", "l2:0.5:0.2:2"]
    assert main([*arguments, *attacks, "--batch-size", "3", "--device", "cpu"]) == 0
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["dataset"] == "Cats (noise)"
    assert document["n_images"] == 8
    assert document["data"]["index"] is None
    named = [result["attack"]["name"] for result in document["results"]]
    assert named == [QUICK, QUICK, "l2:0.5:0.2:2", "l2:0.5:0.2:2"]
    assert tuple(document["results"][0]["metrics"]) == NAMES
    assert "# examinee on Cats (noise)" in (tmp_path / "evaluation.md").read_text()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{QUICK}, 8-bit, in %: standard way ")
    assert printed[-1] == f"{tmp_path / 'evaluation.json'} and evaluation.md beside it"


def test_evaluate_writes_beside_the_checkpoint(run: Path) -> None:
    path = run / "checkpoint.safetensors"
    arguments = ["evaluate", str(path), "--attack", QUICK, "--count", "2", "--device", "cpu"]
    assert main(arguments) == 0
    assert sorted(path.name for path in run.glob("[ae]*")) == [
        "answers.npz",
        "evaluation-reliability.svg",
        "evaluation-roc.svg",
        "evaluation-scores.svg",
        "evaluation.json",
        "evaluation.md",
    ]


def test_evaluate_in_shares(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--attack", QUICK, "--attack", QUICK, "--batch-size", "3", "--device", "cpu"]
    arguments = ["evaluate", str(run), "--out", str(tmp_path / "parts"), *options]
    assert main([*arguments, "--shard", "2/2"]) == 0
    assert capsys.readouterr().out.endswith("missing: 6 of --shard 1/2\n")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["evaluation.partial"]
    assert main([*arguments, "--seed", "1"]) == 1
    assert "holds parts of other work (seed differ)" in capsys.readouterr().err
    assert main([*arguments, "--shard", "1/2"]) == 0
    assert main(["evaluate", str(run), "--out", str(tmp_path / "whole"), *options]) == 0
    parts, whole = (
        json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("parts", "whole")
    )
    assert parts["attacks"] == [QUICK]
    assert parts["results"] == whole["results"]
    folders = [tmp_path / name for name in ("parts", "whole")]
    files = [{path.name: path for path in folder.iterdir()} for folder in folders]
    assert files[0].keys() == files[1].keys()
    for name in files[0].keys() - {"evaluation.json", "evaluation.md"}:  # which hold the time
        assert files[0][name].read_bytes() == files[1][name].read_bytes()


def test_quick_is_a_count(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.cli._QUICK", 5)
    arguments = ["evaluate", str(run), "--attack", QUICK, "--device", "cpu", "--quick"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["n_images"] == 5
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--count", "3"])
    assert "not allowed with argument --quick" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["evaluate", "RUN/nowhere"], "cannot read checkpoint"),
        (["evaluate", "RUN", "--attack", "linf:0.3"], "'linf:0.3' is not an attack"),
        (["evaluate", "RUN", "--data", "imagefolder:RUN/nowhere"], "nowhere"),
        (["evaluate", "RUN", "--out", "RUN/checkpoint.safetensors"], "cannot write to"),
        (["evaluate", "RUN", "--out", "RUN/checkpoint.safetensors/a"], "cannot write to"),
        (["evaluate", "RUN/data", "--out", "RUN/new"], "cannot read checkpoint"),
        (["evaluate", "RUN/damaged", "--out", "RUN/new"], "cannot read checkpoint"),
        (["evaluate", "RUN", "--out", "RUN/new", "--shard", "3/2"], "'3/2' is not a share"),
        (["attack", "RUN", "RUN"], "is not empty"),
        (["export", "RUN", "--name", "toy", "--ways", "robust,magic"], "--ways: magic; known: "),
        (["train", "RUN/nowhere.toml"], "cannot read"),
        (
            ["attack", "RUN", "RUN/new", "--attack", "linf:0.3:0.1:x"],
            "'x' is not a number of steps",
        ),
    ],
)
def test_faults_are_one_line(
    run: Path, arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("RUN", str(run)) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("parallax-train: ")
    assert fault in printed.err
    assert printed.err.count("\n") == 1
    assert not (run / "new").exists()


def test_overrides_may_stand_after_an_option(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("method = 'st'")
    arguments = ["train", str(toml), "seed=1", "--run", str(tmp_path), "colour=2"]
    assert main(arguments) == 1
    assert "colour is not a key" in capsys.readouterr().err
    for wrong in (["train", str(toml), "--colour=2"], ["evaluate", str(run), "seed=1"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--count", "0"], ["--count", "many"], ["--seed", "-1"]])
def test_numbers_out_of_range(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "run", *option])
    assert "is not a whole number of" in capsys.readouterr().err


def test_stopped_by_hand(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.predict.attacked", stop)
    assert main(["evaluate", str(run), "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "parallax-train: stopped\n"
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.partial"]
    monkeypatch.undo()
    assert main(["evaluate", str(run), "--out", str(tmp_path), "--attack", QUICK]) == 1
    assert "holds parts of other work (attacks differ)" in capsys.readouterr().err


def test_a_fault_that_another_process_tells_is_not_told_twice(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*arguments: object, **options: object) -> None:
        raise ToldElsewhere("process 0 says why")

    monkeypatch.setattr("training.config.load", end)
    assert main(["train", "any.toml", "--device", "cpu"]) == 1
    assert capsys.readouterr().err == ""
