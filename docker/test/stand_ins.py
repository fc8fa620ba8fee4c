"""Images of Debian's packages under the names of those that cannot be pulled here.

A stand-in has what the real image promises and our files rely on: paths, user, entry point, the few
tools of a health check. It is labelled, and its borrowed name is taken away after the tests, lest
somebody ships what was built on it. The base is kept under a name of its own, as it takes minutes.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from docker.test.engine import BUILD_S, Engine, run

LABEL = "parallax.stand-in"
BASE = "parallax-stand-in:python-3.11-bookworm"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGES = ("ca-certificates", "python3", "python3-pip")
_NEEDLESS = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"),
    *("var/cache/apt", "var/lib/apt/lists"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program of a Debian package, and how the real image starts it."""

    image: str  # without its tag
    program: str  # as Debian calls it
    binary: str
    data: str
    options: tuple[str, ...]
    share: str | None = None  # a folder that Debian takes out of the binary

    @property
    def dockerfile(self) -> str:
        """As the real image is: nobody runs it, and its data folder is nobody's."""
        return "\n".join(
            (
                f"FROM {BASE}",
                f"COPY {self.program} {self.binary}",
                *([f"COPY share {self.share}"] if self.share else []),
                "COPY busybox /bin/busybox",
                "RUN ln -s /bin/busybox /bin/wget"
                f" && mkdir {self.data} && chown nobody:nogroup {self.data}",
                "USER nobody",
                f"WORKDIR {self.data}",
                f"ENTRYPOINT {json.dumps([self.binary])}",
                f"CMD {json.dumps(self.options)}",
                f"LABEL {LABEL}=true",
            )
        )


TOOLS = (
    Tool(
        image="prom/prometheus",
        program="prometheus",
        binary="/bin/prometheus",
        data="/prometheus",
        options=("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"),
    ),
    Tool(
        image="prom/alertmanager",
        program="prometheus-alertmanager",
        binary="/bin/alertmanager",
        data="/alertmanager",
        options=(
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/alertmanager",
        ),
        share="/usr/share/prometheus/alertmanager",
    ),
)


@contextmanager
def present(engine: Engine, images: Sequence[str]) -> Iterator[list[str]]:
    """Each image, or one that stands in for it; those for which there is neither.

    Raises:
        AssertionError: a stand-in could not be made.
    """
    lent: list[str] = []
    absent: list[str] = []
    try:
        for image in images:
            if _is_stand_in(engine, image) or not engine.pulled(image):
                (lent if _stand_in(engine, image) else absent).append(image)
        yield absent
    finally:
        for image in lent:
            engine("image", "rm", "--no-prune", image)


def _is_stand_in(engine: Engine, image: str) -> bool:
    """Left over from a run that was killed."""
    seen = engine.inspect(image)
    return seen is not None and LABEL in (seen["Config"]["Labels"] or {})


def _stand_in(engine: Engine, image: str) -> bool:
    name = image.partition(":")[0]
    tool = next((tool for tool in TOOLS if tool.image == name), None)
    if tool is None and name != "python":
        return False
    if engine.inspect(BASE) is None:
        _make_base(engine)
    if tool is None:
        engine("tag", BASE, image)
    else:
        _make_tool(engine, tool, image)
    return True


def _make_base(engine: Engine) -> None:
    """Debian's smallest system with its Python where the official image has it."""
    debootstrap = _program("debootstrap", "debootstrap")
    with TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        packages = "--include=" + ",".join(_PACKAGES)
        run((debootstrap, "--variant=minbase", packages, "bookworm", str(root)), BUILD_S)
        for needless in _NEEDLESS:
            shutil.rmtree(root / needless)
            (root / needless).mkdir()
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()  # the official image has none
        for name, target in (("python", "python3.11"), ("python3", "python3.11"), ("pip", "pip")):
            (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
        archive = Path(folder) / "root.tar"
        run(("tar", "-C", str(root), "--one-file-system", "-cf", str(archive), "."), BUILD_S)
        changes = (f"ENV PATH={PATH}", 'CMD ["python3"]', f"LABEL {LABEL}=true")
        flags = [flag for change in changes for flag in ("--change", change)]
        engine("import", *flags, str(archive), BASE, timeout=BUILD_S)


def _make_tool(engine: Engine, tool: Tool, image: str) -> None:
    with TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copy(_program(tool.program, tool.program), context / tool.program)
        shutil.copy(_program("busybox", "busybox-static"), context / "busybox")
        if tool.share:
            shutil.copytree(tool.share, context / "share")
        (context / "Dockerfile").write_text(tool.dockerfile)
        engine("build", "--quiet", "--tag", image, str(context), timeout=BUILD_S)


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=PATH)
    assert found, f"{name} is missing: apt-get install {package}"
    return found
