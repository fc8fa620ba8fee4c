"""From a checkpoint to a model folder that the service accepts: ONNX, golden, manifest, card.

The one place where training reaches into `service`, and only for the manifest. Everything is
written to a folder beside the target and renamed into place after ONNX Runtime gave torch's
answers; nothing is left where that fails. It measures nothing: what `evaluate` and `calibrate`
found is copied. An int8 network comes from `quantise`, which measured it; here its figures decide
whether it is shipped.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from service import manifest as contract
from training import card, checkpoint, graph, int8_document, runtime
from training.checkpoint import AVERAGED, Checkpoint, CheckpointError, Header
from training.config import Way, faults, parse_eps
from training.errors import TrainingError
from training.files import new_folder, write_bytes, write_text
from training.graph import OneWayGraph, ThreeWayGraph
from training.objective import TRAINED_WAYS
from training.predict import WAYS

LOGIT_TOLERANCE = 1e-3
CARD_FILE = "CARD.md"
ESSENTIAL = ("accuracy_standard_natural", "false_alarm_rate")  # whatever else was measured
_GOLDEN_IMAGES = 8
_PARITY_IMAGES = 256
_ROUNDED = (
    "Kernels and matrices are rounded to half precision, and the rounded weights were measured."
)


class ExportError(TrainingError):
    """The model cannot be exported; nothing was written."""


def compare(path: Path, image: np.ndarray, expected: dict[str, np.ndarray]) -> contract.Parity:
    """ONNX Runtime against torch's outputs by name; those that start with `logits` are labelled.

    Raises:
        ExportError: an output is missing, a label differs, a logit is beyond LOGIT_TOLERANCE or a
            feature beyond it, absolutely and relatively: what the service will check again.
    """
    answers = runtime.run(path, image)
    if set(answers) != set(expected):
        raise ExportError(f"{path.name} has outputs {sorted(answers)}, not {sorted(expected)}")
    for name in expected:
        if name.startswith("logits"):
            continue
        if not np.allclose(answers[name], expected[name], LOGIT_TOLERANCE, LOGIT_TOLERANCE):
            worst = float(np.abs(answers[name] - expected[name]).max())
            raise ExportError(
                f"{path.name}: {name} of ONNX Runtime and torch differ by {worst:.2g}"
            )
    parity = _parity(answers, expected)
    difference, agreement = parity.max_abs_logit_difference, parity.label_agreement
    if agreement < 1.0 or difference > LOGIT_TOLERANCE:
        raise ExportError(
            f"{path.name}: ONNX Runtime and torch differ by {difference:.2g} in a logit "
            f"and agree on {agreement:.2%} of labels"
        )
    return parity


def _parity(answers: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> contract.Parity:
    labelled = [name for name in expected if name.startswith("logits")]
    same = [answers[name].argmax(1) == expected[name].argmax(1) for name in labelled]
    difference = max(float(np.abs(answers[n] - expected[n]).max()) for n in labelled)
    if not math.isfinite(difference):
        raise ExportError("ONNX Runtime answers with numbers that are not finite")
    return contract.Parity(
        onnxruntime_version=runtime.VERSION,
        n_inputs=len(expected[labelled[0]]),
        label_agreement=float(np.mean(same)),
        max_abs_logit_difference=difference,
    )


def probe_images(header: Header, count: int) -> Tensor:
    """Seeded images that belong to nobody: noise from fine to coarse, (count, C, H, W)."""
    shape = header.shape
    generator = torch.Generator().manual_seed(count)
    parts = []
    for index in range(count):
        scale = 2 ** (index % 4)
        size = (max(1, shape.height // scale), max(1, shape.width // scale))
        noise = torch.rand(1, shape.channels, *size, generator=generator)
        target = (shape.height, shape.width)
        parts.append(nn.functional.interpolate(noise, target, mode="bilinear", align_corners=False))
    return torch.cat(parts)


def export(
    source: Path,
    evaluation: Path,
    models: Path,
    *,
    name: str,
    version: int | None = None,
    calibration: Path | None = None,
    ways: Sequence[Way] = (),
    description: str = "",
    int8: Path | None = None,
) -> Path:
    """Write `models/name/version` (the next free version unless given) and return it.

    `source` is a checkpoint of a method that trains all three ways, and `evaluation` the JSON that
    `evaluate` wrote for these very weights, on test images and under the threat model that they
    were trained with. `calibration` is the JSON that `calibrate` wrote for them; without one the
    model knows Eq. 12 alone. `ways` asks for `robust.onnx`, ... with one output `logits` each.
    `int8` is the JSON that `quantise` wrote for them: the network beside it is shipped instead,
    with the evaluation and the calibration in there and not those of the float32 one.

    Raises:
        ExportError: a way was not trained, other weights or another threat model were evaluated or
            calibrated, the version exists, or ONNX differs from torch.
        ConfigError: `int8` is of other weights, or its network too far from the float32 one.
        CheckpointError: the checkpoint cannot be read.
        OutputError: the folder cannot be written.
    """
    try:
        TypeAdapter(contract.Name).validate_python(name)
    except ValidationError as error:
        raise ExportError(f"{name!r} is no name; use a-z, 0-9 and . _ - as in my-mnist") from error
    loaded = checkpoint.load(source)
    header = loaded.header
    if len(trained := TRAINED_WAYS[header.config.method]) < len(WAYS):
        raise ExportError(
            f"method {header.config.method} trains the {trained[0]} way alone: its ways cannot "
            "disagree, and a detector needs all three"
        )
    network = None
    if int8 is not None:
        if ways:
            raise ExportError("single ways are float32; export them without int8")
        read = int8_document.read(int8, header.weights_sha256)
        network, evaluation, calibration = read.network, int8, int8 if read.calibrated else None
    measured = _read_evaluation(evaluation, header)
    decision, head = contract.DecisionSpec(), None
    if calibration is not None:
        decision, head = _read_calibration(calibration, header)
    version = _next_version(models / name) if version is None else version
    target = models / name / str(version)
    if target.exists():
        raise ExportError(f"{target} exists; a version is never written twice")
    header = _portable(header)
    shipped = replace(checkpoint.weights_only(loaded), header=header)
    with new_folder(target) as draft:
        if network is None:
            parity = _write_graphs(draft, shipped, ways)
            _write_weights(draft, shipped)
        else:
            parity = _write_int8(draft, shipped, network)
        if head is not None:
            write_bytes(draft / contract.DETECTOR_FILE, head)
        try:
            manifest = contract.Manifest(
                name=name,
                version=version,
                created=datetime.now(UTC).replace(microsecond=0),
                description=description or f"{header.config.method} on {measured.dataset}",
                precision="float32" if network is None else "int8",
                files={path.name: contract.file_entry(path) for path in sorted(draft.iterdir())},
                input=contract.InputSpec.model_validate(vars(header.shape)),
                labels=header.classes,
                threat_model=contract.ThreatModel.model_validate(
                    # l2_sign is another way to search the very ball of l2.
                    {
                        "norm": header.config.attack.norm.removesuffix("_sign"),
                        "eps": header.config.attack.eps,
                    }
                ),
                decision=decision,
                evaluation=measured,
                provenance=_provenance(source, header),
                parity=parity,
            )
        except ValidationError as error:
            raise ExportError(f"the manifest would break the contract: {faults(error)}") from error
        write_text(draft / CARD_FILE, card.render(manifest.model_dump(mode="json")))
        contract.write_manifest(manifest, draft)
    return target


def _write_graphs(folder: Path, shipped: Checkpoint, ways: Sequence[Way]) -> contract.Parity:
    model = checkpoint.model_of(shipped)
    note = checkpoint.describe(shipped) if shipped.header.rounded else ""
    image = probe_images(shipped.header, _PARITY_IMAGES)
    with torch.no_grad():
        outputs = ThreeWayGraph(model)(image)
    expected = dict(zip(contract.OUTPUTS, (part.numpy() for part in outputs), strict=True))
    write = partial(graph.write, weights=shipped.averaged, image=image[:2], prefix=AVERAGED)
    path = folder / contract.MODEL_FILE
    write(ThreeWayGraph(model), path=path, outputs=contract.OUTPUTS, note=note)
    measured = compare(path, image.numpy(), expected)
    _write_golden(folder, image, expected)
    for way in ways:
        single = folder / f"{way}.onnx"
        write(OneWayGraph(model, way), path=single, outputs=["logits"])
        compare(single, image.numpy(), {"logits": expected[f"logits_{way}"]})
    return measured


def _write_int8(folder: Path, shipped: Checkpoint, network: bytes) -> contract.Parity:
    """The network with its own golden answers, and the weights that it was made of for torch."""
    image = probe_images(shipped.header, _PARITY_IMAGES)
    with torch.no_grad():
        outputs = ThreeWayGraph(checkpoint.model_of(shipped))(image)
    expected = dict(zip(contract.OUTPUTS, (part.numpy() for part in outputs), strict=True))
    path = folder / contract.MODEL_FILE
    write_bytes(path, network)
    answers = runtime.run(path, image.numpy())
    if set(answers) != set(expected):
        raise ExportError(f"the int8 network has outputs {sorted(answers)}, not {sorted(expected)}")
    _write_golden(folder, image, answers)
    checkpoint.save(folder / checkpoint.WEIGHTS_FILE, shipped)
    return _parity(answers, expected)


def _write_golden(folder: Path, image: Tensor, answers: dict[str, np.ndarray]) -> None:
    golden: dict[str, Any] = {key: values[:_GOLDEN_IMAGES] for key, values in answers.items()}
    np.savez(folder / contract.GOLDEN_FILE, image=image[:_GOLDEN_IMAGES].numpy(), **golden)


def _write_weights(folder: Path, shipped: Checkpoint) -> None:
    """A file for torch, unless the weights are rounded: then the graph is it, bit for bit."""
    if not shipped.header.rounded:
        checkpoint.save(folder / checkpoint.WEIGHTS_FILE, shipped)
        return
    try:
        checkpoint.load(folder / contract.MODEL_FILE)  # which compares the weights with their hash
    except CheckpointError as error:
        raise ExportError(f"the graph does not hold the weights whole: {error}") from error


def _portable(header: Header) -> Header:
    """Without the folders of the training machine; the images' hash tells which they were."""
    scheme, _, place = header.config.data.source.partition(":")
    data = replace(header.config.data, source=f"{scheme}:{Path(place).name}")
    return replace(header, config=replace(header.config, data=data))


