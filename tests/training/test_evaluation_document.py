import dataclasses
import json

import numpy as np

from tests.training import examinee
from training import evaluation_document
from training.answers import INPUTS, Answered, attacked_name, natural_name
from training.attacks import setting

ATTACK = setting.parse("linf:0.1:0.05:10")


def test_makers_are_counted_and_named() -> None:
    subject = examinee.subject("st")
    logits = np.eye(2, dtype=np.float32)[subject.images.label.numpy()]
    names = [
        natural_name("nonrobust"),
        *(attacked_name(ATTACK.name, "nonrobust", inputs, "nonrobust") for inputs in INPUTS),
    ]
    arrays = {"label": subject.images.label.numpy(), "index": np.arange(12)}
    here = evaluation_document.maker(subject.device)
    there = {**here, "device": "a GPU"}
    document = evaluation_document.build(
        dataclasses.replace(subject, available=12),
        Answered(arrays={**arrays, **dict.fromkeys(names, logits)}),
        [here, there, here],
        attacks=[ATTACK],
        dataset="ours",
        seed=4,
        batch_size=6,
        seconds=1.26,
    )
    assert document["made_by"] == [{**here, "batches": 2}, {**there, "batches": 1}]
    assert document["device"] == "CPU, a GPU"
    assert document["notes"][-1].startswith("The answers were computed in more than one place")
    assert document["data"]["index"] is None
    assert (document["dataset"], document["seconds"], document["seed"]) == ("ours", 1.3, 4)
    assert [result["inputs"] for result in document["results"]] == ["rounded", "float"]
    assert document["results"][1]["metrics"]["accuracy_nonrobust_natural"] == 1.0
    assert json.loads(json.dumps(document, allow_nan=False)) == document
