"""What `quantise` leaves for `export`: names of files, and the network where it may be shipped."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import int8_figures
from training.config import ConfigError

STEM = "int8"  # of the files, and of their folder beside the checkpoint
NETWORK_FILE, JSON_FILE, TABLE_FILE = f"{STEM}.onnx", f"{STEM}.json", f"{STEM}.md"


@dataclass(frozen=True, kw_only=True)
class Int8:
    """`network` is an ONNX file; `calibrated` says whether the JSON has a decision as well."""

    network: bytes
    calibrated: bool


def read(path: Path, weights: str) -> Int8:
    """The network beside the JSON at `path`, which is about the weights with this hash.

    Raises:
        ConfigError: one of the two is missing, of other weights or of another network, or its
            figures are not good enough; the message has them.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["weights_sha256"] != weights:
            raise ConfigError(f"{path} is about other weights; quantise this checkpoint first")
        if found := int8_figures.faults(document):
            raise ConfigError(f"{path}: int8 is not near enough to float32: {'; '.join(found)}")
        place = path.with_name(NETWORK_FILE)
        content = place.read_bytes()
        if hashlib.sha256(content).hexdigest() != document["network_sha256"]:
            raise ConfigError(f"{place} is not the network that {path} is about; quantise again")
        return Int8(network=content, calibrated=document["decision"] is not None)
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {error.filename}; run `parallax-train quantise` first"
        ) from error
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not what `quantise` writes ({error!r})") from error
