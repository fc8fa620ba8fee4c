"""The images as they run in production: confined, not root, and ended by SIGTERM."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from docker.test.conftest import ROOT, TARGETS, build
from docker.test.containers import CONFINED, Container, ask, running
from docker.test.engine import Engine

UID = "10001:10001"
MOST = {"cpu": 400e6}  # bytes
MEMORY = 256 << 20


def samples() -> Path:
    """Of the newest model that is shipped."""
    folders = (ROOT / "models" / "mnist").glob("[0-9]*/samples")
    return max(folders, key=lambda folder: int(folder.parent.name))


@pytest.fixture(scope="module")
def image(engine: Engine, absent: list[str], target: str) -> str:
    return build(engine, target)


@pytest.fixture
def container(engine: Engine, cpu_image: str) -> Iterator[Container]:
    """The CPU's, confined as far as it goes."""
    memory = ("--memory", str(MEMORY), "--memory-swap", str(MEMORY))
    with running(engine, cpu_image, *CONFINED, *memory) as started:
        started.wait_until_healthy()
        yield started


def test_what_an_image_says_of_itself(engine: Engine, image: str, target: str) -> None:
    seen = engine.inspect(image)
    config = seen["Config"]
    assert config["User"] == UID
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.title"] == "Parallax"
    assert seen["Size"] <= MOST.get(target, float("inf")), f"{seen['Size'] / 1e6:.0f} MB"


def test_nothing_of_the_package_index_is_left(engine: Engine, image: str) -> None:
    """Neither address nor authority, in any layer's command, variable or file of settings."""
    told = engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    told += json.dumps(engine.inspect(image)["Config"])
    assert "http" not in told
    assert "PIP" not in told
    looked = engine(
        *("run", "--rm", "--entrypoint", "python", image, "-c"),
        "import os; print(*map(os.path.exists, ['/etc/pip.conf', '/run/secrets']))",
    )
    assert looked.split() == ["False", "False"]


def test_the_service_image_holds_no_torch_and_no_training(engine: Engine, cpu_image: str) -> None:
    found = engine(
        *("run", "--rm", "--entrypoint", "python", cpu_image, "-c"),
        "from importlib.util import find_spec;"
        "print(*[n for n in ('service', 'training', 'torch', 'pip') if find_spec(n)])",
    )
    # pip is the base image's, out of the reach of the service's own interpreter.
    assert found.split() == ["service"]
    programs = engine("run", "--rm", "--entrypoint", "ls", cpu_image, "/opt/parallax/bin")
    assert programs.split() == ["parallax"]


