"""The servers that ours is held against: how each is started, asked and set up best.

Each gets the same ONNX file and one PNG a request, in the form that it takes best. Access logs are
off and variants are tried before anything is measured, both in their favour.
"""

import json
import os
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from tests.bench import wire
from tests.bench.contestants import PEERS, Contestant, Kind, Labels, Samples

FRAMEWORKS = ("LitServe", "BentoML", "MLServer")
PLAIN = "thirty lines"


def plain(python: Path, model: Path, shown: Samples, *, workers: int = 1) -> Contestant:
    """The thirty-line server: the file is the body."""
    requests = [wire.png("/detect", one) for one in shown.files]
    command = [str(python), "-m", "uvicorn", "plain:app", "--port", "{port}"]
    command += ["--log-level", "warning", "--no-access-log", "--workers", str(workers)]
    return Contestant(
        name=PLAIN,
        command=tuple(command),
        kinds=(Kind("PNG", tuple(requests), shown.labels, _label),),
        ready="/ready",
        processes=workers,
        env=_env(model),
        variants=_variants({}),
    )


def litserve(python: Path, model: Path, shown: Samples) -> Contestant:
    """LitServe reads JSON."""
    requests = [wire.document("/detect", {"image": wire.text(one)}) for one in shown.files]
    return Contestant(
        name="LitServe",
        command=(str(python), str(PEERS / "litserve_server.py")),
        kinds=(Kind("PNG in JSON", tuple(requests), shown.labels, _label),),
        ready="/health",
        env={**_env(model), "PORT": "{port}"},
        variants=_variants(
            {"MAX_BATCH": "32", "DELAY_MS": "0", "FAST_QUEUE": "0"},
            {"MAX_BATCH": "32", "DELAY_MS": "2", "FAST_QUEUE": "0"},
            {"MAX_BATCH": "32", "DELAY_MS": "0", "FAST_QUEUE": "1"},
            {"MAX_BATCH": "32", "DELAY_MS": "2", "FAST_QUEUE": "1"},
        ),
    )


def bentoml(python: Path, model: Path, shown: Samples) -> Contestant:
    """BentoML's batching endpoint takes a list, here of one image."""
    requests = [wire.document("/detect", {"images": [wire.text(one)]}) for one in shown.files]
    command = [str(python), "-m", "bentoml", "serve", "bentoml_service:Judge", "--quiet"]
    command += ["--working-dir", str(PEERS), "--host", "127.0.0.1", "--port", "{port}"]
    return Contestant(
        name="BentoML",
        command=tuple(command),
        kinds=(Kind("PNG in JSON", tuple(requests), shown.labels, _labels),),
        ready="/readyz",
        env={**_env(model), "BENTOML_DO_NOT_TRACK": "1"},
        variants=_variants(
            {"MAX_BATCH": "32", "MAX_LATENCY_MS": "1000"},
            {"MAX_BATCH": "32", "MAX_LATENCY_MS": "100"},
            {"MAX_BATCH": "1", "MAX_LATENCY_MS": "0"},
        ),
    )


def mlserver(python: Path, model: Path, shown: Samples) -> Contestant:
    """MLServer's REST reads v2 in JSON alone, where a PNG in base64 is shorter than its pixels."""
    requests = [wire.document("/v2/models/mnist/infer", _v2(one)) for one in shown.files]
    env = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{grpc_port}",
        "MLSERVER_METRICS_PORT": "{metrics_port}",
        "MLSERVER_METRICS_DIR": "{folder}",
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
    }
    return Contestant(
        name="MLServer",
        command=(str(python.with_name("mlserver")), "start", str(PEERS / "mlserver_model")),
        kinds=(Kind("v2 JSON, PNG in BYTES", tuple(requests), shown.labels, _output),),
        ready="/v2/models/mnist/ready",
        env={**_env(model), **env},
        variants=_variants(
            {"MLSERVER_MODEL_MAX_BATCH_SIZE": "32", "MLSERVER_MODEL_MAX_BATCH_TIME": "0.02"},
            {"MLSERVER_MODEL_MAX_BATCH_SIZE": "32", "MLSERVER_MODEL_MAX_BATCH_TIME": "0.002"},
            {"MLSERVER_MODEL_MAX_BATCH_SIZE": "0", "MLSERVER_MODEL_MAX_BATCH_TIME": "0"},
        ),
    )


def _v2(png: bytes) -> dict[str, Any]:
    image = {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [wire.text(png)],
    }
    return {"inputs": [image]}


def _label(answer: bytes) -> Labels:
    return (int(json.loads(answer)["label"]),)


def _labels(answer: bytes) -> Labels:
    return tuple(int(one["label"]) for one in json.loads(answer))


def _output(answer: bytes) -> Labels:
    return tuple(int(label) for label in json.loads(answer)["outputs"][0]["data"])


def _env(model: Path) -> dict[str, str]:
    return {"MODEL": str(model), "PYTHONPATH": str(PEERS)}


def _variants(*settings: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    """Each with one thread and with a thread for each CPU."""
    threads = sorted({1, len(os.sched_getaffinity(0))})
    pairs = product(threads, settings)
    return tuple({"THREADS": str(count), **setting} for count, setting in pairs)
