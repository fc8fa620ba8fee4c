"""A request body to the images it carries: raw bytes, multipart parts or JSON with base64.

Checks shapes and counts; whether the bytes are images is for `service.images`. The size of the
whole body was bounded at the edge, while it was read.
"""

import binascii
from dataclasses import dataclass
from functools import partial

from pydantic_core import from_json
from starlette.requests import Request

from service.body import LARGE, headers_of, off_the_loop, read_body, refuse_encoding
from service.errors import BodyEmpty, BodyMalformed, TooManyImages, TypeUnsupported
from service.images import MEDIA_TYPES, Upload
from service.parts import Part, read_parts

FILE_PART = "file"
UNDECLARED = "application/octet-stream"  # "some bytes": the signature alone decides

MULTIPART = "multipart/form-data"
JSON = "application/json"

_READ = (*MEDIA_TYPES, UNDECLARED, MULTIPART, JSON)
_EITHER_OF = 'give either "image" or "images"'
_EITHER = f"JSON: {_EITHER_OF}"

_ALIASES = {"image/jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Uploads:
    """At least one image. `several` asks for a list of results, even of one."""

    images: list[Upload]
    several: bool


async def read_uploads(request: Request, max_images: int) -> Uploads:
    """Read the body by its content type.

    One raw body, one multipart part or JSON's `image` is one image; several parts or JSON's
    `images` are several.

    Raises:
        TypeUnsupported, BodyEmpty, BodyMalformed, TooManyImages: by what the client sent.
        BodyTooLarge: from the edge, while reading.
        ClientGone: the client hung up while sending.
    """
    headers = headers_of(request.scope)
    refuse_encoding(headers)
    content_type = headers.get(b"content-type", b"").decode("latin-1").strip() or UNDECLARED
    media_type = _media_type(content_type)
    if media_type not in _READ:
        raise TypeUnsupported(media_type)
    body = await read_body(request.receive)
    if not body:
        raise BodyEmpty
    large = len(body) > LARGE
    if media_type == MULTIPART:
        parse = partial(_from_parts, content_type, body, max_images)
        return await off_the_loop(parse, large=large)
    if media_type == JSON:
        return await off_the_loop(partial(_from_json, body, max_images), large=large)
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
    _check_size(body, max_images)
    try:
        parsed = from_json(body, allow_inf_nan=False, cache_strings=False)
    except ValueError as error:
        raise BodyMalformed(f"JSON: {_without_input(error)}") from None
    if not isinstance(parsed, dict):
        raise BodyMalformed(f"JSON: not an object; {_EITHER_OF}")
    if unknown := [key for key in parsed if key not in ("image", "images")]:
        raise BodyMalformed(f"JSON key {unknown[0][:80]!r} is unknown; {_EITHER_OF}")
    if len(parsed) != 1:
        raise BodyMalformed(_EITHER)
    ((key, value),) = parsed.items()
    several = key == "images"
    images = _from_list(value, max_images) if several else [_from_base64("image", value)]
    if body.count(b",") != len(images) - 1:  # base64 has none, so one more parts two equal keys
        raise BodyMalformed(f"JSON key {key!r} is given twice")
    return Uploads(images, several)


def _from_list(values: object, max_images: int) -> list[Upload]:
    if not isinstance(values, list):
        raise BodyMalformed("JSON images: not a list")
    if not values:
        raise BodyEmpty
    if len(values) > max_images:
        raise TooManyImages(max_images)
    return [_from_base64(f"images.{index}", text) for index, text in enumerate(values)]


def _check_size(body: bytes, max_images: int) -> None:
    """Before a parser sees it: a few bytes of brackets and commas become many of objects.

    Base64 has none of the three marks, so that an honest body has few: as many commas as images,
    twice as many where each was sent with a `data:` prefix.
    """
    if body.count(b"{") > 1 or body.count(b"[") > 1:
        raise BodyMalformed(_EITHER)
    if body.count(b",") > 2 * max_images:
        raise TooManyImages(max_images)


def _without_input(error: ValueError) -> str:
    """The parser's words, on one line and of bounded length."""
    return " ".join(str(error).split())[:200]


def _from_base64(place: str, text: object) -> Upload:
    if not isinstance(text, str):
        raise BodyMalformed(f"JSON {place}: not a string")
    try:
        return Upload(binascii.a2b_base64(text, strict_mode=True))
    except ValueError:
        raise BodyMalformed(
            f"JSON {place}: not base64 (no line breaks, no data: prefix, padded with =)"
        ) from None
