"""Draw README's picture: a natural digit, the perturbation, the attacked digit, and the three ways.

Uses the shipped samples and the shipped model through the service's own code, so that the picture
shows what the service answers.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings

_ROOT = Path(__file__).parents[1]
_SCALE, _GAP, _TEXT = 8, 28, 150
_INK, _PAPER, _ALARM, _CALM = "#1f2328", "#ffffff", "#c62828", "#2e7d32"


def answers(files: tuple[Path, Path]) -> list[dict[str, object]]:
    """What the service says of each file."""
    with TestClient(create_app(Settings(models=_ROOT / "models", provider="cpu"))) as client:
        return [
            client.post(
                "/detect", content=file.read_bytes(), headers={"Content-Type": "image/png"}
            ).json()
            for file in files
        ]


def draw(natural: Path, attacked: Path, target: Path) -> None:
    """Three panels with a caption each, written as PNG."""
    pixels = [np.asarray(Image.open(file), dtype=np.int16) for file in (natural, attacked)]
    change = np.clip((pixels[1] - pixels[0]) / 0.6 + 128, 0, 255)
    panels = [pixels[0], change, pixels[1]]
    side = pixels[0].shape[0] * _SCALE
    picture = Image.new("RGB", (3 * side + 4 * _GAP, side + _TEXT + 2 * _GAP), _PAPER)
    pen = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(20), ImageFont.load_default(16)
    for index, (panel, title) in enumerate(
        zip(panels, ("natural", "what was added", "attacked"), strict=True)
    ):
        left = _GAP + index * (side + _GAP)
        image = Image.fromarray(panel.astype(np.uint8)).resize(
            (side, side), Image.Resampling.NEAREST
        )
        picture.paste(image.convert("RGB"), (left, _GAP))
        pen.text((left, side + _GAP + 8), title, _INK, large)
    for column, answer in zip((0, 2), answers((natural, attacked)), strict=True):
        left, top = _GAP + column * (side + _GAP), side + _GAP + 40
        for line, (way, seen) in enumerate(answer["ways"].items()):  # type: ignore[attr-defined]  # JSON
            text = f"{way} way: {seen['class_name']}  ({seen['probability']:.2f})"
            pen.text((left, top + 22 * line), text, _INK, small)
        flagged = answer["adversarial"]
        verdict = f"adversarial, score {answer['score']:.3f}" if flagged else "accepted"
        pen.text((left, top + 72), verdict, _ALARM if flagged else _CALM, large)
    target.parent.mkdir(exist_ok=True)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), _ROOT / "docs" / "images" / "detect.png")
