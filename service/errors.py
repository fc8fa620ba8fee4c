"""Everything that can go wrong, drawn on the way of the data.

    environment, flags > settings > keys > model folder > session > address > serving   StartupError
           SettingsRefused  KeysRefused  ModelRefused  ProviderAbsent  AddressUnusable

    files of a command line > calibration > new model folder                          StartupError
    FileUnreadable            CalibrationRefused, VersionUnwritable

    request > key > body > image > queue > inference > answer                           RequestError
       |      |     |      |       |         |
       |      |     |      |       |         InferenceFailed, InternalError
       |      |     |      |       Overloaded, ShuttingDown, DeadlineExceeded, ClientGone
       |      |     |      ImageRefused: ImageEmpty, ImageTooLarge, NotAnImage, TypeMismatch,
       |      |     |      TooManyPixels, ImageAnimated, ImageTruncated, ImageDamaged,
       |      |     |      ImageTransparent, ModeUnsupported, SizeMismatch (one fails alone)
       |      |     BodyEmpty, BodyTooLarge, BodyLate, BodyMalformed, TypeUnsupported,
       |      |     TooManyImages, TensorRefused
       |      Unauthorized, RateLimited
       RequestMalformed, HeadTooLarge, RouteUnknown, MethodNotAllowed, ParameterRefused,
       ModelUnknown, PolicyUnavailable

Each class owns its code, HTTP status, title and the words of its message. Nothing here knows HTTP
libraries: `service.problems` turns a RequestError into an answer, `service.cli` a StartupError into
one line and an exit status.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Self


class ParallaxError(Exception):
    """Root of the tree; `str(error)` is a sentence for people."""


# --- before the first request -----------------------------------------------------------------


class StartupError(ParallaxError):
    """The service cannot start. `hint` says what to do about it, `exit_status` is the shell's."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class SettingsRefused(StartupError):
    """A variable or flag is unknown, or its value is not usable."""

    exit_status = 2


class KeysRefused(StartupError):
    """The file of API keys holds none that can be used; an open door would be worse."""

    exit_status = 7

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"API keys in {path} refused: {reason}",
            "one key a line, KEY or NAME:KEY; `openssl rand -hex 32` makes one",
        )


class ModelRefused(StartupError):
    """A model folder does not keep its own promise."""

    exit_status = 3

    def __init__(self, folder: Path, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"model folder {folder} refused: {reason}",
            hint or "export it again, or move the folder out of the model directory",
        )
        self.reason = reason


class ProviderAbsent(StartupError):
    """CUDA was asked for by name and cannot be had; falling back would hide it."""

    exit_status = 4

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the CUDA execution provider was asked for, but {reason}",
            "install the gpu extra on a machine with an NVIDIA device, or ask for auto or cpu",
        )


class AddressUnusable(StartupError):
    """Another process listens there, or the address is not this machine's."""

    exit_status = 5

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port} ({reason})",
            "choose another with --port or --host, or stop the process that holds it",
        )


class FileUnreadable(StartupError):
    """A file given on the command line is not there or may not be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read {path} ({reason})", "name image files; no file was judged")


class CalibrationRefused(StartupError):
    """These images cannot calibrate the model; no version was written."""

    exit_status = 6

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(f"not calibrated: {reason}", hint)


class VersionUnwritable(StartupError):
    """The folder of a new version cannot be written; nothing of it is left."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"cannot write {folder} ({reason})", "nothing was changed; try again")


# --- one request ------------------------------------------------------------------------------


class RequestError(ParallaxError):
    """The request gets a problem instead of an answer; the message becomes its `detail`."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to this answer."""
        return {}

    def at(self, place: str) -> Self:
        """The same error, whose message begins with the place it belongs to."""
        self.args = (f"{place}: {self}",)
        return self


class RequestMalformed(RequestError):
    """What came over the connection is no HTTP/1 that can be answered."""

    code, status, title = "request-malformed", 400, "Not HTTP"

    def __init__(self) -> None:
        super().__init__("the bytes on this connection are not a request of HTTP/1")


class HeadTooLarge(RequestError):
    """The request's line and headers have more bytes than the service takes."""

    code, status, title = "head-too-large", 431, "Headers too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request's line and headers exceed the limit of {limit} bytes")


