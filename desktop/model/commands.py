"""The command lines that do in a terminal what is done in the window."""

from __future__ import annotations

import shlex
import subprocess
import sys


def command_line(program: str, *arguments: str) -> str:
    """What to type, from the checkout's folder: `python producer/producer.py …`, quoted for this platform's shell."""
    words = ["python", f"{program}/{program}.py", *arguments]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
