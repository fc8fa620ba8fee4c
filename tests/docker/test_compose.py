"""What docker-compose.yml promises of every service in it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

each = pytest.mark.parametrize("name", SERVICES)


def mounts(service: dict[str, Any]) -> list[str]:
    return list(service.get("volumes", []))


@each
def test_nothing_can_gain_a_privilege_or_take_all_memory(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not {"privileged", "network_mode", "pid", "user", "cap_add"} & service.keys()


@each
def test_ports_are_this_machines_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@each
def test_what_is_mounted_from_here_exists_and_cannot_be_written_to(name: str) -> None:
    for mount in mounts(SERVICES[name]):
        source, _, mode = mount.replace(":-", "=").split(":")[0], None, mount.rpartition(":")[2]
        if source in COMPOSE["volumes"]:
            continue
        assert mode == "ro", mount
        place = source.split("=")[-1].rstrip("}")
        assert (ROOT / place).is_dir(), mount


@each
def test_images_are_ours_or_of_a_named_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    if image == "parallax-detect":
        assert tag in ("cpu", "gpu")
    else:
        assert tag.lstrip("v").count(".") == 2, "a version to the last digit, none that moves"
        assert "healthcheck" in SERVICES[name]  # ours have one in the image


@each
def test_what_it_waits_for_is_healthy(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        profiles = SERVICES[other].get("profiles", [])
        assert not profiles or profiles == SERVICES[name]["profiles"]


def test_one_of_cpu_and_gpu_runs_and_cpu_by_default() -> None:
    """`--profile` takes the place of COMPOSE_PROFILES, so the two never run side by side."""
    settings = (ROOT / ".env").read_text().splitlines()
    assert "COMPOSE_PROFILES=cpu" in settings
    by_profile = {
        profile: {
            name for name, service in SERVICES.items() if service.get("profiles") == [profile]
        }
        for profile in ("cpu", "gpu")
    }
    assert by_profile == {"cpu": {"parallax", "demo"}, "gpu": {"parallax-gpu", "demo-gpu"}}
    assert SERVICES["parallax-gpu"]["networks"]["default"]["aliases"] == ["parallax"]


def test_the_service_has_longer_to_end_than_it_takes() -> None:
    for name in ("parallax", "parallax-gpu"):
        given = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert given > Settings().grace_s


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not here")
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_takes_the_file(profile: str) -> None:
    done = subprocess.run(
        ("docker-compose", "--profile", profile, "config", "--quiet"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_prometheus_takes_its_files() -> None:
    done = subprocess.run(
        ("promtool", "check", "config", "docker/prometheus/prometheus.yml"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not here")
def test_alertmanager_takes_its_file() -> None:
    done = subprocess.run(
        ("amtool", "check-config", "docker/alertmanager/alertmanager.yml"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_asks_the_services_of_the_file_and_tells_alertmanager() -> None:
    config = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    asked = [
        target
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    told = [
        target
        for manager in config["alerting"]["alertmanagers"]
        for group in manager["static_configs"]
        for target in group["targets"]
    ]
    ports = {
        name: service["ports"][0].rpartition(":")[2]
        for name, service in SERVICES.items()
        if "ports" in service
    }
    for target in (*asked, *told):
        host, _, port = target.partition(":")
        assert ports["prometheus" if host == "localhost" else host] == port, target


def test_grafana_finds_its_data_and_its_boards() -> None:
    folder = ROOT / "docker" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards" / "parallax.yml").read_text())["providers"]
    targets = [mount.split(":")[1] for mount in mounts(SERVICES["grafana"])]
    assert provider["options"]["path"] in targets