class RouteUnknown(RequestError):
    """Nothing is served at this path."""

    code, status, title = "not-found", 404, "Nothing here"

    def __init__(self) -> None:
        super().__init__("nothing is served at this path; /docs lists what is")


class MethodNotAllowed(RequestError):
    """The path exists, but not for this method."""

    code, status, title = "method-not-allowed", 405, "Method not allowed"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here; use {allowed}")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class ParameterRefused(RequestError):
    """A query or path parameter is unknown or has a value outside its range."""

    code, status, title = "parameter-refused", 422, "Parameter refused"

    def __init__(self, name: str, reason: str, known: tuple[str, ...] = ()) -> None:
        near = get_close_matches(name[:80], known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"parameter {name[:80]!r}: {reason}{meant}")


class ModelUnknown(RequestError):
    """No loaded model has this name and version."""

    code, status, title = "model-unknown", 404, "Unknown model"

    def __init__(self, name: str, version: int | None, loaded: tuple[str, ...]) -> None:
        asked = repr(name[:80]) if version is None else f"{name[:80]!r} version {version}"
        super().__init__(f"model {asked} is not loaded; loaded: {', '.join(loaded)}")


class PolicyUnavailable(RequestError):
    """The policy needs thresholds, and the model has none: it was not calibrated."""

    code, status, title = "policy-unavailable", 422, "Policy not available"

    def __init__(self, policy: str) -> None:
        super().__init__(
            f"policy {policy!r} needs thresholds, and this model was not calibrated; known: 'eq12'"
        )


class Unauthorized(RequestError):
    """The service asks for an API key, and the request has none that it knows."""

    code, status, title = "unauthorized", 401, "API key needed"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="parallax"'}


class RateLimited(RequestError):
    """The API key's images a second are used up; come back later."""

    code, status, title = "rate-limited", 429, "Too much from this key"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"this key's images a second are used up; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class BodyEmpty(RequestError):
    """There is no image in the request."""

    code, status, title = "body-empty", 400, "No image in the request"

    def __init__(self) -> None:
        super().__init__("the request carries no image; send one or more")


class BodyTooLarge(RequestError):
    """The request has more bytes than the service takes."""

    code, status, title = "body-too-large", 413, "Request too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body exceeds the limit of {limit} bytes")


class BodyLate(RequestError):
    """The request's bytes did not arrive before the deadline."""

    code, status, title = "body-late", 408, "Request arrived too slowly"

    def __init__(self) -> None:
        super().__init__("the request did not arrive before the deadline")


class BodyMalformed(RequestError):
    """The body is not the multipart or JSON that it is declared to be."""

    code, status, title = "body-malformed", 400, "Body cannot be read"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class TypeUnsupported(RequestError):
    """The declared content type or encoding is none of those the service reads."""

    code, status, title = "type-unsupported", 415, "Content type not supported"

    def __init__(self, declared: str) -> None:
        super().__init__(
            f"{declared[:80]!r} is not supported; send image/png, image/jpeg, image/webp, "
            "multipart/form-data or application/json, without a content encoding"
        )


class TooManyImages(RequestError):
    """One request carries more images than the service takes at once."""

    code, status, title = "too-many-images", 413, "Too many images"

    def __init__(self, limit: int) -> None:
        super().__init__(f"a request may carry at most {limit} images")


class TensorRefused(RequestError):
    """A tensor of a `/v2` request has another name, type, shape or values than the model's."""

    code, status, title = "tensor-refused", 400, "Tensor refused"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"tensor {name!r}: {reason}")


class ImageRefused(RequestError):
    """One image cannot be judged; the others of its request can."""


class ImageEmpty(ImageRefused):
    """A file or text of no bytes where an image should be."""

    code, status, title = "image-empty", 400, "Empty image"

    def __init__(self) -> None:
        super().__init__("the image has no bytes")


class ImageTooLarge(ImageRefused):
    """One image has more bytes than the service takes."""

    code, status, title = "image-too-large", 413, "Image too large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the image has {size} bytes; the limit is {limit}")


