"""The command line: a real server in its own process, files without one, errors in one line."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import uvloop

from service import cli
from service.settings import Settings
from tests.service.toy import (
    ATTACKED,
    NATURAL,
    ToyFolder,
    calibrated,
    encode,
    natural_images,
    pixels,
)

DIGITS = re.compile(r"http://127\.0\.0\.1:(\d+)")


@pytest.fixture
def flags(toy: ToyFolder) -> list[str]:
    return ["--models", str(toy.root), "--provider", "cpu", "--threads", "1"]


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    files = {"natural": NATURAL, "attacked": ATTACKED, "cut": NATURAL[:-3]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in files}


@pytest.fixture
def server(flags: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", *flags]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root), "PARALLAX_LOG_LEVEL": "warning"},
    ) as process:
        yield process
        process.kill()


def test_serve_says_where_and_what_then_answers(server: subprocess.Popen[str]) -> None:
    assert server.stdout is not None
    where, what = server.stdout.readline(), server.stdout.readline()
    assert "toy version 1" in what
    assert "CPUExecutionProvider" in what
    found = DIGITS.search(where)
    assert found, where
    with httpx2.Client(base_url=found[0], timeout=120) as client:
        assert client.get("/health/ready").status_code == 200
        answer = client.post("/detect", content=ATTACKED, headers={"Content-Type": "image/png"})
        assert answer.json()["adversarial"] is True
    server.send_signal(signal.SIGTERM)
    server.wait(120)
    assert server.stdout.read() == ""


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_answers_are_sent_at_once(
    host: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Else each waits for the client's delayed acknowledgement: 40 ms on a kept connection.

    That asyncio switches the waiting off hangs on the listening socket's protocol.
    """

    async def answers() -> int:
        done = asyncio.get_running_loop().create_future()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            done.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with cli._listener(host, 0) as listener:
            server = await asyncio.start_server(accepted, sock=listener)
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            nodelay: int = await done
            writer.close()
            server.close()
        return nodelay

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(answers()) != 0


