"""Who may ask, and how much: the gate in front of everything but health, where keys are set.

Called by the edge before a request's body is read, and once its images are counted. Knows ASGI
scopes; the file is read by `service.keys`, the arithmetic is `service.rate_limit`.
"""

import logging
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from service.errors import KeysRefused, RateLimited, Unauthorized
from service.keys import Keys, read_keys, readable_by_all
from service.metrics import Metrics
from service.rate_limit import TokenBuckets

VISITOR = "parallax.visitor"  # key of the ASGI scope: the Visitor, where keys are set
OPEN = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})  # these carry no images
_SCHEME = b"bearer"

log = logging.getLogger(__name__)


class Gate:
    """Keys from a file, and a bucket for each name where there is a limit."""

    def __init__(self, path: Path, metrics: Metrics, limit: TokenBuckets | None = None) -> None:
        """
        Raises:
            KeysRefused: the file holds no usable keys.
        """
        self._path = path
        self._metrics = metrics
        self._limit = limit
        self._use(read_keys(path))

    def reload(self) -> bool:
        """Read the file anew. A file that is refused is logged, and the old keys stay: False."""
        try:
            keys = read_keys(self._path)
        except KeysRefused as error:
            log.error("the old API keys stay in use: %s", error)
            return False
        self._use(keys)
        return True

    def enter(self, scope: MutableMapping[str, Any]) -> None:
        """Let a request in before its body is read; one that may carry images costs a token.

        Raises:
            Unauthorized: it has no known key, and asks for more than health.
            RateLimited: the key's bucket is empty.
        """
        if scope["path"] in OPEN:
            return
        name = self._keys.owner(_key(scope["headers"]))
        if name is None:
            raise Unauthorized("this API key is not known")
        scope[VISITOR] = Visitor(name, self)
        if scope["method"] not in _BODILESS:
            self._take(name, 1)

    def charge(self, name: str, images: int) -> None:
        """Take the tokens of all images but the first, which `enter` took.

        Raises:
            RateLimited: there are not so many; none is taken.
        """
        self._take(name, images - 1)
        self._metrics.key_images.labels(name).inc(images)

    def _take(self, name: str, tokens: int) -> None:
        if self._limit is not None and tokens > 0:
            wait_s = self._limit.take(name, tokens)
            if wait_s > 0:
                raise RateLimited(ceil(wait_s))

    def _use(self, keys: Keys) -> None:
        if readable_by_all(self._path):
            log.warning("every user may read the API keys in %s; chmod 600 it", self._path)
        log.info("%d API keys are in use", len(keys))
        self._keys = keys
        if self._limit is not None:
            self._limit.keep(keys.names)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose request it is."""

    name: str
    gate: Gate


def charge(scope: MutableMapping[str, Any], images: int) -> None:
    """Count a request's images, before any is decoded; nothing where no keys are set.

    Raises:
        RateLimited: they are more than the key may send now.
    """
    visitor = scope.get(VISITOR)
    if visitor is not None:
        visitor.gate.charge(visitor.name, images)


def _key(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`X-API-Key`, else the bearer token: the other header may be meant for a proxy before us.

    Raises:
        Unauthorized: there is none, or which one is meant is not clear.
    """
    given: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in (b"x-api-key", b"authorization"):
            if name in given:
                raise Unauthorized(f"the header {name.decode()} is given more than once")
            given[name] = value
    if (key := given.get(b"x-api-key")) is not None:
        return key.strip()
    scheme, _, token = given.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() != _SCHEME:
        raise Unauthorized("send an API key, as Authorization: Bearer KEY or X-API-Key: KEY")
    return token.strip()
