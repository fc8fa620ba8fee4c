"""What `calibrate` wrote, read back as the values that scores and flags are made of.

For stages that measure or refit; `export` has its own eyes for what goes into a manifest.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.conformal import Fitted
from service.mixture import Mixture
from service.scores import Head, Temperature
from training import arrays
from training.config import ConfigError
from training.decided import Decided

HEAD_FILE = "detector.npz"  # beside the document


@dataclass(frozen=True, kw_only=True)
class Basis:
    """A calibration: `decided` with the defaults that go with it, and the head's file."""

    decided: Decided
    policy: str
    fpr: str
    per_class: bool
    dataset: str
    head: bytes | None  # where the score is `head`


def read(path: Path, weights: str) -> Basis:
    """The calibration at `path`, of the weights with this hash.

    Raises:
        ConfigError: missing, no calibration, of other weights, or without its head.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["weights_sha256"] != weights:
            raise ConfigError(f"{path} is about other weights; calibrate this checkpoint first")
        decision = document["decision"]
        content = path.with_name(HEAD_FILE).read_bytes() if decision["score"] == "head" else None
        if content and hashlib.sha256(content).hexdigest() != document["detector_sha256"]:
            raise ConfigError(f"{HEAD_FILE} is not the head that {path} is about; calibrate again")
        thresholds = {
            rate: Fitted(
                one["value"],
                (one["interval"][0], one["interval"][1]),
                tuple(one["per_class"]) if one["per_class"] else None,
            )
            for rate, one in decision["thresholds"].items()
        }
        return Basis(
            decided=Decided(
                temperature=Temperature(**decision["temperatures"]),
                score=decision["score"],
                head=None if content is None else _head(content),
                thresholds=thresholds,
                mixture=Mixture(**decision["mixture"]),
            ),
            policy=decision["policy"],
            fpr=decision["fpr"],
            per_class=any(one.per_class for one in thresholds.values()),
            dataset=decision["calibration"]["dataset"],
            head=content,
        )
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {error.filename}; run `parallax-train calibrate` first"
        ) from error
    except (AttributeError, KeyError, *arrays.UNREADABLE) as error:
        raise ConfigError(f"{path} is not a calibration ({error!r})") from error


def _head(content: bytes) -> Head:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        values: dict[str, Any] = {name: file[name] for name in file.files}
    return Head(**values | {"output_bias": float(values["output_bias"])})
