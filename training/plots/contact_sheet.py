"""Images side by side under captions, as one PNG: what words like `severity 3` look like.

Knows nothing of what was done to them. Not drawn in `style`, as pixels should stay pixels.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from training.files import write_bytes

_CELL, _GAP, _HEAD = 64, 3, 40  # pixels of an image, between images, of the captions above
_TEXT, _PAPER, _INK = 14, "white", "#1f2328"


def sheet(rows: Sequence[tuple[str, Sequence[Tensor]]], groups: Sequence[str]) -> Image.Image:
    """A row of images (C, H, W) uint8 beside each name, the columns in `groups` of equal size.

    Small images are enlarged pixel by pixel, large ones made smaller.
    """
    columns = len(rows[0][1])
    apart = columns // len(groups)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    font = ImageFont.load_default(_TEXT)
    margin = round(max(pen.textlength(name, font) for name, _ in rows)) + 3 * _GAP
    step = _CELL + _GAP

    def left(column: int) -> int:
        return margin + column * step + 3 * _GAP * (column // apart)

    picture = Image.new("RGB", (left(columns), _HEAD + len(rows) * step), _PAPER)
    pen = ImageDraw.Draw(picture)
    for index, caption in enumerate(groups):
        pen.text((left(index * apart), _HEAD // 3), caption, _INK, font)
    for row, (name, images) in enumerate(rows):
        top = _HEAD + row * step
        pen.text((_GAP, top + (_CELL - _TEXT) // 2), name, _INK, font)
        for column, image in enumerate(images):
            picture.paste(_cell(image), (left(column), top))
    return picture


def save(picture: Image.Image, path: Path) -> Path:
    """Write `path`, a PNG file, replacing an older one in one move.

    Raises:
        OutputError: the place cannot be written to.
    """
    drawn = io.BytesIO()
    picture.save(drawn, format="PNG", optimize=True)
    write_bytes(path, drawn.getvalue())
    return path


def _cell(image: Tensor) -> Image.Image:
    pixels = image.permute(1, 2, 0).squeeze(2) if len(image) == 1 else image.permute(1, 2, 0)
    large = max(image.shape[1:]) > _CELL
    how = Image.Resampling.LANCZOS if large else Image.Resampling.NEAREST
    return Image.fromarray(pixels.numpy()).convert("RGB").resize((_CELL, _CELL), how)
