"""Virtual environments of the peers, made on first use from their pinned requirements.

The stamp holds the requirements that an environment was made from, so that a new pin makes it anew.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.bench.contestants import PEERS

ROOT = Path(__file__).parents[2]
_PLACE = ROOT / ".venv-peers"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, with everything in it.

    Raises:
        CalledProcessError: pip could not install it; the environment is removed.
    """
    wanted = (PEERS / f"{peer}.txt").read_text()
    place = _PLACE / peer
    stamp, python = place / "installed", place / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    sys.stderr.write(f"installing {peer} into {place.relative_to(ROOT)}\n")
    venv.create(place, clear=True, with_pip=True)
    try:
        requirements = str(PEERS / f"{peer}.txt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    except BaseException:
        shutil.rmtree(place)
        raise
    stamp.write_text(wanted)
    return python


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Those of the packages that are installed there."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(*(f'{n} {found[n]}' for n in sys.argv[1:] if n in found), sep='\\n')"
    )
    done = subprocess.run(
        [python, "-I", "-c", code, *packages], capture_output=True, text=True, check=True
    )
    return dict(line.split(" ") for line in done.stdout.splitlines())
