"""Images keep their pixels, stand under their captions, and become the same file each time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.files import OutputError
from training.plots import contact_sheet


def made(channels: int = 1, side: int = 2) -> Image.Image:
    black = torch.zeros(channels, side, side, dtype=torch.uint8)
    grey = torch.full_like(black, 77)
    return contact_sheet.sheet([("one", [black, grey]), ("two", [grey, grey])], ["left", "right"])


@pytest.mark.parametrize(("channels", "side"), [(1, 2), (3, 32), (3, 224)])
def test_each_image_is_in_its_place(channels: int, side: int) -> None:
    pixels = np.asarray(made(channels, side))
    assert ((pixels == 77).all(axis=2)).sum() == 3 * 64 * 64
    first = pixels[40 : 40 + 64]
    black, grey = ((first == level).all(axis=(0, 2)).nonzero()[0] for level in (0, 77))
    assert len(black) == len(grey) == 64
    assert black.max() < grey.min()


def test_the_same_sheet_is_the_same_file(tmp_path: Path) -> None:
    one, two = (contact_sheet.save(made(), tmp_path / name) for name in ("a.png", "b.png"))
    assert one.read_bytes() == two.read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        contact_sheet.save(made(), tmp_path / "file" / "a.png")
