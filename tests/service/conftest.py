"""Fixtures around the toy model of `tests.service.toy`: its folder, settings, app and client."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.toy import ToyFolder

# a busy machine is no failure
hypothesis_settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("unhurried")

MakeSettings = Callable[..., Settings]


@pytest.fixture
def toy(tmp_path: Path) -> ToyFolder:
    """A valid folder, models/toy/1."""
    return ToyFolder(tmp_path / "models").write()


@pytest.fixture
def settings_of(tmp_path: Path) -> MakeSettings:
    """Settings for the toy's directory, on the CPU."""

    def make(**values: Any) -> Settings:
        defaults: dict[str, Any] = {"models": tmp_path / "models", "provider": "cpu"}
        return Settings(**(defaults | {"threads": 1, "runs": 1} | values))

    return make


@pytest.fixture
def app(toy: ToyFolder, settings_of: MakeSettings) -> FastAPI:
    return create_app(settings_of())


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
