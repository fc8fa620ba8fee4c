"""`parallax serve | detect | calibrate | models [activate | rollback]`: the service on a terminal.

Turns flags into settings, and errors into one line, a hint and an exit status. What is printed is
for people; `--json` is for programs.
"""

import argparse
import asyncio
import json
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from math import nan
from pathlib import Path
from typing import Any, get_args

import uvicorn
from prometheus_client import CollectorRegistry

from service import __version__
from service.activation import activate, active_version, rollback
from service.answers import detection
from service.app import create_app
from service.assembly import load_catalogue
from service.calibration import (
    MAX_SHIFT,
    Wanted,
    examine,
    image_files,
    recalibrated,
)
from service.catalogue import Catalogue, Model
from service.conformal import RATES
from service.errors import (
    AddressUnusable,
    FileUnreadable,
    ModelRefused,
    ModelUnknown,
    RequestError,
    SettingsRefused,
    StartupError,
)
from service.images import Limits, Upload
from service.lanes import Lane
from service.logs import STDERR, hold_standard_streams, hush_decoders, logging_to, style_of
from service.manifest import Policy, version_number
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.policies import Rule, Wish
from service.problems import problem
from service.reload import held_hangups
from service.repository import folders, loader_of
from service.schemas import Detection, Refusal
from service.settings import Settings, load_settings
from service.tables import calibrated, described, table
from service.versions import write_version

_MODEL_FLAGS = ("models", "provider", "threads")
_DETECT_FLAGS = (*_MODEL_FLAGS, "default_model", "max_batch", "max_image_bytes", "max_pixels")
_CALIBRATE_FLAGS = (*_MODEL_FLAGS, "max_image_bytes", "max_pixels")
_NO_DEADLINE_MS = 86_400_000.0  # nobody waits at a socket
_BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    args = vars(_parser().parse_args(arguments))
    command = args.pop("command")
    try:
        return int(command(args))
    except StartupError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def serve(flags: dict[str, Any]) -> int:
    """Load, listen, answer until a signal comes."""
    hold_standard_streams()
    settings = load_settings(flags)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # the lines below say it better
    hush_decoders()
    style = style_of(settings.log_format, STDERR)
    with (
        held_hangups(),
        logging_to(STDERR, level=settings.log_level, style=style) as sink,
        _listener(settings.host, settings.port) as listener,
    ):
        app = create_app(settings, sink)
        catalogue: Catalogue = app.state.pipeline.catalogue
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        lines = [f"parallax {__version__} on http://{shown}:{port} (documentation at /docs)"]
        for model in catalogue:
            default = ", default" if model is catalogue.default else ""
            lines.append(f"  model {described(model)}{default}")
        with suppress(OSError):  # nobody may be reading; that is no reason not to serve
            print("\n".join(lines), flush=True)
        config = uvicorn.Config(
            app,  # on uvloop, which uvicorn takes where it is installed
            http=app.state.wire,
            ws="none",
            log_config=None,
            access_log=False,  # ours says more, and nothing that a client wrote
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=settings.grace_s,
        )
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def detect(flags: dict[str, Any]) -> int:
    """Judge local files without a server; 1 where one of them could not be judged."""
    files: list[Path] = flags.pop("images")
    as_json, strict_size = flags.pop("json"), flags.pop("strict_size")
    name, version = flags.pop("model"), flags.pop("version")
    wish = Wish(flags.pop("policy"), flags.pop("fpr"))
    for file in files:
        _check_readable(file)
    settings = load_settings({**flags, "deadline_ms": _NO_DEADLINE_MS})
    pipeline = Pipeline(_catalogue(settings), settings, Metrics(CollectorRegistry()))
    model = _find(pipeline.catalogue, name, version)
    lane = pipeline.lane(model.name, model.version)
    try:
        rule = pipeline.rule(lane, wish)
    except RequestError as error:
        raise SettingsRefused(str(error), "`parallax calibrate` gives a model thresholds") from None
    answers = asyncio.run(_examine(pipeline, lane, rule, files, strict_size, settings.max_images))
    if as_json:
        for file, answer in zip(files, answers, strict=True):
            print(json.dumps({"image": str(file), **answer.model_dump(exclude_none=True)}))
    else:
        print("\n".join(table(files, answers)))
    return int(any(isinstance(answer, Refusal) for answer in answers))


