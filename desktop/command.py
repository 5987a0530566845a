"""The desktop app's command line: opens the window."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, Optional

import typer

from common.errors import UsageError
from common.home import home
from common.process.program import application, run
from desktop.model.service import Program
from desktop.services import Services

commands = application("Store and reassemble images with a mouse.")


_AT_LOGIN = typer.Option(None, "--at-login", hidden=True)  # what a login entry starts: no window
_HOME = typer.Option(None, "--home", hidden=True)


@commands.command()
def start(at_login: Optional[Program] = _AT_LOGIN, its_home: Optional[Path] = _HOME) -> None:
    """Open the window."""
    if at_login is not None:
        Services(its_home or home()).resume(at_login, wait=False)
        return
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