def test_images_are_judged_in_a_confined_container(container: Container) -> None:
    for kind, verdict in (("natural", "accept"), ("attacked", "corrected")):
        body = (samples() / kind / "00002.png").read_bytes()
        status, answer = ask(f"{container.url}/detect", body)
        assert (status, json.loads(answer)["verdict"]) == (200, verdict)
    host = container.engine.inspect("parallax-under-test")["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["Memory"] == MEMORY


def test_its_process_has_no_privilege_and_no_place_to_write(container: Container) -> None:
    assert container.python("import os; print(os.getuid(), os.getgid())") == "10001 10001"
    status = container.python("print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    for place in ("/opt/parallax", "/models", "/etc"):
        tried = f"try: open('{place}/x', 'w')\nexcept OSError as error: print(error.strerror)"
        assert container.python(tried) == "Read-only file system"
    assert container.python("open('/tmp/x', 'w').write('y'); print('written')") == "written"


def test_every_module_that_runs_has_its_bytecode(container: Container) -> None:
    """What is compiled at the start can't be kept, and is compiled again at the next."""
    bare = container.python(
        "import sys, service.cli, uvicorn.loops.uvloop, uvicorn.protocols.http.httptools_impl\n"
        "import os\n"
        "print(*[n for n, m in sys.modules.items() if getattr(m, '__cached__', None)"
        " and str(m.__file__).endswith('.py') and not os.path.exists(m.__cached__)])"
    )
    assert bare == ""


def test_sigterm_ends_it_in_order(container: Container) -> None:
    ask(f"{container.url}/health/live")
    ended = container.stop()
    assert (ended["ExitCode"], ended["OOMKilled"], ended["Error"]) == (0, False, "")
    entries = [json.loads(line) for line in container.log().splitlines() if line.startswith("{")]
    assert any(entry.get("route") == "/health/live" for entry in entries)
    assert [entry for entry in entries if entry["level"] not in ("debug", "info")] == []


def test_bad_settings_end_it_with_a_reason(engine: Engine, cpu_image: str) -> None:
    command = (engine.docker, "run", "--rm", "--env", "PARALLAX_MODELS=/nowhere", cpu_image)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode not in (0, 125, 126, 127)
    assert "/nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_healthy_with_keys_and_another_port(
    engine: Engine, cpu_image: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef0123456789abcdef\n")
    keys.chmod(0o444)
    tmp_path.chmod(0o755)
    flags = (
        *("--volume", f"{keys}:/keys:ro", "--env", "PARALLAX_API_KEYS=/keys"),
        *("--publish", "127.0.0.1::9000", "--env", "PARALLAX_PORT=9000"),
    )
    with running(engine, cpu_image, *CONFINED, *flags) as container:
        container.wait_until_healthy()
        where = engine("port", "parallax-under-test", "9000").splitlines()[0]
        assert ask(f"http://{where}/models")[0] == 401


def test_one_that_is_not_ready_is_not_healthy(engine: Engine, cpu_image: str) -> None:
    """The check itself, in a container where nobody listens."""
    command = ("run", "--rm", "--entrypoint", "python", cpu_image, "/opt/parallax/healthcheck.py")
    done = subprocess.run((engine.docker, *command), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert "refused" in done.stdout


@pytest.mark.skipif("gpu" not in TARGETS, reason="needs IMAGES to name gpu: gigabytes")
def test_the_gpu_image_lacks_nothing_but_the_driver(engine: Engine, absent: list[str]) -> None:
    """Run without a GPU: it answers on the CPU, and CUDA's libraries are all found."""
    image = build(engine, "gpu")
    assert "CPUExecutionProvider" in engine("run", "--rm", image, "models")
    loaded = engine(
        *("run", "--rm", "--entrypoint", "python", image, "-c"),
        "import ctypes, onnxruntime\n"
        "onnxruntime.preload_dlls()\n"
        "print(*map(ctypes.CDLL, ['libcublasLt.so.13', 'libcublas.so.13', 'libcudart.so.13',"
        " 'libcurand.so.10', 'libcufft.so.12', 'libcudnn.so.9']))",
    )
    assert loaded.count("CDLL") == 6


@pytest.mark.skipif("training" not in TARGETS, reason="needs IMAGES to name training: gigabytes")
def test_the_training_image_trains(engine: Engine, absent: list[str], tmp_path: Path) -> None:
    """A step on noise, from a folder of images to a checkpoint, and all modules can be had."""
    image = build(engine, "training")
    for part in ("train", "test"):
        for label in "01":
            (tmp_path / "data" / part / label).mkdir(parents=True)
            for number in range(24):
                noise = Image.frombytes("L", (28, 28), os.urandom(28 * 28))
                noise.save(tmp_path / "data" / part / label / f"{number}.png")
    for folder in (tmp_path, *tmp_path.rglob("*")):
        folder.chmod(0o777)
    engine(
        *("run", "--rm", *CONFINED, "--volume", f"{tmp_path}:/work", image, "train"),
        *("/opt/parallax/lib/training/configs/mnist-fast.toml", "--run", "runs/noise"),
        *("data.source=imagefolder:data", "data.validation=8", "data.calibration=8"),
        *("optimizer.epochs=1", "optimizer.batch_size=8"),
        timeout=600,
    )
    assert list((tmp_path / "runs" / "noise").rglob("*.safetensors"))
    engine(
        *("run", "--rm", *CONFINED, "--entrypoint", "python", image, "-c"),
        "import importlib, pkgutil, training\n"
        "for module in pkgutil.walk_packages(training.__path__, 'training.'):\n"
        "    importlib.import_module(module.name)",
        timeout=300,
    )