def calibrate(flags: dict[str, Any]) -> int:
    """Fit thresholds on natural images; a new version of the model, or none and the reason."""
    files = image_files(flags.pop("images"))
    name, version = flags.pop("model"), flags.pop("version")
    wanted = Wanted(**{field.name: flags.pop(field.name) for field in fields(Wanted)})
    settings = load_settings(flags)
    model = _find(_catalogue(settings), name, version)
    seen = examine(model, files, Limits(settings.max_image_bytes, settings.max_pixels))
    manifest = recalibrated(model.manifest, seen, wanted, datetime.now(UTC))
    folder = write_version(settings.models / model.name / str(model.version), manifest)
    print("\n".join(calibrated(folder, manifest.decision)))
    return 0


def models(flags: dict[str, Any]) -> int:
    """Verify every model folder; 1 where one is refused."""
    settings = load_settings(flags)
    loader, refused = loader_of(settings), 0
    for folder in folders(settings.models):
        name = folder.parent.name
        try:
            model = loader.load(folder)
            is_active = active_version(settings.models, name) == model.version
        except ModelRefused as error:
            refused += 1
            print(f"{name} version {folder.name}: REFUSED, {error.reason}")
        else:
            print(described(model) + (", active" if is_active else ""))
    return int(refused > 0)


def models_activate(flags: dict[str, Any]) -> int:
    """Have a version answer where none is named."""
    name, version = flags.pop("name"), flags.pop("version")
    settings = load_settings(flags)
    activate(settings.models, loader_of(settings), name, version)
    _tell_active(name, active_version(settings.models, name))
    return 0


def models_rollback(flags: dict[str, Any]) -> int:
    """Have an older version answer where none is named."""
    name, to = flags.pop("name"), flags.pop("to")
    settings = load_settings(flags)
    _tell_active(name, rollback(settings.models, loader_of(settings), name, to))
    return 0


def _tell_active(name: str, version: int) -> None:
    print(f"{name} version {version} is active; a running service heeds it on SIGHUP")


