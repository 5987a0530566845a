"""Where a passphrase comes from, never the command line, and which new ones are too weak.

In this order: a file, the environment, the system's keyring where the vault's passphrase was put there
(`system_keyring`), the terminal. What editors and shells put before and behind it is stripped (`as_typed`), wherever it
comes from. A new one cannot have anything within that no keyboard gives, such as a line end: it would open the vault
from that file only.

A new one of fewer than 8 characters is refused, and so is one of fewer than 4 different ones: whoever has the key file
can guess without limit, and finds those whatever each guess costs. Below 15 characters a warning says what would be
better; nothing else is asked (no digits, no capitals), since such rules make passphrases worse. These are the lengths
of NIST SP 800-63B-4, section 3.1.1.2, which found the same.
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
from common.text import BYTE_ORDER_MARK, as_typed, decoded
from common.vault.system_keyring import remembered

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
    variable: str = VARIABLE,
    ask_keyring: bool = True,
) -> str:
    """The passphrase: from the file, else the environment variable, else the keyring, else the terminal.

    RefusedError where none is given and nobody can be asked.
    """
    given = _given(file, variable)
    if given is None and ask_keyring:
        given = remembered(home())
    return _asked(prompt, variable) if given is None else given


def read_new_passphrase(file: Optional[Path], *, prompt: str, variable: str = VARIABLE) -> str:
    """A new passphrase, as it is typed: from the file, else the environment variable, else typed twice at the terminal.

    UsageError where it is too weak, before it has to be repeated, or where the two differ;
    RefusedError where none is given and nobody can be asked.
    """
    given = _given(file, variable)
    passphrase = as_typed(_asked(prompt, variable) if given is None else given)
    check_new_passphrase(passphrase)
    if given is None and as_typed(_asked("The same again: ", variable)) != passphrase:
        raise UsageError("the two passphrases differ")
    return passphrase


def check_new_passphrase(passphrase: str) -> None:
    """UsageError where a new passphrase is too weak or cannot be typed; a warning where it is not strong."""
    text = unicodedata.normalize("NFC", as_typed(passphrase))
    if any(unicodedata.category(character) == "Cc" or character == BYTE_ORDER_MARK for character in text):
        raise UsageError(
            "a new passphrase is one line, of characters that can be typed",
            advice="look at its file: it has several lines, or something that does not show",
        )
    if len(text) < _LEAST:
        raise UsageError(f"a new passphrase has at least {_LEAST} characters", advice=_ADVICE)
    if len(set(text)) < _LEAST_DIFFERENT:
        raise UsageError(f"a new passphrase has at least {_LEAST_DIFFERENT} different characters", advice=_ADVICE)
    if len(text) < _GOOD:
        log.warning("this passphrase is short: whoever copies the key file may guess it; four or more words are better")


def _given(file: Optional[Path], variable: str) -> Optional[str]:
    """The passphrase from file or environment; None where the user has to be asked."""
    if file is None:
        return os.environ.get(variable)
    with reading_text(file):
        text = decoded(read_limited(file, _MAX_FILE))
    return as_typed(text)


def _asked(prompt: str, variable: str) -> str:
    if not sys.stdin.isatty():
        raise RefusedError(
            "no passphrase given", advice=f"set {variable}, or use --passphrase-file, or run it at a terminal"
        )
    return getpass.getpass(prompt)
