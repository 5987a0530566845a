"""Where a passphrase comes from, never the command line, and which new ones are too weak.

In this order: a file, the environment, the system's keyring where the vault's passphrase was put there
(`system_keyring`), the person at the terminal.

A new one of fewer than 8 characters is refused, and so is one of fewer than 4 different ones: whoever has the key file
can guess at their leisure, and those fall to guessing whatever each guess costs. Below 15 characters a warning says
what would be better; nothing else is asked (no digits, no capitals), since such rules make passphrases worse. These
are the lengths of NIST SP 800-63B-4, section 3.1.1.2, which found the same.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
import unicodedata
from pathlib import Path
from typing import Optional

from common.errors import RefusedError, UsageError
from common.files import read_limited, reading_text
from common.home import home
from common.system_keyring import remembered

log = logging.getLogger(__name__)

_MAX_FILE = 64 * 1024
_LEAST = 8  # characters
_LEAST_DIFFERENT = 4
_GOOD = 15  # characters
_ADVICE = "choose four or more words that have nothing to do with each other"
VARIABLE = "TESSERA_PASSPHRASE"


def read_passphrase(
    file: Optional[Path],
    *,
    prompt: str = "Passphrase of the vault: ",
    confirm: bool = False,
    variable: str = VARIABLE,
    ask_keyring: bool = True,
) -> str:
    """The passphrase: from the file, else the environment variable, else the keyring, else the terminal.

    With `confirm`, for a new one, a person has to type it twice, and no keyring is asked. RefusedError where none is
    given and nobody can be asked.
    """
    if file is not None:
        return _from_file(file)
    if variable in os.environ:
        return os.environ[variable]
    if ask_keyring and not confirm and (kept := remembered(home())) is not None:
        return kept
    if not sys.stdin.isatty():
        raise RefusedError(
            "no passphrase given", advice=f"set {variable}, or use --passphrase-file, or run it at a terminal"
        )
    passphrase = getpass.getpass(prompt)
    if confirm and getpass.getpass("The same again: ") != passphrase:
        raise UsageError("the two passphrases differ")
    return passphrase


def check_new_passphrase(passphrase: str) -> None:
    """UsageError where a new passphrase is too weak to be any use; a warning where it is not strong."""
    text = unicodedata.normalize("NFC", passphrase)
    if len(text) < _LEAST:
        raise UsageError(f"a new passphrase has at least {_LEAST} characters", advice=_ADVICE)
    if len(set(text)) < _LEAST_DIFFERENT:
        raise UsageError(f"a new passphrase has at least {_LEAST_DIFFERENT} different characters", advice=_ADVICE)
    if len(text) < _GOOD:
        log.warning("this passphrase is short: whoever copies the key file may guess it; four or more words are better")


def _from_file(file: Path) -> str:
    """A file's content; one line ending at its end is not part of the passphrase."""
    with reading_text(file):
        text = read_limited(file, _MAX_FILE).decode("utf-8")
    return text[: -len("\r\n")] if text.endswith("\r\n") else text[:-1] if text.endswith("\n") else text