# --- flags ---


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "parallax", description="Tell a vision pipeline which images to distrust."
    )
    parser.add_argument("--version", action="version", version=f"parallax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="answer over HTTP")
    command.set_defaults(command=serve)
    _add_settings(command, tuple(Settings.model_fields))

    command = commands.add_parser("detect", help="judge image files, without a server")
    command.set_defaults(command=detect)
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    command.add_argument("--model", help="model name; the default model where absent")
    command.add_argument("--version", type=int, help="model version; the newest where absent")
    command.add_argument("--strict-size", action="store_true", help="refuse instead of resizing")
    command.add_argument(
        "--policy",
        choices=get_args(Policy),
        help="how the verdict is reached; else the model's",
    )
    command.add_argument(
        "--fpr", type=float, metavar="RATE", help="target rate of false alarms; else the model's"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_settings(command, _DETECT_FLAGS)

    command = commands.add_parser(
        "calibrate",
        help="fit thresholds on your own natural images",
        description="Fit thresholds for wanted rates of false alarms on natural images as your "
        "pipeline sees them, and write a new version of the model; the old one stays.",
    )
    command.set_defaults(command=calibrate)
    command.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="files, or folders of them"
    )
    command.add_argument("--model", required=True, help="model name")
    command.add_argument("--version", type=int, help="model version; the newest where absent")
    command.add_argument(
        "--per-class", action="store_true", help="a threshold for each class that the model sees"
    )
    command.add_argument(
        "--policy", choices=get_args(Policy), help="default of the new version; else the old one's"
    )
    command.add_argument(
        "--fpr",
        metavar="RATE",
        choices=RATES,
        help=f"default rate of the new version: {', '.join(RATES)}",
    )
    command.add_argument(
        "--max-shift",
        type=_share,
        default=MAX_SHIFT,
        metavar="DISTANCE",
        help="of the scores from those of the present calibration, in [0, 1]; images beyond it are "
        f"refused as attacked (default {MAX_SHIFT})",
    )
    command.add_argument(
        "--max-flagged",
        type=_share,
        metavar="SHARE",
        help="that Eq. 12 may flag, in [0, 1]; with more the images are refused as attacked "
        "(default 0.05, or 5 times the false alarms of the model's evaluation where that is more)",
    )
    command.add_argument(
        "--data-name", default="own natural images", metavar="TEXT", help="what the images are"
    )
    command.add_argument("--note", metavar="TEXT", help="kept in the manifest")
    _add_settings(command, _CALIBRATE_FLAGS)

    _add_models(commands.add_parser("models", help="verify the model folders and list them"))
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    """`models` alone lists; the two below it say which version answers where none is named."""
    parser.set_defaults(command=models)
    _add_settings(parser, _MODEL_FLAGS)
    commands = parser.add_subparsers(metavar="COMMAND")

    command = commands.add_parser("activate", help="have a version answer where none is named")
    command.set_defaults(command=models_activate)
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", type=_version_or_newest, metavar="VERSION|newest")
    _add_settings(command, _MODEL_FLAGS)

    command = commands.add_parser("rollback", help="have the next older version answer again")
    command.set_defaults(command=models_rollback)
    command.add_argument("name", metavar="NAME")
    command.add_argument(
        "--to", type=_version, metavar="VERSION", help="an older one than the next"
    )
    _add_settings(command, _MODEL_FLAGS)


def _version(text: str) -> int:
    version = version_number(text)
    if version is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no version; they are 1, 2, 3 ...")
    return version


def _version_or_newest(text: str) -> int | None:
    return None if text == "newest" else _version(text)


def _share(text: str) -> float:
    """A number in [0, 1]; a bound that NaN or a negative number gives would be none."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number in [0, 1]")
    return value


def _add_settings(command: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """A flag for each setting; one that is not given leaves no trace, so the environment counts."""
    group = command.add_argument_group("settings", "each is also a variable, PARALLAX_<NAME>")
    for name in names:
        field = Settings.model_fields[name]
        default = "" if field.default is None else f" (default {field.default})"
        group.add_argument(
            "--" + name.replace("_", "-"),
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.description}{default}",
        )


# --- loading ---


@contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket, before any model is loaded: a taken port should not cost a start."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio sends small answers at once only on a socket that says TCP.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)  # from here on clients wait instead of being refused
        except OSError as error:
            raise AddressUnusable(host, port, error.strerror or str(error)) from error
        yield listener


def _catalogue(settings: Settings) -> Catalogue:
    return load_catalogue(
        settings.models, loader_of(settings), default_model=settings.default_model
    )


def _find(catalogue: Catalogue, name: str | None, version: int | None) -> Model:
    try:
        return catalogue.find(name, version)
    except ModelUnknown as error:
        raise SettingsRefused(str(error), "`parallax models` lists what is there") from None


def _check_readable(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise FileUnreadable(file, error.strerror or str(error)) from error


async def _examine(
    pipeline: Pipeline,
    lane: Lane,
    rule: Rule,
    files: Sequence[Path],
    strict_size: bool,
    at_once: int,
) -> list[Detection | Refusal]:
    answers: list[Detection | Refusal] = []
    await pipeline.start()
    for begin in range(0, len(files), at_once):
        uploads = [Upload(file.read_bytes()) for file in files[begin : begin + at_once]]
        for entry in await pipeline.examine(uploads, lane, rule, strict_size=strict_size):
            if isinstance(entry, RequestError):
                answers.append(Refusal(error=problem(entry)))
            else:
                answers.append(detection(entry, lane.model))
    await pipeline.close()
    return answers


if __name__ == "__main__":  # pragma: no cover  # the tests run it in a process of its own
    sys.exit(main())
