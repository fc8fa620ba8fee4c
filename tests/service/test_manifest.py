"""The contract: what is refused, what survives the file, what a crash leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

from service import manifest as contract
from service.errors import ModelRefused
from service.manifest import (
    FileEntry,
    ThreatModel,
    file_entry,
    parse_eps,
    read_manifest,
    sha256_file,
    write_manifest,
)
from tests.service.toy import ToyFolder


@pytest.mark.parametrize(
    ("text", "value"), [("0.3", 0.3), ("8/255", 8 / 255), ("1e-2", 0.01), (" 4 / 255 ", 4 / 255)]
)
def test_eps_is_a_number_or_a_fraction(text: str, value: float) -> None:
    assert parse_eps(text) == value
    assert ThreatModel(norm="l2", eps=text).eps_value == value


@pytest.mark.parametrize("text", ["", "eight", "8/0", "8/", "-0.1", "0", "nan", "inf", "1/2/3"])
def test_eps_refuses_what_is_no_distance(text: str) -> None:
    with pytest.raises(ValueError, match="is not a distance"):
        parse_eps(text)


def test_manifest_survives_the_file(toy: ToyFolder) -> None:
    manifest = read_manifest(toy.path)
    assert manifest == toy.manifest()
    assert manifest.input.shape == (1, 4, 4)
    assert manifest.threat_model.eps_value == pytest.approx(8 / 255)
    assert manifest.decision.threshold == 0.5
    assert manifest.decision.temperatures.robust == 1.0


FITTED = {"value": 0.5, "interval": [0.0, 0.1]}


def calibrated(thresholds: dict[str, Any], **histogram: list[Any]) -> dict[str, Any]:
    """A decision with thresholds and what belongs to them."""
    return {
        "thresholds": thresholds,
        "calibration": {
            "dataset": "toys",
            "n_images": 3,
            "sha256": "0" * 64,
            "created": "2026-01-01T00:00:00Z",
            "histogram": {"edges": [0.0, 0.5, 1.0], "counts": [2, 1]} | histogram,
        },
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 1}, "schema_version: Input should be 2"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"name": "../etc"}, "name: String should match pattern"),
        ({"name": "Upper"}, "name: String should match pattern"),
        ({"version": 0}, "version: Input should be greater than 0"),
        ({"created": "2025-01-02T00:00:00"}, "created: Input should have timezone"),
        ({"labels": ["one"]}, "labels: Tuple should have at least 2 items"),
        ({"labels": ["a", "a"]}, "labels holds a class name twice"),
        ({"files": {}}, "files lacks model.onnx, golden.npz"),
        ({"files": {"../x": {"sha256": "0" * 64, "size": 1}}}, "String should match pattern"),
        ({"input": {"channels": 2, "height": 4, "width": 4}}, "input.channels"),
        (
            {"input": {"channels": 1, "height": 4, "width": 4, "range": [0, 255]}},
            "is not \\[0, 1\\]",
        ),
        ({"threat_model": {"norm": "l1", "eps": "0.3"}}, "threat_model.norm"),
        ({"threat_model": {"norm": "l2", "eps": "much"}}, "threat_model.eps"),
        ({"precision": "int4"}, "precision"),
        ({"decision": {"threshold": 1.5}}, "decision.threshold"),
        ({"decision": {"rule": "eq12"}}, "decision.rule: Extra inputs"),
        ({"decision": {"policy": "score"}}, "policy score needs a default rate"),
        ({"decision": {"fpr": "0.01"}}, "no threshold for the default rate 0.01"),
        ({"decision": {"fpr": "1 %"}}, "decision.fpr"),
        ({"decision": {"score": "head"}}, "files lacks detector.npz"),
        ({"decision": {"thresholds": {"0.01": FITTED}}}, "without the images they belong to"),
        ({"decision": calibrated({"0.01": FITTED | {"value": 0.1}, "0.05": FITTED})}, "higher"),
        ({"decision": calibrated({"0.01": FITTED | {"per_class": [0.5]}})}, "for each label"),
        ({"decision": calibrated({}, counts=[1])}, "3 edges need 2 counts"),
        ({"decision": calibrated({"0.01": FITTED | {"per_class": []}})}, "for each label"),
        (
            {
                "decision": calibrated(
                    {
                        "0.01": FITTED | {"per_class": [0.5, 0.4, 0.5]},
                        "0.05": FITTED | {"per_class": [0.5, 0.5, 0.5]},
                    }
                )
            },
            "per_class of rate 0.05 has a higher threshold than a lower rate",
        ),
        ({"decision": calibrated({}, counts=[0, 0])}, "counts hold no image"),
        ({"decision": calibrated({}, edges=[0.0, 0.5, 0.5])}, "edges do not rise"),
        ({"decision": {"temperatures": {"robust": 0}}}, "decision.temperatures.robust"),
        ({"name": "", "version": 0}, "and 1 more"),
    ],
)
def test_broken_promise_is_refused_with_its_place(
    toy: ToyFolder, change: dict[str, Any], reason: str
) -> None:
    values = toy.manifest().model_dump(mode="json") | change
    (toy.path / contract.MANIFEST_FILE).write_text(json.dumps(values))
    with pytest.raises(ModelRefused, match=reason):
        read_manifest(toy.path)


def test_manifest_cannot_list_itself(toy: ToyFolder) -> None:
    entry = FileEntry(sha256="0" * 64, size=1)
    toy.changes["files"] = dict(toy.manifest().files) | {contract.MANIFEST_FILE: entry}
    with pytest.raises(ValueError, match="cannot hold its own hash"):
        toy.manifest()


@pytest.mark.parametrize(
    ("data", "reason"), [(b"{", "Invalid JSON"), (b"\xff\xfe", "not UTF-8"), (b"[]", "an object")]
)
def test_what_is_no_json_is_refused(toy: ToyFolder, data: bytes, reason: str) -> None:
    (toy.path / contract.MANIFEST_FILE).write_bytes(data)
    with pytest.raises(ModelRefused, match=reason):
        read_manifest(toy.path)


def test_absent_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="No such file"):
        read_manifest(tmp_path)


def test_failed_write_leaves_the_old_file(toy: ToyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (toy.path / contract.MANIFEST_FILE).read_bytes()

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full_disk)
    toy.changes["description"] = "another"
    with pytest.raises(OSError, match="no space"):
        write_manifest(toy.manifest(), toy.path)
    assert (toy.path / contract.MANIFEST_FILE).read_bytes() == before
    assert sorted(path.name for path in toy.path.iterdir()) == sorted(
        (contract.GOLDEN_FILE, contract.MANIFEST_FILE, contract.MODEL_FILE)
    )


def test_hash_is_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * (3 << 20))
    assert sha256_file(path) == file_entry(path).sha256
    assert file_entry(path).size == 3 << 20
    path.write_bytes(b"")
    assert sha256_file(path).startswith("e3b0c44298fc1c149afbf4c8996fb924")
