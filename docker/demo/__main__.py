"""Sends a running service digits, some of them attacked, until a signal comes: a board that lives.

    python -m demo http://localhost:8080

Says now and then what became of them.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from threading import Event

from .client import UNREACHABLE, Client
from .traffic import draw, load_samples
from .weather import Weather

_REST_S = 2.0  # where nobody answers


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until told to stop; 2 where it could not begin."""
    args = _parser().parse_args(arguments)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        client, samples = Client(args.url), load_samples(args.models, args.model)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    random, weather = Random(args.seed), Weather()
    began = reported = time.monotonic()
    tally: Counter[tuple[str, str]] = Counter()
    while not stop.is_set():
        request = draw(random, samples, weather.share(time.monotonic() - began))
        outcomes = client.send(request)
        tally.update(zip(request.kinds, outcomes, strict=True))
        lost = UNREACHABLE in outcomes
        stop.wait(_REST_S if lost else random.expovariate(args.rate))  # nobody comes by the clock
        if time.monotonic() - reported >= args.report_s or (stop.is_set() and tally):
            print(told(tally), flush=True)
            tally.clear()
            reported = time.monotonic()
    client.close()
    return 0


def told(tally: Counter[tuple[str, str]]) -> str:
    """`12 natural: 12 accept; 3 attacked: 2 corrected, 1 reject`."""
    kinds = sorted({kind for kind, _ in tally}, reverse=True)  # natural first
    return "; ".join(
        f"{sum(n for (of, _), n in tally.items() if of == kind)} {kind}: "
        + ", ".join(f"{n} {outcome}" for (of, outcome), n in tally.most_common() if of == kind)
        for kind in kinds
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "demo", description="Send a running service digits, some of them attacked."
    )
    parser.add_argument("url", help="of the service, http://HOST:PORT")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("PARALLAX_MODELS", "models")),
        metavar="DIRECTORY",
        help="with NAME/VERSION/samples",
    )
    parser.add_argument("--model", default="mnist", metavar="NAME", help="whose samples are sent")
    parser.add_argument(
        "--rate", type=_positive, default=10.0, metavar="N", help="requests a second at most"
    )
    parser.add_argument(
        "--report-s", type=_positive, default=30.0, metavar="S", help="seconds between two reports"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
