"""Sources as they lie on disk, good and damaged, and how they are cut."""

import gzip
import io
import json
import pickle
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import torchvision
from PIL import Image

from service.images import Limits, Upload, prepare
from service.manifest import InputSpec
from tests.training import tiny
from training import data
from training.config import DataConfig
from training.data import DataError, Images, to_float

NAMES = ("cat", "dog")


def config(source: str, **options: Any) -> DataConfig:
    return DataConfig(source=source, **{"validation": 1, "calibration": 1, **options})


def levels(seed: int, height: int = 4, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


def planes(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


# --- splits and pixels ---


def test_splits_are_disjoint_and_complete() -> None:
    train, test = tiny.images(20), tiny.images(5, seed=1)
    splits = data.split(train, test, config("x:y", validation=3, calibration=4))
    assert [len(splits.named(name)) for name in ("train", "validation", "calibration")] == [
        *(13, 3, 4)
    ]
    assert splits.named("test") is test
    parts = (splits.validation, splits.calibration, splits.train)
    seen = [row.numpy().tobytes() for part in parts for row in part.pixels]
    assert sorted(seen) == sorted(row.numpy().tobytes() for row in train.pixels)
    assert len(set(seen)) == 20
    for part in parts:  # labels went along
        for row, label in zip(part.pixels, part.label, strict=True):
            index = next(i for i in range(20) if torch.equal(train.pixels[i], row))
            assert label == train.label[index]


def test_the_cut_follows_its_seed_alone() -> None:
    def cut(seed: int) -> str:
        chosen = config("x:y", validation=3, split_seed=seed)
        return data.split(tiny.images(20), tiny.images(2), chosen).validation.digest()

    torch.manual_seed(5)
    first = cut(0)
    torch.manual_seed(6)
    assert cut(0) == first
    assert cut(1) != first


def test_nothing_left_to_train_on() -> None:
    with pytest.raises(DataError, match="20 held-out images leave none of 20"):
        data.split(tiny.images(20), tiny.images(2), config("x:y", validation=19))


def test_pixels_are_what_the_service_makes_of_them() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert np.array_equal(to_float(pixels).numpy(), np.arange(256, dtype=np.float32) / 255)


def test_digest_sees_pixels_and_labels() -> None:
    images = tiny.images()
    other = Images(pixels=images.pixels, label=1 - images.label, classes=images.classes)
    assert len({images.digest(), other.digest(), tiny.images(seed=1).digest()}) == 3
    assert images.to(torch.device("cpu")).digest() == images.digest()


@pytest.mark.parametrize("source", ["mnist", "svhn:data", "", ":data"])
def test_unknown_source(source: str) -> None:
    with pytest.raises(DataError, match=r"write one of mnist\|cifar10\|imagefolder\|parquet:DIR"):
        data.load(config(source))


# --- mnist ---


def write_mnist(folder: Path, *, archived: bool, labels: int = 6) -> dict[str, np.ndarray]:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = {}
    for seed, part in enumerate(("train", "t10k")):
        generator = np.random.default_rng(seed)
        arrays[part] = generator.integers(0, 256, (6, 28, 28), dtype=np.uint8)
        label = np.arange(labels, dtype=np.uint8)
        for name, kind, array in (("images-idx3", 3, arrays[part]), ("labels-idx1", 1, label)):
            content = np.array([0x0800 + kind, *array.shape], dtype=">u4").tobytes()
            content += array.tobytes()
            path = raw / f"{part}-{name}-ubyte{'.gz' if archived else ''}"
            path.write_bytes(gzip.compress(content) if archived else content)
    return arrays


@pytest.mark.parametrize("archived", [True, False])
def test_mnist(tmp_path: Path, archived: bool) -> None:
    arrays = write_mnist(tmp_path, archived=archived)
    before = sorted(tmp_path.rglob("*"))
    splits = data.load(config(f"mnist:{tmp_path}"))
    assert splits.test.pixels.shape == (6, 1, 28, 28)
    assert np.array_equal(splits.test.pixels[:, 0].numpy(), arrays["t10k"])
    assert splits.test.label.tolist() == list(range(6))
    assert splits.test.classes == tuple("0123456789")
    assert len(splits.train) == 4
    assert sorted(tmp_path.rglob("*")) == before  # a read-only copy stays as it is


def test_mnist_with_a_label_beyond_its_classes(tmp_path: Path) -> None:
    write_mnist(tmp_path, archived=False)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([200]))
    with pytest.raises(DataError, match="train label 200, but 10 classes"):
        data.load(config(f"mnist:{tmp_path}"))


def test_mnist_with_a_damaged_archive(tmp_path: Path) -> None:
    write_mnist(tmp_path, archived=True)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"mnist:{tmp_path}: "):
        data.load(config(f"mnist:{tmp_path}"))


