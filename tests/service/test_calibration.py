"""Thresholds from files: what the service then flags, what is kept, and which sets are refused."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from service.calibration import Seen, Wanted, examine, image_files, recalibrated
from service.conformal import fit
from service.drift import binned
from service.errors import CalibrationRefused, FileUnreadable
from service.images import Limits
from service.manifest import DecisionSpec, Manifest
from service.repository import load_model
from tests.service.toy import (
    ATTACKED,
    NATURAL,
    ToyFolder,
    calibrated,
    encode,
    natural_images,
    pixels,
    toy_answers,
    toy_network,
)

NOW = datetime(2025, 3, 4, tzinfo=UTC)
LIMITS = Limits(1 << 20, 1 << 20)
WANTED = Wanted(data_name="toys")


def seen(n: int = 1000, **changes: object) -> Seen:
    """Scores as of the toy's calibration histogram: 80 % below 0.1, few above 0.6."""
    random = np.random.default_rng(0)
    low, high = np.array([0.0, 0.1, 0.3, 0.6]), np.array([0.1, 0.3, 0.6, 1.0])
    places = random.choice(4, n, p=[0.8, 0.1, 0.09, 0.01])
    values: dict[str, object] = {
        "scores": random.uniform(low[places], high[places]),
        "labels": np.arange(n) % 3,
        "flagged": np.zeros(n, np.bool_),
        "differ": np.zeros(n, np.bool_),
        "resized": 0,
        "repeated": 0,
        "sha256": "1" * 64,
    }
    return Seen(**(values | changes))  # type: ignore[arg-type]  # of the right kinds above


def toy_manifest(toy: ToyFolder, **changes: object) -> Manifest:
    toy.changes["decision"] = calibrated(**changes)
    return toy.manifest()


def test_thresholds_from_files_flag_what_the_service_scores(toy: ToyFolder, tmp_path: Path) -> None:
    files = natural_images(tmp_path / "natural", 300)
    model = load_model(toy.path, provider="cpu", threads=1)
    found = examine(model, files, LIMITS)
    assert found.scores.shape == found.labels.shape == (300,)
    assert set(found.labels.tolist()) == {0, 1, 2}
    manifest = recalibrated(model.manifest, found, WANTED, NOW)
    decision = manifest.decision
    assert list(decision.thresholds) == ["0.005", "0.01", "0.02", "0.05", "0.1"]
    assert decision.fpr == "0.01"
    assert decision.policy == "eq12"
    for rate, threshold in decision.thresholds.items():
        assert (found.scores > threshold.value).mean() <= float(rate)
        assert threshold.interval[0] < float(rate) < threshold.interval[1]
    kept = decision.calibration
    assert kept is not None
    assert (kept.dataset, kept.n_images, kept.created) == ("toys", 300, NOW)
    assert list(kept.histogram.counts) == binned(found.scores, kept.histogram.edges).tolist()
    assert any("a rate of 0.001 needs 999 images" in note for note in kept.notes)
    assert manifest.created == NOW
    assert manifest.files == model.manifest.files


def test_the_hash_is_of_the_files_in_any_order(toy: ToyFolder, tmp_path: Path) -> None:
    files = natural_images(tmp_path / "natural", 5)
    model = load_model(toy.path, provider="cpu", threads=1)
    first, again, fewer = (
        examine(model, some, LIMITS).sha256 for some in (files, files[::-1], files[1:])
    )
    assert first == again != fewer


def test_each_distinct_file_counts_once(toy: ToyFolder, tmp_path: Path) -> None:
    files = natural_images(tmp_path / "natural", 120)
    copies = [tmp_path / f"copy{number}.png" for number in range(3)]
    for copy in copies:
        copy.write_bytes(files[0].read_bytes())
    model = load_model(toy.path, provider="cpu", threads=1)
    once, again = (examine(model, some, LIMITS) for some in (files, [*copies, *files]))
    assert (once.repeated, again.repeated) == (0, 3)
    assert sorted(again.scores) == sorted(once.scores)
    assert again.sha256 == once.sha256
    kept = recalibrated(model.manifest, again, WANTED, NOW).decision.calibration
    assert kept is not None
    assert kept.n_images == 120
    assert "3 files repeat another and were left out." in kept.notes


