"""The examples of docs/protocol.md, run as they stand against the shipped model."""

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.manifest import InputSpec
from service.protocol.interface import inputs, outputs
from service.protocol.request import Parameters
from tests.service.served import Served, serving
from tests.service.toy import ToyFolder

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "protocol.md").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("page") / "models"  # beside which the server's log is written
    models.symlink_to(ROOT / "models")
    with serving(ToyFolder(models)) as server:
        yield server


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_curl_prints(server: Served) -> None:
    shown = re.findall(r"```console\n\$ (curl .*?)\n(\{.*?)\n```", PAGE, re.DOTALL)
    assert len(shown) == 1
    for command, printed in shown:
        command = command.replace("localhost:8080", f"localhost:{server.port}")
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout == printed


def test_what_python_prints(server: Served) -> None:
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(shown) == 1
    for script, printed in shown:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(script.replace("localhost:8080", f"127.0.0.1:{server.port}"), {})
        assert told.getvalue() == printed


def test_the_tables_are_the_interface() -> None:
    spec = InputSpec(channels=1, height=4, width=4)
    tensors = re.findall(r"^\| `(\w+)` \| (\w+) \| ([NKCHW, ]+) \|", PAGE, re.MULTILINE)
    told = {(name, kind, shape.count(",")) for name, kind, shape in tensors}
    specs = (*inputs(spec), *outputs(3))
    assert told == {(spec.name, spec.datatype, len(spec.shape) - 1) for spec in specs}
    table = PAGE.split("| parameter |")[1].split("\n\n")[0]
    parameters = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    assert parameters == set(Parameters.model_fields)