def test_mnist_with_too_few_labels(tmp_path: Path) -> None:
    write_mnist(tmp_path, archived=False, labels=5)
    with pytest.raises(DataError, match="6 images, 5 labels"):
        data.load(config(f"mnist:{tmp_path}"))


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [("mnist", torchvision.datasets.MNIST), ("cifar10", torchvision.datasets.CIFAR10)],
)
def test_an_absent_source_is_downloaded_or_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, kind: type
) -> None:
    def unreachable(self: object) -> None:
        raise RuntimeError("Error downloading:\nno network")

    monkeypatch.setattr(kind, "download", unreachable)
    with pytest.raises(DataError) as caught:
        data.load(config(f"{scheme}:{tmp_path}"))
    said = f"{scheme}:{tmp_path}: Error downloading: no network; where the files lie already"
    assert str(caught.value).startswith(said)


# --- cifar10 ---


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches in the published layout, with the checksums that these files have."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = {name: levels(seed, 3, 3072)[:, :, 0] for seed, name in enumerate(("train", "test"))}

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5((folder / name).read_bytes()).hexdigest()]

    kind = torchvision.datasets.CIFAR10
    for attribute, name in (("train_list", "train"), ("test_list", "test")):
        listed = [write(name, {"data": rows[name], "labels": [2, 0, 1]})]
        monkeypatch.setattr(kind, attribute, listed)
    name, checksum = write("meta", {"label_names": ["a", "b", "c"]})
    meta = {"filename": name, "key": "label_names", "md5": checksum}
    monkeypatch.setattr(kind, "meta", meta)
    splits = data.load(config(f"cifar10:{tmp_path}"))
    assert splits.test.pixels.shape == (3, 3, 32, 32)
    assert np.array_equal(splits.test.pixels.numpy().reshape(3, -1), rows["test"])
    assert splits.test.label.tolist() == [2, 0, 1]
    assert splits.test.classes == ("a", "b", "c")


# --- imagefolder ---


def write_folder(place: Path, files: dict[str, bytes]) -> str:
    """Files by `train/cat/0.png` and so on; every class has two images unless given."""
    usual = {
        f"{part}/{name}/{index}.png": png(levels(index))
        for part in ("train", "test")
        for name in NAMES
        for index in (1, 2)
    }
    for path, content in (usual | files).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    return f"imagefolder:{place}"


def test_imagefolder(tmp_path: Path) -> None:
    splits = data.load(config(write_folder(tmp_path, {})))
    assert (splits.test.classes, splits.test.label.tolist()) == (NAMES, [0, 0, 1, 1])
    assert splits.test.pixels.dtype == torch.uint8
    assert np.array_equal(planes(splits.test.pixels[1]), levels(2))
    assert len(splits.train) == 2


