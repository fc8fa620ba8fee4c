"""A request body to the images it carries: raw bytes, multipart parts or JSON with base64.

Checks shapes and counts; whether the bytes are images is for `service.images`. The size of the
whole body was bounded at the edge, while it was read.
"""

import binascii
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from service.errors import BodyEmpty, BodyMalformed, ClientGone, TooManyImages, TypeUnsupported
from service.images import MEDIA_TYPES, Upload
from service.parts import Part, read_parts

FILE_PART = "file"
UNDECLARED = "application/octet-stream"  # "some bytes": the signature alone decides

MULTIPART = "multipart/form-data"
JSON = "application/json"

_READ = (*MEDIA_TYPES, UNDECLARED, MULTIPART, JSON)
_ALIASES = {"image/jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Uploads:
    """At least one image. `several` asks for a list of results, even of one."""

    images: list[Upload]
    several: bool


class JsonBody(BaseModel):
    """Exactly one of the two; base64 without line breaks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str | None = None
    images: list[str] | None = None


async def read_uploads(request: Request, max_images: int) -> Uploads:
    """Read the body by its content type.

    One raw body, one multipart part or JSON's `image` is one image; several parts or JSON's
    `images` are several.

    Raises:
        TypeUnsupported, BodyEmpty, BodyMalformed, TooManyImages: by what the client sent.
        BodyTooLarge: from the edge, while reading.
        ClientGone: the client hung up while sending.
    """
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise TypeUnsupported(encoding)
    content_type = request.headers.get("content-type", UNDECLARED)
    media_type = _media_type(content_type)
    if media_type not in _READ:
        raise TypeUnsupported(media_type)
    try:
        body = await request.body()
    except ClientDisconnect:
        raise ClientGone from None
    if not body:
        raise BodyEmpty
    if media_type == MULTIPART:
        return _from_parts(content_type, body, max_images)
    if media_type == JSON:
        return _from_json(body, max_images)
    return Uploads([Upload(body, _declared(media_type))], several=False)


def _media_type(content_type: str) -> str:
    bare = content_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def _declared(media_type: str) -> str | None:
    return None if media_type == UNDECLARED else media_type


def _from_parts(content_type: str, body: bytes, max_images: int) -> Uploads:
    parts = read_parts(content_type, body, max_images)
    if not parts:
        raise BodyEmpty
    return Uploads([_from_part(part) for part in parts], several=len(parts) > 1)


def _from_part(part: Part) -> Upload:
    if part.name != FILE_PART:
        raise BodyMalformed(f"part {part.name!r} is unknown; name each image {FILE_PART!r}")
    if part.file_name is None:
        raise BodyMalformed("a part has no file name; send files, as in -F file=@image.png")
    return Upload(bytes(part.data), _declared(_media_type(part.content_type or UNDECLARED)))


def _from_json(body: bytes, max_images: int) -> Uploads:
    try:
        parsed = JsonBody.model_validate_json(body)
    except ValidationError as error:
        raise BodyMalformed(_json_fault(error)) from None
    if (parsed.image is None) == (parsed.images is None):
        raise BodyMalformed('JSON: give either "image" or "images"')
    if parsed.image is not None:
        return Uploads([_from_base64("image", parsed.image)], several=False)
    texts = parsed.images or []
    if not texts:
        raise BodyEmpty
    if len(texts) > max_images:
        raise TooManyImages(max_images)
    images = [_from_base64(f"images.{index}", text) for index, text in enumerate(texts)]
    return Uploads(images, several=True)


def _json_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f'JSON key {place!r} is unknown; give either "image" or "images"'
    return f"JSON {place}: {fault['msg']}" if place else fault["msg"]


def _from_base64(place: str, text: str) -> Upload:
    try:
        return Upload(binascii.a2b_base64(text, strict_mode=True))
    except ValueError:
        raise BodyMalformed(
            f"JSON {place}: not base64 (no line breaks, no data: prefix, padded with =)"
        ) from None
