"""A model's networks as ONNX files, and its weights back out of them.

While a graph is traced its weights are inputs, and become the file's initialisers after it: so each
keeps its checkpoint's name and value, whatever the exporter folds or merges. What is float16 in the
checkpoint is float16 in the file, cast to float32 once; a runtime folds the cast when it loads the
file. Knows no manifest and runs nothing.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper
from torch import Tensor, nn

from training.config import Way
from training.errors import TrainingError
from training.three_way import ThreeWayModel

OUTPUTS = ("logits_standard", "logits_robust", "logits_nonrobust", "z_robust", "z_nonrobust")

_OPSET = 18
_NOTE = "parallax"  # key of the text that travels in the file's metadata


class GraphError(TrainingError):
    """The file cannot be made, or is none that weights can be read from."""


class ThreeWayGraph(nn.Module):
    """The contract's five OUTPUTS, each encoder run once."""

    def __init__(self, model: ThreeWayModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        encoded = self.model.encode(image)
        return (*self.model.decide(encoded), *encoded)


class OneWayGraph(nn.Module):
    """One way's logits alone; an encoder that it does not look at is left out of the file."""

    def __init__(self, model: ThreeWayModel, way: Way) -> None:
        super().__init__()
        self.model = model
        self.way = way

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.model.way(image, self.way),)


class _Traced(nn.Module):
    """A graph that is given its weights, by their names in the model."""

    def __init__(self, graph: ThreeWayGraph | OneWayGraph) -> None:
        super().__init__()
        self.network = graph

    def forward(self, image: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, ...]:
        named = {f"model.{name}": weight for name, weight in weights.items()}
        return torch.func.functional_call(self.network, named, (image,))


def write(
    graph: ThreeWayGraph | OneWayGraph,
    weights: Mapping[str, Tensor],
    image: Tensor,
    path: Path,
    *,
    outputs: Sequence[str],
    prefix: str = "",
    note: str = "",
) -> None:
    """Write one self-contained ONNX file: input `image` (N, C, H, W) float32, N dynamic.

    `weights` are the model's by name, float16 where they are to be stored so; those that the graph
    uses become initialisers named `prefix` + name. `note` is what `read` gives back.

    Raises:
        GraphError: torch exported nothing.
    """
    traced = {name: _computed(weight) for name, weight in weights.items()}
    inputs = {name: f"{prefix}{name}" for name in weights}
    with warnings.catch_warnings():
        # The exporter's own deprecations of parts of torch that it uses itself.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Traced(graph).eval(),
            (image,),
            kwargs={"weights": traced},
            dynamo=True,
            input_names=["image", *(_computed_name(inputs[n], weights[n]) for n in weights)],
            output_names=list(outputs),
            dynamic_shapes={
                "image": {0: torch.export.Dim("batch", min=1)},
                "weights": dict.fromkeys(traced),
            },
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise GraphError("torch exported nothing")
    proto = program.model_proto
    _forget_source(proto)
    _embed(proto.graph, {inputs[name]: weight for name, weight in weights.items()})
    if note:
        proto.metadata_props.add(key=_NOTE, value=note)
    onnx.save(proto, str(path))
    onnx.checker.check_model(str(path), full_check=True)


def read(path: Path, prefix: str) -> tuple[str, dict[str, Tensor]]:
    """A file's note ("" where it has none) and the initialisers whose names begin with `prefix`.

    Raises:
        GraphError: missing, damaged, or no ONNX file.
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
        parts = [part for part in proto.graph.initializer if part.name.startswith(prefix)]
        if away := [part.name for part in parts if external_data_helper.uses_external_data(part)]:
            raise GraphError(f"{away[0]} lies in another file")
        weights = {
            part.name: torch.from_numpy(np.array(numpy_helper.to_array(part))) for part in parts
        }
    except OSError as error:
        raise GraphError(error.strerror or str(error)) from error
    except GraphError:
        raise
    except (DecodeError, TypeError, ValueError) as error:
        raise GraphError("it is damaged, or no ONNX file") from error
    notes = [entry.value for entry in proto.metadata_props if entry.key == _NOTE]
    return (notes[0] if notes else ""), weights


def _computed(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype == torch.float16 else weight


def _computed_name(name: str, weight: Tensor) -> str:
    """Of the tensor that the graph computes with: what is stored as float16 is cast first."""
    return f"{name}.float32" if weight.dtype == torch.float16 else name


def _embed(graph: onnx.GraphProto, weights: Mapping[str, Tensor]) -> None:
    """Turn the inputs that are weights into initialisers."""
    used = {name for node in graph.node for name in node.input}
    casts = []
    for name, weight in weights.items():
        computed = _computed_name(name, weight)
        if computed not in used:
            continue
        graph.initializer.append(numpy_helper.from_array(weight.contiguous().numpy(), name))
        if computed != name:
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [name], [computed], to=to))
    images = [entry for entry in graph.input if entry.name == "image"]
    nodes = [*casts, *graph.node]
    for field, content in (("input", images), ("node", nodes)):
        graph.ClearField(field)
        getattr(graph, field).extend(content)


def _forget_source(proto: onnx.ModelProto) -> None:
    """Drop the stack traces that the exporter attaches: they name files of the training machine."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