def test_images_are_upright_and_in_colours(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held sideways
    source = write_folder(
        tmp_path,
        {
            "test/cat/1.png": png(levels(1, 5, 4), exif=turned.tobytes()),
            "test/cat/2.png": png(levels(2)[:, :, 0]),
        },
    )
    images = data.load(config(source)).test
    assert np.array_equal(planes(images.pixels[0]), np.rot90(levels(1, 5, 4), -1))
    assert np.array_equal(planes(images.pixels[1]), np.repeat(levels(2)[:, :, :1], 3, axis=2))


def test_sizes_that_differ_need_one_to_be_named(tmp_path: Path) -> None:
    source = write_folder(tmp_path, {"test/cat/1.png": png(levels(1, 8, 6))})
    with pytest.raises(DataError, match=r"images differ in size; set data\.image_size"):
        data.load(config(source))
    images = data.load(config(source, image_size=3)).test
    assert images.pixels.shape == (4, 3, 3, 3)


@pytest.mark.parametrize("shape", [(4, 12), (9, 5), (4, 4)])
def test_resizes_as_the_service_does(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Else a model would be trained on other pixels than it is asked about."""
    encoded = png(levels(1, *shape))
    source = write_folder(tmp_path, {"test/cat/1.png": encoded})
    image = to_float(data.load(config(source, image_size=4)).test.pixels[0])
    spec = InputSpec(channels=3, height=4, width=4)
    served = prepare(Upload(encoded), spec, Limits(1 << 20, 1 << 20), strict_size=False)
    assert np.array_equal(image.numpy(), served.pixels)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"test/cat/1.png": b"no image"}, "1.png cannot be read as an image"),
        ({"test/cat/1.png": png(levels(1))[:60]}, "1.png cannot be read as an image"),
        (
            {"test/cat/1.png": png(levels(1)[:, :, 0].astype(np.uint16))},
            "training takes 8 bits a channel",
        ),
        ({"test/cat/1.png": png(np.zeros((4, 5, 4), np.uint8))}, "transparent pixels"),
        ({"test/emu/1.png": png(levels(1))}, "train and test have different classes"),
        ({"test/emu/1.txt": b""}, "emu"),  # a class without images
    ],
)
def test_damaged_imagefolder(tmp_path: Path, files: dict[str, bytes], fault: str) -> None:
    source = write_folder(tmp_path, files)
    with pytest.raises(DataError, match=fault):
        data.load(config(source))


def test_absent_imagefolder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagefolder:"):
        data.load(config(f"imagefolder:{tmp_path / 'nowhere'}"))


# --- parquet ---

Row = dict[str, Any]


def row(seed: int, label: object = 0) -> Row:
    return {"image": {"bytes": png(levels(seed)), "path": f"{seed}.png"}, "label": label}


def write_parquet(place: Path, test: list[Row], *, names: tuple[str, ...] | None = NAMES) -> str:
    train = [row(seed, seed % 2) for seed in range(4)]
    for part, rows in (("train", train), ("test", test)):
        table = pyarrow.Table.from_pylist(rows)
        if names is not None:
            features = {"label": {"names": list(names), "_type": "ClassLabel"}}
            text = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": text})
        pyarrow.parquet.write_table(table, place / f"{part}-00000-of-00001.parquet")
    return f"parquet:{place}"


def test_parquet(tmp_path: Path) -> None:
    images = data.load(config(write_parquet(tmp_path, [row(7, 1), row(8, 0)]))).test
    assert (images.classes, images.label.tolist()) == (NAMES, [1, 0])
    assert np.array_equal(planes(images.pixels[1]), levels(8))


def test_parquet_in_shards(tmp_path: Path) -> None:
    source = write_parquet(tmp_path, [row(7, 1)])
    first = tmp_path / "test-00000-of-00001.parquet"
    table = pyarrow.Table.from_pylist([row(8, 0)])
    table = table.replace_schema_metadata(pyarrow.parquet.read_schema(first).metadata)
    pyarrow.parquet.write_table(table, tmp_path / "test-00001-of-00002.parquet")
    assert data.load(config(source)).test.label.tolist() == [1, 0]


def test_parquet_without_class_names(tmp_path: Path) -> None:
    source = write_parquet(tmp_path, [row(7, 1), row(8, 0)], names=None)
    assert data.load(config(source)).test.classes == ("0", "1")


def remove_files(place: Path) -> None:
    for path in place.glob("test-*"):
        path.unlink()


def spoil_files(place: Path) -> None:
    for path in place.glob("test-*"):
        path.write_bytes(b"PAR1")


def keep(place: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("rows", "spoil", "fault"),
    [
        ([row(1)], remove_files, r"no test-\*\.parquet there"),
        ([row(1)], spoil_files, "parquet:"),
        ([{"image": row(1)["image"]}], keep, "parquet:"),
        ([], keep, "parquet:"),
        ([row(1, None)], keep, "not whole numbers from 0"),
        ([row(1, -1)], keep, "not whole numbers from 0"),
        ([row(1, 0.5)], keep, "not whole numbers from 0"),
        ([row(1, 2)], keep, "label 2, but only 2 class names"),
        ([{"image": {"bytes": None, "path": "a.png"}, "label": 0}], keep, "0 has no bytes"),
        ([{"image": "a.png", "label": 0}], keep, "0 has no bytes"),
        ([{"image": {"bytes": b"none", "path": "a"}, "label": 0}], keep, "0 cannot be read"),
    ],
)
def test_damaged_parquet(
    tmp_path: Path, rows: list[Row], spoil: Callable[[Path], None], fault: str
) -> None:
    source = write_parquet(tmp_path, rows)
    spoil(tmp_path)
    with pytest.raises(DataError, match=fault):
        data.load(config(source))
