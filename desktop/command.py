"""The desktop app's command line: what it takes to open the window."""

from __future__ import annotations

from typing import NoReturn

from common.errors import UsageError
from common.program import application, run

commands = application("Store and reassemble images with a mouse.")


@commands.command()
def start() -> None:
    """Open the window."""
    try:
        import tkinter
    except ImportError:
        raise UsageError(
            "this Python has no tkinter, which windows need",
            advice="Debian, Ubuntu: apt install python3-tk; elsewhere a Python from python.org has it",
        ) from None
    try:
        from desktop.app import open_window
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the package {error.name} is missing",
            advice="install what the window needs: python -m pip install -r requirements-desktop.txt",
        ) from None
    try:
        open_window()
    except tkinter.TclError as error:
        if "display" not in str(error):
            raise
        raise UsageError("there is no screen to open a window on", advice="start it in a desktop session") from None


def main() -> NoReturn:
    run(commands, "desktop")
