"""Evaluations' documents with figures that are made up, for what reads them."""

from typing import Any

from training.figures import NAMES

Weights = dict[str, float]
PLAIN: Weights = {"asymmetric": 1.0, "robust": 1.0, "nonrobust": 1.0}


def document(
    method: str,
    *,
    name: str = "ours",
    dataset: str = "MNIST",
    backbone: str = "small_cnn",
    loss: Weights = PLAIN,
    steps: int = 100,
    step: int | None = None,
    attacks: tuple[str, ...] = ("linf:0.3:0.01:40",),
    base: float = 0.5,
) -> dict[str, Any]:
    """Figure number i of `figures.NAMES` is `base` + i/1000 under the first attack, and so on."""
    trained = {"st": ("nonrobust",), "at": ("robust",)}.get(
        method, ("standard", "robust", "nonrobust")
    )
    absent = [way for way in ("standard", "robust", "nonrobust") if way not in trained]
    results: list[dict[str, Any]] = []
    for shift, attack in enumerate(attacks):
        norm, eps, step_size, count = attack.split(":")
        metrics: dict[str, float | None] = {
            figure: base + shift / 10 + index / 1000 for index, figure in enumerate(NAMES)
        }
        if absent:
            alone = trained[0]
            kept = (f"accuracy_{alone}_natural", f"accuracy_{alone}_under_{alone}_attack")
            metrics = {figure: metrics[figure] if figure in kept else None for figure in NAMES}
        made = {"norm": norm, "eps": eps, "step_size": step_size, "steps": int(count)}
        kinds = (("rounded", metrics), ("float", dict.fromkeys(metrics, 0.0)))
        results += [
            {"attack": {"name": attack, **made}, "inputs": inputs, "metrics": values}
            for inputs, values in kinds
        ]
    return {
        "dataset": dataset,
        "split": "test",
        "n_images": 2000,
        "seed": 0,
        "data": {"sha256": "d"},
        "model": {
            "name": name,
            "method": method,
            "loss": loss,
            "backbone": backbone,
            "norm": "linf",
            "eps": "0.3",
            "seed": 0,
            "step": steps if step is None else step,
            "steps": steps,
        },
        "results": results,
    }


def figure(name: str, *, base: float = 0.5, shift: int = 0) -> str:
    """What `document` says of a figure, in percent."""
    return f"{100 * (base + shift / 10 + NAMES.index(name) / 1000):.1f}"
