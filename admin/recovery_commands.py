"""The recovery kit's commands: print codes that restore the vault key, and restore it from them.

Codes go to stdout or into a new file that only its owner may read, and come from a file, from stdin or from a person
at the terminal. They are never an argument, and no message or log line has any part of one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import typer

from admin.vault_commands import (
    PASSPHRASE_FILE,
    keep_keyring_true,
    new_passphrase_given,
    vault_folder,
    vault_passphrase,
)
from common.errors import IntegrityError, TesseraError, UsageError
from common.files import read_limited, reading_text, require_new, write_new
from common.process.program import warn
from common.text import decoded
from common.vault.passphrase import VARIABLE, read_new_passphrase
from common.vault.recovery_codes import (
    GROUPS_IN_CODE,
    GROUPS_IN_LINE,
    RecoveryCode,
    code_of,
    groups_of,
    kit_text,
    make_codes,
    read_codes,
    require_possible,
    restore_key,
)

_MAX_CODES_FILE = 64 * 1024
_THIS = "this code"  # as it is typed


def recovery(
    of: int = typer.Option(5, help="How many codes to make, at most 16."),
    need: int = typer.Option(3, help="How many of them restore the vault, at least 2."),
    file: Optional[Path] = typer.Option(None, help="Write the codes into this new file instead of to stdout."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Print recovery codes for the vault, to be written down: some of them restore it without file and passphrase."""
    require_possible(need, of)
    if file is not None:
        require_new(file)
    text = kit_text(make_codes(vault_folder().unlock(vault_passphrase(passphrase_file)), need, of))
    if file is None:
        print(text, end="")
    else:
        write_new(file, text.encode("ascii"))
        print(f"wrote {file}")
        warn("print it, hand the codes out, and then remove the file: it opens the vault to whoever reads it")
    warn(f"any {need} of these {of} codes open the vault; {need - 1} tell nothing")
    warn("a new passphrase does not change them")


def restore(
    file: Optional[str] = typer.Argument(None, help="File with the codes; - is stdin. Without it you are asked."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Restore the vault key from recovery codes, into a new key file on this machine under a new passphrase."""
    folder = vault_folder()
    folder.require_none()  # before any code is typed
    passphrase = new_passphrase_given(passphrase_file, VARIABLE)
    codes = _asked() if file is None and sys.stdin.isatty() else read_codes(_read(file or "-"))
    restored = restore_key(codes)
    for number in restored.altered:
        warn(f"code number {number} of the kit was altered; it was left out, and the others agree without it")
    if passphrase is None:
        passphrase = read_new_passphrase(None, prompt="New passphrase for the vault: ")
    folder.keep(restored.key, passphrase)
    keep_keyring_true(passphrase)
    print(f"restored the vault: {folder.key_path}")
    warn("its key is confirmed to be the one that the codes were made from")


def _read(file: str) -> str:
    with reading_text(file):
        content = sys.stdin.buffer.read(_MAX_CODES_FILE) if file == "-" else read_limited(Path(file), _MAX_CODES_FILE)
        return decoded(content)


def _asked() -> list[RecoveryCode]:
    """Codes as a person types them, line by line, until there are enough; a line with a fault is asked for again.

    Errors name them by their numbers on the paper, once these are known.
    """
    codes: list[RecoveryCode] = []
    while (left := codes[0].need - len(codes) if codes else 1) > 0:
        if codes:
            warn(f"needed of set {codes[0].set_name}: {left} more, with other numbers; the next one:")
        else:
            warn("any code of the set, in the 5 lines that are on the paper:")
        try:
            code = _asked_code()
            _require_fitting(codes, code)
        except TesseraError as error:
            warn(f"  {error}")
            warn("  type this code again, or another one")
            continue
        codes.append(code)
        warn(f"  that is code number {code.number} of set {code.set_name}")
    return codes


def _require_fitting(codes: list[RecoveryCode], code: RecoveryCode) -> None:
    """UsageError or IntegrityError where a code does not fit those before it, or is given twice."""
    if codes and code.kit != codes[0].kit:
        raise UsageError(
            f"this is code number {code.number} of set {code.set_name}; those before are of set {codes[0].set_name}"
        )
    same = next((former for former in codes if former.number == code.number), None)
    if same is not None and same.share != code.share:
        raise IntegrityError(f"this and one before both say that they are code number {code.number}: one was altered")
    if same is not None:
        raise UsageError(f"code number {code.number} was given before; type one with another number")


def _asked_code() -> RecoveryCode:
    groups: list[str] = []
    while len(groups) < GROUPS_IN_CODE:
        print(f"  line {len(groups) // GROUPS_IN_LINE + 1}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort  # the end of the input is no code
        try:
            groups += groups_of(line, _THIS, len(groups)) if line.strip() else []
        except UsageError as error:
            warn(f"  {error}: type this line again")
    return code_of(groups, _THIS)
