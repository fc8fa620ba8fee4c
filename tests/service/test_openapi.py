"""The document that users read: its examples work as they stand, its problems are all of them."""

import base64
import io
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.errors import request_errors
from service.images import MEDIA_TYPES
from service.manifest import InputSpec
from service.openapi import example_png
from tests.service.toy import ATTACKED, NATURAL


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


@pytest.mark.parametrize("path", ["/classify", "/detect"])
def test_examples_can_be_sent(client: TestClient, document: dict[str, Any], path: str) -> None:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 2
    for example in body["examples"].values():
        response = client.post(f"{path}?strict_size=true", json=example["value"])
        assert response.status_code == 200
        assert "error" not in response.text


@pytest.mark.parametrize("path", ["/classify", "/detect"])
def test_bodies_and_problems_are_documented(document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    assert set(operation["requestBody"]["content"]) == {
        *MEDIA_TYPES,
        "application/json",
        "application/octet-stream",
        "multipart/form-data",
    }
    told = " ".join(answer["description"] for answer in operation["responses"].values())
    for kind in request_errors():
        assert f"`{kind.code}`" in told
    assert "Problem" in document["components"]["schemas"]
    assert {parameter["name"] for parameter in operation["parameters"]} >= {
        "model",
        "version",
        "strict_size",
    }


INFER = ["/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"]


@pytest.mark.parametrize("path", INFER)
def test_inference_is_documented(client: TestClient, document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 2
    for example in body["examples"].values():
        response = client.post(path.format(name="toy", version=1), json=example["value"])
        assert response.status_code == 200, response.text
    told = " ".join(answer["description"] for answer in operation["responses"].values())
    for kind in request_errors():
        assert f"`{kind.code}`" in told
    assert "ProtocolError" in document["components"]["schemas"]
    assert {parameter["in"] for parameter in operation["parameters"]} == {"path"}


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_example_has_the_models_size_and_colours(channels: Any, mode: str) -> None:
    spec = InputSpec(channels=channels, height=28, width=32)
    image = Image.open(io.BytesIO(base64.b64decode(example_png(spec))))
    assert (image.mode, image.size) == (mode, (32, 28))


def test_documentation_is_served(client: TestClient) -> None:
    """With all that the page needs: a sidecar has no way to anybody else's host."""
    page = client.get("/docs").text
    assert "https://" not in page
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 3
    for asset in assets:
        response = client.get(asset)
        assert response.status_code == 200, asset
        assert response.content


@pytest.mark.parametrize(
    ("path", "name"), [("/classify", "Classification"), ("/detect", "Detection")]
)
@pytest.mark.parametrize("image", [NATURAL, ATTACKED])
def test_answers_have_the_fields_that_are_told(
    client: TestClient, document: dict[str, Any], path: str, name: str, image: bytes
) -> None:
    schema = document["components"]["schemas"][name]
    answer = client.post(path, content=image, headers={"Content-Type": "image/png"}).json()
    assert {*schema["required"]} <= answer.keys() <= {*schema["properties"]}
