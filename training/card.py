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
| method | {method}, backbone {backbone}, computed in {precision} |
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

{policies}## Parity

{n_inputs} inputs through ONNX Runtime {onnxruntime_version} and torch: {agreement:.2%} of labels
equal, logits within {difference:.1e}.
"""

_POLICIES = """\
## What each policy promises

`{policy}` is the default, at a rate of {fpr}.

- `eq12` flags where the two ways differ. It has no threshold: its false alarms are the model's.
- `score` flags where the score ({score}) is above the threshold of a rate. Of natural images like
  the {n_images} calibration images of {dataset} no more than that share is flagged, on average over
  the draw of them; for these the rate lies in the interval, with 95 % confidence. This holds for no
  other images, corrupted ones among them, and does not say how many attacks are flagged.
- `strict` accepts only where all three ways name one class and the score is not above its
  threshold. Under any attack within {norm} {eps} it accepts a wrong label for no larger share of
  images than the robust way gets wrong under its worst attack; attacks that were run are bounds of
  that from below.

Outside the threat model nothing is promised.

| rate | threshold | interval |
|---|---:|---:|
{thresholds}

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
        precision=manifest["precision"],
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
        policies=_policies(manifest),
    )


def _policies(manifest: dict[str, Any]) -> str:
    """The section, empty for a model that was not calibrated."""
    decision = manifest["decision"]
    if not decision["thresholds"]:
        return ""
    thresholds = "\n".join(
        f"| {rate} | {_threshold(one)} | {one['interval'][0]:.4f} to {one['interval'][1]:.4f} |"
        for rate, one in sorted(decision["thresholds"].items())
    )
    return _POLICIES.format(
        **{key: decision[key] for key in ("policy", "score", "fpr")},
        **{key: decision["calibration"][key] for key in ("n_images", "dataset")},
        **manifest["threat_model"],
        thresholds=thresholds,
    )


def _threshold(one: dict[str, Any]) -> str:
    values = one["per_class"] or [one["value"]]
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}, by class"
