"""Settings: the order of sources, and a clear refusal of everything else."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import SettingsRefused
from service.settings import Settings, load_settings


def test_defaults_are_valid_and_described() -> None:
    settings = load_settings()
    assert settings.port == 8080
    assert settings.models == Path("models")
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_flag_beats_variable_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARALLAX_PORT", "9000")
    monkeypatch.setenv("PARALLAX_MAX_BATCH", "8")
    settings = load_settings({"port": "9001"})
    assert (settings.port, settings.max_batch) == (9001, 8)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]  # that it is refused is the test


@pytest.mark.parametrize(
    ("variable", "value", "said", "hint"),
    [
        ("PARALLAX_PROT", "1", "unknown variable PARALLAX_PROT", "did you mean PARALLAX_PORT?"),
        ("PARALLAX_QQQQQQ", "1", "unknown variable PARALLAX_QQQQQQ", "--help"),
        ("PARALLAX_SERVICE_HOST", "tcp://10.0.0.1", "unknown variable", "enableServiceLinks"),
        ("PARALLAX_PORT", "tcp://10.0.0.1:80", "setting port='tcp:", "enableServiceLinks"),
        ("PARALLAX_PORT", "many", "setting port='many'", "--help"),
        ("PARALLAX_PROVIDER", "tpu", "setting provider='tpu'", "--help"),
        ("PARALLAX_MAX_PENDING", "10", "exceeds max_pending (10)", "--help"),
        ("PARALLAX_MAX_HELD_BYTES", "10", "exceeds max_held_bytes (10)", "--help"),
        ("PARALLAX_POLICY", "always", "setting policy='always'", "--help"),
        ("PARALLAX_FPR", "1", "setting fpr='1'", "--help"),
        ("PARALLAX_HOST", "", "setting host=''", "--help"),
        ("PARALLAX_DEFAULT_MODEL", "", "setting default_model=''", "--help"),
        ("PARALLAX_RATE_LIMIT", "5", "set api_keys, too", "--help"),
        ("PARALLAX_RATE_LIMIT", "0", "setting rate_limit='0'", "--help"),
        ("PARALLAX_RATE_LIMIT", "inf", "setting rate_limit='inf'", "--help"),
        ("PARALLAX_RATE_BURST", "100", "limits nothing", "--help"),
        ("PARALLAX_DISCLOSE", "nothing", "setting disclose='nothing'", "--help"),
        ("PARALLAX_LOG_FORMAT", "xml", "setting log_format='xml'", "--help"),
    ],
)
def test_unusable_variable_is_refused_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str, hint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsRefused) as caught:
        load_settings()
    assert said in str(caught.value)
    assert hint in caught.value.hint


def test_the_largest_request_fits_into_a_burst() -> None:
    limited = {"api_keys": "keys", "rate_limit": "5", "rate_burst": "63"}
    with pytest.raises(SettingsRefused, match=r"exceeds rate_burst \(63\)"):
        load_settings(limited)
    assert load_settings(limited | {"max_images": "63"}).rate_burst == 63


def test_unknown_flag_is_refused() -> None:
    with pytest.raises(SettingsRefused, match="prot"):
        load_settings({"prot": 1})
