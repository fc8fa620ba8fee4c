"""The compose file as `docker compose up` starts it: watched, alerted on, and sent images.

Where Grafana's image cannot be had, it is left out; Debian has no package to stand in for it.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
import yaml

from docker.test.conftest import ROOT
from docker.test.containers import ask
from docker.test.engine import Engine, run

T = TypeVar("T")

PROJECT = "parallax-under-test"
WITHIN_S = 90.0
PORTS = {"PARALLAX_PORT": 8080, "PROMETHEUS_PORT": 9090, "ALERTMANAGER_PORT": 9093}


class Stack:
    """What is running, by its addresses on this machine."""

    def __init__(self, engine: Engine, absent: list[str], folder: Path) -> None:
        self.ports = {name: _free_port() for name in (*PORTS, "GRAFANA_PORT")}
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self.left_out = [name for name, of in services.items() if of["image"] in absent]
        without = {"services": {name: {"profiles": ["never"]} for name in self.left_out}}
        override = folder / "without.yml"
        override.write_text(yaml.safe_dump(without))
        self._command = (
            *engine.compose,
            *("--project-name", PROJECT, "--project-directory", str(ROOT)),
            *("--file", str(ROOT / "docker-compose.yml"), "--file", str(override)),
        )

    def __call__(self, *arguments: str) -> str:
        environment = {name: str(port) for name, port in self.ports.items()}
        return run((*self._command, *arguments), 300, environment=environment)

    def get(self, port: str, path: str) -> Any:
        """The JSON at a path of a service.

        Raises:
            OSError, ValueError: nobody answers, or something else.
        """
        status, body = ask(f"http://127.0.0.1:{self.ports[port]}{path}")
        if status != 200:
            raise ValueError(f"{path}: {status}")
        return json.loads(body)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus makes of an expression, now."""
        answer = self.get("PROMETHEUS_PORT", f"/api/v1/query?query={quote(expression)}")
        return list(answer["data"]["result"])


@pytest.fixture(scope="module")
def stack(
    engine: Engine, absent: list[str], cpu_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    started = Stack(engine, absent, tmp_path_factory.mktemp("compose"))
    try:
        started("up", "--detach", "--no-build")
        yield started
    finally:
        started("down", "--volumes", "--timeout", "40")


def eventually(look: Callable[[], T]) -> T:
    """The first true thing that is seen; what is waited for is told by nobody."""
    ends = time.monotonic() + WITHIN_S
    while True:
        with suppress(OSError, ValueError):
            if seen := look():
                return seen
        assert time.monotonic() < ends, "did not happen in time"
        time.sleep(0.5)


def test_prometheus_scrapes_the_service(stack: Stack) -> None:
    def up() -> bool:
        targets = stack.get("PROMETHEUS_PORT", "/api/v1/targets")["data"]["activeTargets"]
        health = {target["labels"]["job"]: target["health"] for target in targets}
        return health == {"parallax": "up", "prometheus": "up", "alertmanager": "up"}

    assert eventually(up)
    assert eventually(lambda: stack.query('parallax_model_info{job="parallax"}'))


def test_prometheus_knows_every_rule(stack: Stack) -> None:
    files = sorted((ROOT / "docker" / "prometheus" / "rules").glob("*.yml"))
    written = {
        rule.get("alert") or rule["record"]
        for file in files
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    }
    assert written
    eventually(lambda: stack.get("PROMETHEUS_PORT", "/api/v1/status/runtimeinfo"))
    groups = stack.get("PROMETHEUS_PORT", "/api/v1/rules")["data"]["groups"]
    known = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert known.keys() == written
    assert "err" not in known.values()


def test_prometheus_knows_where_alerts_go(stack: Stack) -> None:
    found = stack.get("PROMETHEUS_PORT", "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    assert [manager["url"] for manager in found] == ["http://alertmanager:9093/api/v2/alerts"]
    assert stack.get("ALERTMANAGER_PORT", "/api/v2/status")["config"]["original"]


def test_the_demonstration_sends_natural_and_attacked_images(stack: Stack) -> None:
    """It attacks half a minute after its start; by then the board shows both."""
    assert eventually(lambda: stack.query('parallax_images_total{verdict="accept"} > 0'))
    assert eventually(lambda: stack.query('parallax_images_total{verdict="corrected"} > 0'))
    assert eventually(lambda: stack.query("parallax_detections_total > 0"))


def test_the_service_is_reached_from_this_machine(stack: Stack) -> None:
    assert stack.get("PARALLAX_PORT", "/health/ready")["status"] == "ready"


def test_all_that_was_started_runs_confined(stack: Stack, engine: Engine) -> None:
    containers = stack("ps", "--quiet").split()
    services = {}
    for container in containers:
        seen = engine.inspect(container)
        services[seen["Config"]["Labels"]["com.docker.compose.service"]] = seen
    assert {"parallax", "demo", "prometheus", "alertmanager"} <= services.keys()
    assert not {"parallax-gpu", "demo-gpu", *stack.left_out} & services.keys()
    for name, seen in services.items():
        assert seen["State"]["Running"], name
        assert seen["RestartCount"] == 0, name
        assert seen["HostConfig"]["ReadonlyRootfs"], name
        assert seen["HostConfig"]["CapDrop"] == ["ALL"], name
        assert seen["HostConfig"]["Memory"] > 0, name
        assert seen["Config"]["User"] not in ("", "0", "root"), name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