class NotAnImage(ImageRefused):
    """The bytes are none of the image formats that the service reads."""

    code, status, title = "not-an-image", 415, "Not an image"

    def __init__(self, looks_like: str | None = None) -> None:
        what = f"a {looks_like} file, which is not read here" if looks_like else "no known image"
        super().__init__(f"the bytes are {what}; send PNG, JPEG or WebP")


class TypeMismatch(ImageRefused):
    """The bytes are an image of another type than declared."""

    code, status, title = "type-mismatch", 415, "Declared type is not the image's"

    def __init__(self, declared: str, actual: str) -> None:
        super().__init__(f"declared as {declared}, but the bytes are {actual}")


class TooManyPixels(ImageRefused):
    """The header announces more pixels than the service decodes."""

    code, status, title = "too-many-pixels", 413, "Too many pixels"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the image has more pixels than the limit of {limit}")


class ImageAnimated(ImageRefused):
    """Several frames: which one is meant is not ours to guess."""

    code, status, title = "image-animated", 422, "Animated image"

    def __init__(self, frames: int) -> None:
        super().__init__(f"the image has {frames} frames; send the one that is meant")


class ImageTruncated(ImageRefused):
    """The image ends before its data does."""

    code, status, title = "image-truncated", 422, "Truncated image"

    def __init__(self) -> None:
        super().__init__("the image ends too early; part of the file is missing")


class ImageDamaged(ImageRefused):
    """The image has the right signature, but its contents cannot be decoded."""

    code, status, title = "image-damaged", 422, "Damaged image"

    def __init__(self) -> None:
        super().__init__("the image cannot be decoded; its contents are damaged")


class ImageTransparent(ImageRefused):
    """What shows through transparent pixels is unknown, and a guess could hide an attack."""

    code, status, title = "image-transparent", 422, "Transparent image"

    def __init__(self) -> None:
        super().__init__("the image has transparent pixels; send it composed on its background")


class ModeUnsupported(ImageRefused):
    """A pixel format outside 1, 8 and 16-bit grey, palette, RGB and CMYK."""

    code, status, title = "mode-unsupported", 422, "Pixel format not supported"

    def __init__(self, mode: str) -> None:
        super().__init__(f"pixels of format {mode!r} cannot be read; send 8-bit grey or RGB")


class SizeMismatch(ImageRefused):
    """`strict_size` was asked for, and the image has not the model's size."""

    code, status, title = "size-mismatch", 422, "Image size is not the model's"

    def __init__(self, actual: tuple[int, int], expected: tuple[int, int]) -> None:
        super().__init__(
            f"the image is {actual[0]}x{actual[1]} (width x height), the model takes "
            f"{expected[0]}x{expected[1]}, and strict_size forbids resizing"
        )


class Overloaded(RequestError):
    """More images or bytes are in the service than it admits; come back later."""

    code, status, title = "overloaded", 429, "Too much at once"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the service is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class ShuttingDown(RequestError):
    """The service is not ready: starting or stopping."""

    code, status, title = "not-ready", 503, "Not ready"

    def __init__(self) -> None:
        super().__init__("the service is starting or stopping; try another replica")


class DeadlineExceeded(RequestError):
    """The answer was not ready in time; the work was dropped."""

    code, status, title = "deadline-exceeded", 504, "Deadline exceeded"

    def __init__(self) -> None:
        super().__init__("the answer was not ready before the deadline")


class ClientGone(RequestError):
    """The client hung up first. Nobody reads this answer; metrics count it."""

    code, status, title = "client-gone", 499, "Client hung up"

    def __init__(self) -> None:
        super().__init__("the client closed the connection before the answer")


class InferenceFailed(RequestError):
    """The model could not be run on this batch; the log has the reason."""

    code, status, title = "inference-failed", 500, "Inference failed"

    def __init__(self) -> None:
        super().__init__("the model could not be run on this input; the server's log says why")


class InternalError(RequestError):
    """Something unforeseen; the log has the reason, the answer has not."""

    code, status, title = "internal-error", 500, "Internal error"

    def __init__(self) -> None:
        super().__init__("an unexpected error; the server's log says more")


def request_errors(root: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    """Every kind of problem a client can meet, in the order of the data."""
    for kind in root.__subclasses__():
        if kind is ImageRefused:
            yield from request_errors(kind)
        else:
            yield kind
