"""The service takes the model of random weights, and it is made once."""

from pathlib import Path

import pytest

from service.repository import load_model
from tests.bench import heavy_model
from tests.bench.contestants import HEAVY


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy_model.models(tmp_path_factory.mktemp("cache") / "models", width=2)


@pytest.mark.slow
def test_the_service_takes_it(models: Path) -> None:
    loaded = load_model(models / HEAVY / "1", provider="cpu", threads=1)
    assert loaded.manifest.input.shape == (3, 32, 32)


@pytest.mark.slow
def test_it_is_made_once_and_anew_where_it_is_damaged(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: list[str] = []
    monkeypatch.setattr(heavy_model, "_export", lambda *given: exports.append("made"))
    heavy_model.models(models, width=2)
    assert exports == []
    (models / HEAVY / "1" / "manifest.json").write_text("{")
    heavy_model.models(models, width=2)
    assert exports == ["made"]


def test_it_is_asked_with_colour_images_of_its_size(tmp_path: Path) -> None:
    (kind,) = heavy_model.contestant(Path("python"), tmp_path).kinds
    assert len(set(kind.requests)) == 32
    assert kind.clients == (32,)
    assert kind.labels == (kind.read(b""),) * 32
