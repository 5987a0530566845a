"""The folder of the broker that a command is for: it must be there, be this account's, and best be served now."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import NotFoundError, RefusedError
from common.files import is_locked
from common.home import home
from common.process.program import warn

_SCRIPT = Path(__file__).resolve().parent / "broker.py"


def folder_of_broker(*command: str) -> Path:
    """The folder of the broker that this command (its words) is for; it warns where no broker runs on it now.

    NotFoundError where none ever did, RefusedError where it is another account's.
    """
    folder = home() / "broker"
    try:
        owner = (folder / "broker.key").stat().st_uid
    except FileNotFoundError:
        raise NotFoundError(
            f"no broker ever ran with the folder {folder}",
            advice="run this on the broker's machine, in its account and with its TESSERA_HOME; where it is a service: "
            + _at_service(command),
        ) from None
    except PermissionError:
        raise RefusedError(
            f"the folder {folder} is another account's",
            advice=f"run this in the broker's account; where it is a service: {_at_service(command)}",
        ) from None
    if sys.platform != "win32" and owner != os.geteuid():
        # What this account wrote there the broker could not read any more.
        account = _account(owner)
        raise RefusedError(
            f"the broker of {folder} is run by the account {account}, and this is another",
            advice=f"run this in its account: {_in_account(account, str(home()), command)}",
        )
    if not is_locked(folder / "broker.lock"):
        warn(f"warning: no broker runs with {folder} now; what is done holds as soon as one does")
    return folder


def _at_service(command: Sequence[str]) -> str:
    """How this command reaches a broker that runs as `deploy/` sets it up."""
    if sys.platform == "win32":
        words = subprocess.list2cmdline([sys.executable, str(_SCRIPT), *command])
        return f"set TESSERA_HOME=%ProgramData%\\Tessera in an administrator's console, then {words}"
    return _in_account("tessera", "/var/lib/tessera", command)


def _in_account(account: str, its_home: str, command: Sequence[str]) -> str:
    words = [f"TESSERA_HOME={its_home}", sys.executable, str(_SCRIPT), *command]
    return f"sudo -u {shlex.quote(account)} env {shlex.join(words)}"


def _account(owner: int) -> str:
    """Its name, or its number as sudo takes it."""
    if sys.platform != "win32":
        import pwd

        with contextlib.suppress(KeyError):
            return pwd.getpwuid(owner).pw_name
    return f"#{owner}"
