"""What an operator may set, as one frozen value. The only reader of the environment.

Each field is a variable `PARALLAX_<NAME>` and a flag `--<name>`; a flag beats a variable beats the
default. An unknown variable or a value of the wrong kind stops the start: a setting that is
silently ignored is worse than none. Knows nothing of what the settings are used for.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsRefused
from service.manifest import Policy

Disclosure = Literal["full", "verdict"]

PREFIX = "PARALLAX_"

_HELP = "`parallax serve --help` lists all settings and what they take"


class Settings(BaseSettings):
    """Descriptions are the help texts of the command line."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    # where
    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for all"
    )
    port: int = Field(8080, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one")
    models: Path = Field(Path("models"), description="directory with NAME/VERSION/ model folders")
    default_model: str | None = Field(
        None,
        min_length=1,
        description="NAME or NAME/VERSION that answers where none is named; else the first name",
    )
    reload_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="seconds between looks for changed model folders; 0 looks on SIGHUP only",
    )

    # who may ask
    api_keys: Path | None = Field(
        None, description="file of API keys, KEY or NAME:KEY a line; else anybody may ask"
    )
    rate_limit: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="images a second of one API key; beyond it 429"
    )
    rate_burst: int | None = Field(
        None,
        ge=1,
        description="images of one API key at once; else a second's, at least max_images",
    )

    # how it is judged
    policy: Policy | None = Field(
        None, description="policy where ?policy= is absent; else each model's own"
    )
    fpr: float | None = Field(
        None, gt=0, lt=1, description="target false-alarm rate where ?fpr= is absent, of all models"
    )

    # on what
    provider: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="execution provider; auto takes CUDA where it works, cuda insists on it"
    )
    threads: int | None = Field(
        None, ge=1, description="threads of one run; else 1 for a light model, all CPUs for others"
    )
    runs: int | None = Field(
        None, ge=1, le=256, description="runs of a model at once; else the CPUs by the threads"
    )
    decode_threads: int | None = Field(
        None, ge=1, description="threads that decode images; else the CPUs this process may use"
    )

    cuda_graphs: bool = Field(
        False, description="repeat recorded CUDA graphs; for networks that lie on the GPU whole"
    )
    cache: Path | None = Field(
        None,
        description="directory for optimised networks: a faster start, and weights that processes "
        "share; who may write there decides what is served",
    )

    # how much at once
    max_batch: int = Field(32, ge=1, le=4096, description="images in one run of the model")
    max_delay_ms: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="wait for a fuller batch where requests come in company; 0 never waits",
    )
    max_pending: int = Field(
        1024, ge=1, description="images admitted at once per model; beyond it 429"
    )
    deadline_ms: float = Field(
        10_000.0, gt=0, description="time for a body (beyond it 408), and for its answer (504)"
    )

    # how large
    max_body_bytes: int = Field(32 << 20, ge=1, description="bytes of one request")
    max_held_bytes: int = Field(
        256 << 20, ge=1, description="bytes of all requests at once; beyond it 429"
    )
    max_image_bytes: int = Field(10 << 20, ge=1, description="bytes of one encoded image")
    max_pixels: int = Field(25_000_000, ge=1, description="pixels of one image, by its header")
    max_images: int = Field(64, ge=1, description="images of one request")

    # what is told
    disclose: Disclosure = Field(
        "full", description="verdict leaves out of answers what helps an attacker who probes"
    )
    metric_classes: int = Field(
        32, ge=1, description="classes with metric labels of their own; the rest are 'other'"
    )
    alert_window_s: float = Field(300.0, gt=0, description="seconds that the alarm rates look back")
    drift_window: int = Field(
        1000,
        ge=100,
        le=1_000_000,
        description="latest images whose scores are held against the calibration's",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="auto is pretty on a terminal, JSON lines elsewhere"
    )
    access_log: bool = Field(True, description="log one line a request, of level info")

    # how connections end
    keep_alive_s: int = Field(
        75, ge=0, description="seconds an idle connection stays open; longer than a balancer's"
    )
    grace_s: int = Field(30, ge=0, description="seconds to finish requests after SIGTERM")

    @model_validator(mode="after")
    def _whole_request_fits(self) -> Self:
        if self.max_body_bytes > self.max_held_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) exceeds max_held_bytes "
                f"({self.max_held_bytes}): the largest request could never be read"
            )
        if self.max_images > self.max_pending:
            raise ValueError(
                f"max_images ({self.max_images}) exceeds max_pending ({self.max_pending}): "
                "the largest request could never be admitted"
            )
        return self

    @model_validator(mode="after")
    def _limit_holds_for_somebody(self) -> Self:
        if self.rate_limit is not None and self.api_keys is None:
            raise ValueError("rate_limit is for each API key: set api_keys, too")
        if self.rate_burst is not None and self.rate_limit is None:
            raise ValueError("rate_burst without rate_limit limits nothing")
        if self.rate_burst is not None and self.rate_burst < self.max_images:
            raise ValueError(
                f"max_images ({self.max_images}) exceeds rate_burst ({self.rate_burst}): "
                "the largest request could never be let in"
            )
        return self


def load_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment, overridden by `flags` (field name to value).

    Raises:
        SettingsRefused: unknown variable or flag, or a value out of range; says which.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**(flags or {}))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        value = fault["input"]
        said = f"setting {name}={value!r}: {fault['msg']}" if name else fault["msg"]
        raise SettingsRefused(said, _hint(value)) from None


def _refuse_unknown_variables() -> None:
    known = [name.upper() for name in Settings.model_fields]
    for name, value in sorted(os.environ.items()):
        short = name.upper().removeprefix(PREFIX)
        if short != name.upper() and short not in known:
            near = get_close_matches(short, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else _HELP
            raise SettingsRefused(f"unknown variable {name}", _service_link(value) or hint)


def _hint(value: object) -> str:
    return _service_link(value) or _HELP


def _service_link(value: object) -> str | None:
    """Kubernetes announces a Service called `parallax` in variables that look like ours."""
    if isinstance(value, str) and value.startswith(("tcp://", "udp://")):
        return "this looks like a Kubernetes service link: set enableServiceLinks: false in the pod"
    return None
