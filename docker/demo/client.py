"""One connection to the service: a request to what became of its images.

Knows the service's wire only, none of its code. Whatever goes wrong is an outcome: a demonstration
goes on while the service restarts.
"""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from .traffic import Request

PATIENCE_S = 10.0
UNREACHABLE = "unreachable"


class Client:
    """Keeps its connection until it fails, and then makes a new one."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            ValueError: not the URL of a service over HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
        self._connection = http.client.HTTPConnection(
            parts.hostname, parts.port, timeout=PATIENCE_S
        )

    def send(self, request: Request) -> list[str]:
        """For each image its verdict, or the code of the problem."""
        try:
            headers = {"Content-Type": request.content_type}
            self._connection.request("POST", request.path, request.body, headers)
            answer = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return [UNREACHABLE] * len(request.kinds)
        results = answer.get("results", [answer] * len(request.kinds))
        return [_outcome(result) for result in results]

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()


def _outcome(result: dict[str, Any]) -> str:
    problem = result.get("error", result)
    return str(result.get("verdict") or problem.get("code", "not understood"))
