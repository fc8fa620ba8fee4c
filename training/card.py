"""The model card: a manifest in sentences, for whoever decides whether to rely on the model.

Pure text from the manifest's plain values; it measures nothing and knows no files.
"""

from typing import Any

_TEMPLATE = """\
# {name} {version}

{description}.

| | |
|---|---|
| input | {channels} x {height} x {width}, pixels in [0, 1] |
| classes | {labels} |
| method | {method}, backbone {backbone} |
| threat model | {norm} within {eps} |
| trained on | {source}, {trained_on}, {minutes:.0f} min, torch {torch_version} |
| seed, commit | {seed}, `{commit}` |
| evaluated on | {dataset}, {split} split, {n_images} images |

## Measured

| metric | value |
|---|---|
{metrics}

{notes}

## What a verdict means

An image is flagged where the robust and the non-robust way name different classes (Eq. 12 of
arXiv 2007.01356). The rates above hold for images like the evaluation's and for attacks like those
that were run. They promise nothing about attackers who know this detector and optimise against it,
about perturbations beyond {norm} {eps}, or about images of another kind: noise and compression can
flag a natural image, and resizing can wash a perturbation out.

## Parity

{n_inputs} inputs through ONNX Runtime {onnxruntime_version} and torch: {agreement:.2%} of labels
equal, logits within {difference:.1e}.
"""


def render(manifest: dict[str, Any]) -> str:
    """Markdown card of a manifest given as JSON types."""
    evaluation, provenance = manifest["evaluation"], manifest["provenance"]
    config = provenance["config"]
    metrics = "\n".join(
        f"| `{metric}` | {value:.4f} |" for metric, value in evaluation["metrics"].items()
    )
    return _TEMPLATE.format(
        **{key: manifest[key] for key in ("name", "version", "description")},
        **{key: manifest["input"][key] for key in ("channels", "height", "width")},
        **manifest["threat_model"],
        **{key: evaluation[key] for key in ("dataset", "split", "n_images")},
        **{key: provenance[key] for key in ("trained_on", "torch_version", "seed", "commit")},
        labels=", ".join(manifest["labels"]),
        method=config["method"],
        backbone=config["model"]["backbone"],
        source=config["data"]["source"].partition(":")[0],
        minutes=provenance["duration_s"] / 60,
        metrics=metrics,
        notes="\n\n".join(evaluation["notes"]),
        n_inputs=manifest["parity"]["n_inputs"],
        onnxruntime_version=manifest["parity"]["onnxruntime_version"],
        agreement=manifest["parity"]["label_agreement"],
        difference=manifest["parity"]["max_abs_logit_difference"],
    )
