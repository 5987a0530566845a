"""The command lines that are equivalent to what is done in the window."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

SHOWN_DIGITS = 16  # of a SHA-256


def command_line(program: str, *arguments: str) -> str:
    """A command line, from the checkout's folder: `python producer/producer.py …`, quoted for this platform's shell."""
    return _quoted("python", f"{program}/{program}.py", *arguments)


def renaming(path: Path, target: Path) -> str:
    """The command line that renames a file."""
    return _quoted("move" if sys.platform == "win32" else "mv", str(path), str(target))


def _quoted(*words: str) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