def test_what_the_other_policies_do_to_these_images_is_noted(toy: ToyFolder) -> None:
    flagged, differ = np.zeros((2, 1000), np.bool_)
    flagged[:20] = differ[:40] = True
    found = seen(flagged=flagged, differ=differ, scores=np.linspace(0, 0.5, 1000))
    wanted = Wanted(data_name="toys", max_shift=1.0, note="by hand", policy="strict", fpr="0.05")
    manifest = recalibrated(toy_manifest(toy), found, wanted, NOW)
    assert (manifest.decision.policy, manifest.decision.fpr) == ("strict", "0.05")
    assert manifest.decision.calibration is not None
    notes = " ".join(manifest.decision.calibration.notes)
    assert "Eq. 12 flags 2.00%; strict at 0.05 rejects 8.90%." in notes  # 4 % + 49 of the largest
    assert "by hand" in notes
    assert "from those of that version" in notes


def test_a_threshold_for_each_class(toy: ToyFolder) -> None:
    wanted = Wanted(data_name="toys", per_class=True)
    found = seen()
    decision = recalibrated(toy_manifest(toy), found, wanted, NOW).decision
    expected = fit(found.scores, found.labels, classes=3).fitted
    assert list(decision.thresholds) == list(expected)
    assert decision.thresholds["0.1"].per_class == expected["0.1"].per_class


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [(None, None, "0.01"), ("0.1", None, "0.1"), ("0.1", "0.005", "0.005")],
)
def test_the_default_rate(
    toy: ToyFolder, before: str | None, asked: str | None, after: str
) -> None:
    wanted = Wanted(data_name="toys", fpr=asked)
    decision = recalibrated(toy_manifest(toy, fpr=before), seen(), wanted, NOW).decision
    assert decision.fpr == after


ONES = np.ones(1000, np.bool_)


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        (seen(99), WANTED, "99 images are too few; 100 is the least"),
        (seen(labels=np.ones(1000, np.intp)), WANTED, "one and the same class"),
        (seen(scores=np.full(1000, 0.99)), WANTED, "look attacked"),
        (seen(scores=np.linspace(0, 1, 1000)), WANTED, "Kolmogorov-Smirnov"),
        (seen(scores=np.full(1000, np.nan)), WANTED, "no number"),
        (
            *(seen(120, labels=np.array([0, 1] * 59 + [2] * 2)),),
            *(Wanted(data_name="toys", per_class=True), "of class 2 there are 2"),
        ),
        (seen(150), Wanted(data_name="toys", fpr="0.001"), "no threshold at the rate 0.001"),
    ],
)
def test_sets_that_cannot_calibrate(toy: ToyFolder, found: Seen, wanted: Wanted, said: str) -> None:
    with pytest.raises(CalibrationRefused, match=said):
        recalibrated(toy_manifest(toy), found, wanted, NOW)


@pytest.mark.parametrize("decision", [DecisionSpec(), calibrated()])
@pytest.mark.parametrize(
    ("alarms", "flagged", "said"),
    [
        ({}, 51, r"Eq\. 12 flags 5\.1% of the images, and 5\.0% is the most"),
        ({"false_alarm_rate": 0.004}, 51, r"5\.0% is the most"),
        ({"false_alarm_rate": 0.02}, 101, r"Eq\. 12 flags 10\.1% of the images, and 10\.0%"),
    ],
)
def test_eq12_tells_attacked_images(
    toy: ToyFolder, decision: DecisionSpec, alarms: dict[str, float], flagged: int, said: str
) -> None:
    toy.changes["decision"] = decision
    toy.changes["evaluation"] = toy.manifest().evaluation.model_copy(update={"metrics": alarms})
    found = seen(flagged=np.arange(1000) < flagged)
    with pytest.raises(CalibrationRefused, match=said):
        recalibrated(toy.manifest(), found, WANTED, NOW)
    with pytest.raises(CalibrationRefused, match="look attacked"):
        recalibrated(toy.manifest(), found, Wanted(data_name="toys", max_flagged=np.nan), NOW)
    for fewer, wanted in (
        (seen(flagged=np.arange(1000) < flagged - 1), WANTED),
        (found, Wanted(data_name="toys", max_flagged=0.2)),
    ):
        assert recalibrated(toy.manifest(), fewer, wanted, NOW).decision.thresholds


