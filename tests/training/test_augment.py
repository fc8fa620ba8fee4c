import pytest
import torch
from torch import Tensor

from training import augment


def numbered(count: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images of 2 x 3 x 4 whose values name their place; none is zero."""
    return torch.arange(1, count * 24 + 1).view(count, 2, 3, 4).to(dtype)


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """One image moved by a loop over its pixels."""
    moved = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            source = row - down, column - right
            if 0 <= source[0] < height and 0 <= source[1] < width:
                moved[:, row, column] = image[:, source[0], source[1]]
    return moved


def test_shift_by_known_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """An offset of 0 moves down and right by `pixels`, one of 2 * pixels up and left."""
    offsets = torch.tensor([[0, 2, 1, 2], [0, 2, 1, 1]]).unsqueeze(2)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: offsets)
    image = numbered(4)
    expected = [
        shifted(one, 1 - down, 1 - right)
        for one, (down, right) in zip(image, ((0, 0), (2, 2), (1, 1), (2, 1)), strict=True)
    ]
    moved = augment.random_shift(image, 1)
    assert torch.equal(moved, torch.stack(expected))
    assert torch.equal(moved[2], image[2])


def test_every_shift_happens() -> None:
    torch.manual_seed(0)
    image = numbered(1).expand(400, -1, -1, -1)
    moved = augment.random_shift(image, 1)
    allowed = [shifted(image[0], down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    seen = [next(i for i, one in enumerate(allowed) if torch.equal(one, got)) for got in moved]
    assert set(seen) == set(range(9))


def test_every_flip_is_whole() -> None:
    torch.manual_seed(0)
    image = numbered(200)
    flipped = augment.random_flip(image)
    mirrored = [
        torch.equal(one, source.flip(2)) for one, source in zip(flipped, image, strict=True)
    ]
    kept = [torch.equal(one, source) for one, source in zip(flipped, image, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


def test_no_shift_draws_nothing() -> None:
    image = numbered(2)
    torch.manual_seed(0)
    assert augment.random_shift(image, 0) is image
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_shape_and_type_stay(dtype: torch.dtype) -> None:
    image = numbered(2, dtype=dtype)
    for changed in (augment.random_shift(image, 2), augment.random_flip(image)):
        assert changed.shape == image.shape
        assert changed.dtype == dtype


def test_a_seed_decides() -> None:
    def augmented(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return augment.random_flip(augment.random_shift(numbered(8), 1))

    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))