def test_detect_prints_a_table(
    flags: list[str], images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    natural, attacked = images["natural"], images["attacked"]
    assert cli.main(["detect", str(natural), str(attacked), *flags]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["image", "verdict", "label", "p", "score"]
    assert first.split()[1:] == ["accept", "dog", "1.000", "0.000", *["dog", "1.000"] * 3]
    assert second.split()[1:5] == ["corrected", "dog", "1.000", "1.000"]
    assert second.split()[5::2] == ["owl", "dog", "owl"]
    assert head.index("verdict") == first.index("accept") == second.index("corrected")


def test_detect_prints_json_lines_and_fails_where_one_is_refused(
    flags: list[str], images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["detect", "--json", str(images["cut"]), str(images["attacked"]), *flags]
    assert cli.main(arguments) == 1
    cut, attacked = map(json.loads, capsys.readouterr().out.splitlines())
    assert cut["error"]["code"] == "image-truncated"
    assert attacked["image"] == str(images["attacked"])
    assert attacked["verdict"] == "corrected"


def test_detect_names_the_refused(
    flags: list[str], images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["detect", str(images["cut"]), *flags]) == 1
    assert "refused    image-truncated: the image ends" in capsys.readouterr().out


def test_detect_takes_more_files_than_a_request(
    flags: list[str],
    images: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PARALLAX_MAX_IMAGES", "2")
    assert cli.main(["detect", *[str(images["natural"])] * 5, *flags]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_models_are_verified(
    toy: ToyFolder, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", *flags]) == 0
    told = capsys.readouterr().out
    assert "toy version 1: 3 classes, 1x4x4 (CxHxW), linf 8/255, float32, CPU" in told
    bad = ToyFolder(toy.root, version=2).write()
    (bad.path / "model.onnx").write_bytes(b"other")
    assert cli.main(["models", *flags]) == 1
    good, refused = capsys.readouterr().out.splitlines()
    assert good.startswith("toy version 1: 3 classes")
    assert refused.startswith("toy version 2: REFUSED, model.onnx has sha256")


def test_models_tell_which_is_active(
    toy: ToyFolder, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ToyFolder(toy.root, version=2).write()

    def active() -> list[bool]:
        assert cli.main(["models", *flags]) == 0
        return [line.endswith(", active") for line in capsys.readouterr().out.splitlines()]

    assert active() == [False, True]
    assert cli.main(["models", "rollback", "toy", *flags]) == 0
    assert capsys.readouterr().out.startswith("toy version 1 is active; ")
    assert active() == [True, False]
    assert cli.main(["models", *flags, "activate", "toy", "2"]) == 0
    assert capsys.readouterr().out.startswith("toy version 2 is active; ")
    assert active() == [False, True]
    assert cli.main(["models", "rollback", "toy", "--to", "1", *flags]) == 0
    assert cli.main(["models", "activate", "toy", "newest", *flags]) == 0
    capsys.readouterr()
    assert active() == [False, True]
    assert [path.name for path in sorted((toy.root / "toy").iterdir())] == ["1", "2"]
    (toy.root / "toy" / "active").write_text("nonsense")
    assert cli.main(["models", *flags]) == 1
    assert "toy version 1: REFUSED, active holds 'nonsense'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["rollback", "toy"], 3, "there is no version below 1 to go back to"),
        (["rollback", "toy", "--to", "1"], 2, "version 1 is not below version 1"),
        (["rollback", "other"], 2, "there is no model 'other'"),
        (["activate", "toy", "2"], 2, "toy has no version 2"),
        (["activate", "../toy", "newest"], 2, "there is no model '../toy'"),
    ],
)
def test_models_that_cannot_be_activated(
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    assert cli.main(["models", *arguments, *flags]) == status
    error, hint = capsys.readouterr().err.splitlines()
    assert said in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("version", ["0", "01", "-1", "new", "1.0", ""])
def test_what_is_no_version_is_refused(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["models", "activate", "toy", "--", version])
    assert left.value.code == 2
    assert "is no version; they are 1, 2, 3 ..." in capsys.readouterr().err


def test_start_errors_are_a_line_a_hint_and_a_status(
    toy: ToyFolder,
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.session.cuda_missing", lambda: "there is no driver")
    monkeypatch.setenv("PARALLAX_LOG_LEVEL", "error")  # which goes where the errors go
    bad = ToyFolder(toy.root.parent / "bad").write()
    (bad.path / "model.onnx").write_bytes(b"other")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, status, said in (
            (["serve", "--port", port, *flags], 5, f"cannot listen on 127.0.0.1:{port}"),
            (["serve", "--host", "192.0.2.1", *flags], 5, "cannot listen on 192.0.2.1"),
            (["serve", "--host", "::zz", *flags], 5, "cannot listen on ::zz"),
            (["serve", "--port", "many", *flags], 2, "setting port='many'"),
            (["serve", "--port", "0", "--models", "nowhere"], 3, "no such directory"),
            (["serve", "--port", "0", "--models", str(bad.root)], 3, "model.onnx has sha256"),
            (["serve", "--port", "0", *flags, "--provider", "cuda"], 4, "there is no driver"),
            (["serve", "--port", "0", *flags, "--default-model", "x"], 2, "'x' is not loaded"),
            (["serve", "--port", "0", *flags, "--api-keys", __file__], 7, "refused: line 1"),
            (["detect", "nowhere.png", *flags], 1, "cannot read nowhere.png"),
            (["detect", __file__, "--model", "x", *flags], 2, "model 'x' is not loaded"),
            (["models", "--models", "nowhere"], 3, "no such directory"),
        ):
            assert cli.main(arguments) == status
            shown = capsys.readouterr().err.splitlines()
            assert len(shown) == 2
            assert shown[0].startswith("error: ")
            assert said in shown[0]
            assert shown[1].startswith("hint: ")


def test_a_failed_run_is_told_for_each_image(
    flags: list[str],
    images: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.lanes.infer", lambda model, batch: [])
    assert cli.main(["detect", str(images["natural"]), *flags]) == 1
    assert "refused    inference-failed: the model could not be run" in capsys.readouterr().out


def test_serve_ends_quietly_on_interrupt(
    flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: object, sockets: list[socket.socket]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", interrupt)
    assert cli.main(["serve", "--host", "::1", "--port", "0", *flags]) == 130
    assert "http://[::1]:" in capsys.readouterr().out


def test_serve_returns_when_the_server_does(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    assert cli.main(["serve", "--port", "0", *flags]) == 0


def test_detect_follows_a_policy(
    toy: ToyFolder, flags: list[str], images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()
    attacked = str(images["attacked"])
    assert cli.main(["detect", "--json", "--policy", "strict", attacked, *flags]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["reason"], answer["fpr"]) == ("reject", "disagreement", 0.1)
    rate = ["--policy", "score", "--fpr", "0.01"]
    assert cli.main(["detect", attacked, *rate, *flags]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "corrected"


def test_detect_says_where_a_policy_cannot_be_followed(
    flags: list[str], images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["detect", "--policy", "score", str(images["natural"]), *flags]) == 2
    said = capsys.readouterr().err
    assert "policy 'score' needs thresholds" in said
    assert "hint: `parallax calibrate`" in said


def test_serve_refuses_a_policy_that_a_model_cannot_follow(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--port", "0", "--policy", "strict", *flags]) == 2
    assert "toy version 1 cannot follow the settings" in capsys.readouterr().err


def test_calibrate_writes_a_version_that_is_served(
    toy: ToyFolder, tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    natural_images(tmp_path / "natural", 200)
    natural = str(tmp_path / "natural")
    wanted = ["--policy", "score", "--fpr", "0.05", "--data-name", "toys"]
    assert cli.main(["calibrate", natural, "--model", "toy", *wanted, *flags]) == 0
    told = capsys.readouterr().out
    assert "toy/2: thresholds of disbelief from 200 images" in told
    assert "  0.05   " in told
    assert "default: policy score, rate 0.05" in told
    assert "a rate of 0.001 needs 999 images" in told
    judged = ["detect", "--json", f"{natural}/0000.png", *flags]
    for version, policy in (([], "score"), (["--version", "1"], "eq12")):
        assert cli.main([*judged, *version]) == 0
        assert json.loads(capsys.readouterr().out)["policy"] == policy
    assert cli.main([*judged, "--default-model", "toy/1"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["version"] == 1
    assert cli.main(["calibrate", natural, "--model", "toy", "--version", "2", *flags]) == 0
    assert "0.00 (Kolmogorov-Smirnov)" in capsys.readouterr().out
    assert sorted(path.name for path in toy.path.parent.iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["few"], 6, "50 images are too few"),
        (["attacked"], 6, "Eq. 12 flags 100.0% of the images"),
        (["cut"], 6, "cut (the image ends too early"),
        (["absent"], 1, "no such file or folder"),
        (["few", "--version", "9"], 2, "'toy' version 9 is not loaded"),
        (["empty"], 6, "0 images are too few"),
    ],
)
def test_calibrate_refuses_and_writes_nothing(
    toy: ToyFolder,
    tmp_path: Path,
    images: dict[str, Path],
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    natural_images(tmp_path / "few", 50)
    (tmp_path / "empty").mkdir()
    images["attacked"].unlink()
    images["attacked"].mkdir()
    for number in range(120):
        image = pixels(number % 3, (number + 1) % 3, number % 3)
        (images["attacked"] / f"{number}.png").write_bytes(encode(image))
    named, *rest = arguments
    command = ["calibrate", str(tmp_path / named), "--model", "toy", *rest, *flags]
    assert cli.main(command) == status
    error, hint = capsys.readouterr().err.splitlines()
    assert said in error
    assert hint.startswith("hint: ")
    assert [path.name for path in toy.path.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("flag", ["--max-shift", "--max-flagged"])
@pytest.mark.parametrize("value", ["nan", "-0.1", "1.1", "inf", "much"])
def test_a_bound_that_is_no_share_is_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["calibrate", "images", "--model", "toy", f"{flag}={value}"])
    assert left.value.code == 2
    assert f"argument {flag}: '{value}' is no number in [0, 1]" in capsys.readouterr().err


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("parallax ")


def test_every_setting_is_a_flag_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    shown = capsys.readouterr().out
    for name in Settings.model_fields:
        assert "--" + name.replace("_", "-") in shown
