"""What the demonstration sends."""

import base64
import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from docker.demo.traffic import Request, Samples, draw, load_samples

ROOT = Path(__file__).parents[3]
SAMPLES = Samples(natural=(b"natural one", b"natural two"), attacked=(b"attacked",))


def requests(share: float, count: int = 2000) -> list[Request]:
    random = Random(1)
    return [draw(random, SAMPLES, share) for _ in range(count)]


def images(request: Request) -> list[bytes]:
    if request.content_type == "application/json":
        return [base64.b64decode(text) for text in json.loads(request.body)["images"]]
    return [request.body]


def test_each_image_is_of_the_kind_that_is_said() -> None:
    for request in requests(0.5):
        for kind, image in zip(request.kinds, images(request), strict=True):
            if kind == "broken":
                assert any(
                    whole.startswith(image) and whole != image
                    for whole in SAMPLES.natural + SAMPLES.attacked
                )
            else:
                assert image in getattr(SAMPLES, kind)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_share_of_attacks_is_the_wanted_one(share: float) -> None:
    kinds = Counter(kind for request in requests(share) for kind in request.kinds)
    whole = kinds["natural"] + kinds["attacked"]
    assert kinds["attacked"] / whole == pytest.approx(share, abs=0.03)


def test_every_panel_gets_something() -> None:
    """Several routes and policies, batches, and now and then something that is refused."""
    sent = requests(0.1)
    paths = {request.path for request in sent}
    assert {path.partition("?")[0] for path in paths} == {"/detect", "/classify"}
    assert any("policy=score" in path for path in paths)
    assert any("policy=strict" in path for path in paths)
    assert {len(request.kinds) for request in sent} == set(range(1, 9))
    assert 0 < sum("broken" in request.kinds for request in sent) < 100


def test_the_same_seed_sends_the_same() -> None:
    assert requests(0.5, 50) == requests(0.5, 50)


def test_the_shipped_samples_are_the_newest_versions() -> None:
    newest = max(int(folder.parent.name) for folder in (ROOT / "models/mnist").glob("*/samples"))
    folder = ROOT / "models" / "mnist" / str(newest) / "samples"
    found = load_samples(ROOT / "models", "mnist")
    assert found.natural == tuple(
        file.read_bytes() for file in sorted((folder / "natural").glob("*.png"))
    )
    assert len(found.attacked) >= 2


def test_a_version_without_samples_is_passed_over(tmp_path: Path) -> None:
    for version, kinds in ((2, ("natural", "attacked")), (9, ()), (10, ("natural",))):
        (tmp_path / "m" / str(version) / "samples").mkdir(parents=True)
        for kind in kinds:
            (tmp_path / "m" / str(version) / "samples" / kind).mkdir()
            (tmp_path / "m" / str(version) / "samples" / kind / "0.png").write_bytes(kind.encode())
    assert load_samples(tmp_path, "m") == Samples((b"natural",), (b"attacked",))
    with pytest.raises(FileNotFoundError, match="other"):
        load_samples(tmp_path, "other")