def _provenance(source: Path, header: Header) -> contract.Provenance:
    hashes = {"train": header.data_sha256, "weights": header.weights_sha256}
    if header.rounded_from is not None:
        hashes["weights_before_rounding"] = header.rounded_from
    return contract.Provenance(
        commit="; ".join((*header.earlier, header.commit)),
        config=header.config.as_dict(),
        config_hash=header.config.digest(),
        seed=header.config.seed,
        checkpoint_sha256=contract.sha256_file(source),
        data_hashes=hashes,
        torch_version=header.torch,
        trained_on=header.device,
        duration_s=header.seconds,
    )


def _read_evaluation(path: Path, header: Header) -> contract.Evaluation:
    """The figures of the model's own attack on 8-bit images, the ones a service will see."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["weights_sha256"] != header.weights_sha256:
            raise ExportError(f"{path} is about other weights; evaluate this checkpoint first")
        result = next((part for part in document["results"] if _is_own(part, header)), None)
        if result is None or document["split"] != "test":
            attack = header.config.attack
            raise ExportError(
                f"{path} has no attack of {attack.norm} {attack.eps} on test images, "
                "what the model was trained against"
            )
        if absent := [name for name in ESSENTIAL if result["metrics"].get(name) is None]:
            raise ExportError(f"{path} does not say {' and '.join(absent)}")
        return contract.Evaluation(
            dataset=document["dataset"],
            split=document["split"],
            n_images=document["n_images"],
            metrics={
                name: value
                for name, value in result["metrics"].items()
                if value is not None and not name.startswith("threshold")  # for no use: see notes
            },
            notes=(
                f"Attack: {result['attack']['name']}, images rounded to 8 bits.",
                *((_ROUNDED,) if header.rounded else ()),
                *document["notes"],
            ),
        )
    except ExportError:
        raise
    except ValidationError as error:
        raise ExportError(f"{path} is not an evaluation: {faults(error)}") from error
    except FileNotFoundError as error:
        raise ExportError(f"there is no {path}; run `parallax-train evaluate` first") from error
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path} is not an evaluation ({error!r})") from error


def _read_calibration(path: Path, header: Header) -> tuple[contract.DecisionSpec, bytes | None]:
    """The decision, and the file of the detector head where the default score is `head`."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["weights_sha256"] != header.weights_sha256:
            raise ExportError(f"{path} is about other weights; calibrate this checkpoint first")
        decision = contract.DecisionSpec.model_validate(document["decision"])
        if decision.score != "head":
            return decision, None
        head = path.with_name(contract.DETECTOR_FILE)
        content = head.read_bytes()
        if hashlib.sha256(content).hexdigest() != document["detector_sha256"]:
            raise ExportError(f"{head} is not the head that {path} is about; calibrate again")
    except ExportError:
        raise
    except FileNotFoundError as error:
        raise ExportError(
            f"there is no {error.filename}; run `parallax-train calibrate` first"
        ) from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in ("decision", *fault["loc"]))
        raise ExportError(f"{path}: {place}: {fault['msg']}") from error
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path} is not a calibration ({error!r})") from error
    return decision, content


def _is_own(result: dict[str, Any], header: Header) -> bool:
    """Whether a result is of rounded images under the threat model of the training."""
    made, attack = result["attack"], header.config.attack
    same = made["norm"] == attack.norm and math.isclose(
        parse_eps(made["eps"]), parse_eps(attack.eps)
    )
    return same and result["inputs"] == "rounded"


def _next_version(folder: Path) -> int:
    present = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return max(present, default=0) + 1
