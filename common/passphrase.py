"""Where a passphrase comes from: a file, the environment, or the person at the terminal; never the command line."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Optional

from common.errors import NotFoundError, RefusedError, UsageError
from common.files import read_limited

_MAX_FILE = 64 * 1024
VARIABLE = "TESSERA_PASSPHRASE"


def read_passphrase(
    file: Optional[Path],
    *,
    prompt: str = "Passphrase of the vault: ",
    confirm: bool = False,
    variable: str = VARIABLE,
) -> str:
    """The passphrase: from the file, else the environment variable, else the terminal.

    With `confirm`, a person has to type it twice. RefusedError where none is given and nobody can be asked.
    """
    if file is not None:
        return _from_file(file)
    if variable in os.environ:
        return os.environ[variable]
    if not sys.stdin.isatty():
        raise RefusedError(
            "no passphrase given", advice=f"set {variable}, or use --passphrase-file, or run it at a terminal"
        )
    passphrase = getpass.getpass(prompt)
    if confirm and getpass.getpass("The same again: ") != passphrase:
        raise UsageError("the two passphrases differ")
    return passphrase


def _from_file(file: Path) -> str:
    """A file's content; one line ending at its end is not part of the passphrase."""
    try:
        text = read_limited(file, _MAX_FILE).decode("utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {file}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text") from None
    return text[: -len("\r\n")] if text.endswith("\r\n") else text[:-1] if text.endswith("\n") else text
