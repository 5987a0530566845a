"""A recovery kit as it is put on paper: a sheet for each code, which says what it is and how it is used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from common.files import there_already, write_new
from common.vault.recovery import RecoveryCode

_SHEET = """\
# Tessera recovery code {number} of {of}, set {set_name}
# Any {need} codes of this set, with different numbers, open the whole vault, whatever its passphrase is.
# Keep each in another place or with another person, on paper. To restore, on any machine with Tessera:
#   python admin/admin.py vault restore
# Digits, and all letters but I, L, O, U. Small letters count as capitals. Lines with # are no part of the code.
"""


def kit_text(codes: Sequence[RecoveryCode]) -> str:
    """All sheets of a kit."""
    return "\n".join(
        _SHEET.format(number=code.number, of=len(codes), need=code.need, set_name=code.set_name)
        + "\n".join(code.lines())
        + "\n"
        for code in codes
    )


def require_new(file: Path) -> None:
    """UsageError where there is a file of this name."""
    if os.path.lexists(file):
        raise there_already(file)


def save_kit(file: Path, text: str) -> None:
    """Write sheets into a new file that only its owner may read; errors as of `write_new`."""
    write_new(file, text.encode("ascii"))
