"""Virtual environments of peers that are Python packages, each by itself, in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from platformdirs import user_cache_path

from common.errors import TesseraError
from common.process.program import warn


def environment(name: str, *requirements: str) -> Path:
    """The folder of the environment's commands; made and filled by pip where it is not there yet.

    TesseraError where pip could not install what is required.
    """
    folder = user_cache_path("tessera-bench") / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    stamp, wanted = folder / "installed", "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return commands
    warn(f"installing {', '.join(requirements)} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    pip = [os.fspath(commands / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", os.fspath(folder)], [*pip, *requirements]):
        if subprocess.run(command).returncode != 0:
            raise TesseraError(f"{', '.join(requirements)} could not be installed into {folder}")
    stamp.write_text(wanted)
    return commands
