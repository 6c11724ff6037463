"""The Debian package with the binary under test."""

import functools
import subprocess
from pathlib import Path

from broker import BINARY, ROOT


@functools.cache
def package():
    """Where it is, built once."""
    said = subprocess.run(
        [ROOT / "deploy/package.sh", "--binary", BINARY], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if said.returncode != 0:
        raise AssertionError(said.stdout + said.stderr)
    return Path(said.stdout.splitlines()[-1])