def test_a_distance_is_refused_where_the_bound_is_no_number(toy: ToyFolder) -> None:
    with pytest.raises(CalibrationRefused, match="Kolmogorov-Smirnov"):
        recalibrated(toy_manifest(toy), seen(), Wanted(data_name="toys", max_shift=np.nan), NOW)


def test_contamination_leaves_no_rate_that_flags_nothing(toy: ToyFolder) -> None:
    """Attacked images too few to be refused, with the highest score: rates below their share go."""
    found = seen()
    found.scores[:40] = 1.0
    decision = recalibrated(toy_manifest(toy), found, WANTED, NOW).decision
    assert list(decision.thresholds) == ["0.05", "0.1"]
    assert decision.fpr == "0.1"  # the old one's
    assert decision.calibration is not None
    assert any("Left out: a rate of 0.02 would have" in one for one in decision.calibration.notes)
    with pytest.raises(CalibrationRefused, match=r"rate 0\.01: a rate of 0\.01 would have"):
        recalibrated(toy_manifest(toy), found, Wanted(data_name="toys", fpr="0.01"), NOW)


@pytest.mark.parametrize("share", [0.2, 0.28, 0.6, 1.0])
def test_attacked_images_among_natural_ones_are_refused(toy: ToyFolder, share: float) -> None:
    found = seen()
    found.scores[: int(share * 1000)] = 0.999
    with pytest.raises(CalibrationRefused, match="look attacked"):
        recalibrated(toy_manifest(toy), found, WANTED, NOW)


def test_unreadable_images_are_named(toy: ToyFolder, tmp_path: Path) -> None:
    files = natural_images(tmp_path / "natural", 3)
    for i in range(7):
        files.append(tmp_path / f"bad{i}.png")
        files[-1].write_bytes(NATURAL[: -4 - i])
    model = load_model(toy.path, provider="cpu", threads=1)
    with pytest.raises(CalibrationRefused) as caught:
        examine(model, files, LIMITS)
    said = str(caught.value)
    assert "of 10 files 7 cannot be used" in said
    assert "bad4.png (the image ends too early" in said
    assert "bad5.png" not in said
    assert "and 2 more" in said


def test_an_image_without_a_finite_answer_is_named(tmp_path: Path) -> None:
    image = np.full((2, 1, 4, 4), 1.0, np.float32)
    arrays = {"image": image, **toy_answers(image)}
    folder = ToyFolder(tmp_path / "models").write(toy_network(poison=True), arrays)
    poisoned = pixels(1, 1, 1)
    poisoned[3, 3] = 0
    file = tmp_path / "black.png"
    file.write_bytes(encode(poisoned))
    with pytest.raises(CalibrationRefused, match=r"black\.png"):
        examine(load_model(folder.path, provider="cpu", threads=1), [file], LIMITS)


def test_resized_images_are_counted(toy: ToyFolder, tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(encode(pixels(1, 1, 1, size=8)))
    assert examine(load_model(toy.path, provider="cpu", threads=1), [file], LIMITS).resized == 1


def test_files_of_folders_are_found_once(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/c/3.png", "b/.hidden", "b/.cache/4.png", "1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(ATTACKED)
    found = image_files([tmp_path / "1.png", tmp_path / "b", tmp_path / "b" / "2.png"])
    assert [str(file.relative_to(tmp_path)) for file in found] == ["1.png", "b/2.png", "b/c/3.png"]
    with pytest.raises(FileUnreadable, match="no such file or folder"):
        image_files([tmp_path / "absent"])
