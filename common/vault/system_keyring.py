"""The vault's passphrase in the system's keyring, for whoever wants it there: `admin.py vault keyring store`.

The keyring is that of the desktop (GNOME Keyring, KWallet, macOS, Windows), through the library `keyring`, which is
optional (requirements-keyring.txt) and imported only where something is stored: a marker beside the key file says so
and names the entry.

    vault/keyring      the entry's name in the keyring: 32 hexadecimal digits, random

So without a stored passphrase only a file is looked for, and nothing fails where a keyring is missing: a run warns, and
asks. What opens the keyring (mostly the login) then opens the vault.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Any, Optional

from common.errors import RefusedError, TesseraError, UsageError
from common.files import read_limited, write_private

log = logging.getLogger(__name__)

SERVICE = "tessera"
_MAX_MARKER = 64
_ADVICE = "install it with: python -m pip install -r requirements-keyring.txt"


def require_library() -> None:
    """UsageError where the library is not installed."""
    _library()


def store(home: Path, passphrase: str) -> None:
    """Put the passphrase into the keyring, in place of what was there; RefusedError where that cannot be done."""
    keyring = _library()
    name = _entry(home) or secrets.token_hex(16)
    try:
        keyring.set_password(SERVICE, name, passphrase)
    except Exception as error:  # backends raise anything, and the text may have the passphrase in it
        raise RefusedError(
            f"the system's keyring did not take the passphrase ({type(error).__name__})",
            advice="see what `python -m keyring diagnose` says; without it, the passphrase is asked for as before",
        ) from None
    write_private(_marker(home), name.encode("ascii"))


def forget(home: Path) -> bool:
    """Take the passphrase out of the keyring; False where none was stored. RefusedError where that cannot be done."""
    name = _entry(home)
    if name is None:
        return False
    keyring = _library()
    try:
        if keyring.get_password(SERVICE, name) is not None:
            keyring.delete_password(SERVICE, name)
    except Exception as error:
        raise RefusedError(
            f"the system's keyring did not give the passphrase up ({type(error).__name__})",
            advice=f"remove the entry {name} of the service {SERVICE} with the system's own program",
        ) from None
    _marker(home).unlink()
    return True


def is_stored(home: Path) -> bool:
    """Whether this vault's passphrase was put into the keyring."""
    return _entry(home) is not None


def remembered(home: Path) -> Optional[str]:
    """The passphrase from the keyring; None where it was not stored, or cannot be had now."""
    name = _entry(home)
    if name is None:
        return None
    try:
        passphrase: Optional[str] = _library().get_password(SERVICE, name)
    except UsageError as error:
        log.warning("%s", error)
        return None
    except Exception as error:
        log.warning("the system's keyring could not be asked for the passphrase (%s)", type(error).__name__)
        return None
    if passphrase is None:
        log.warning("the system's keyring has no passphrase of this vault any more")
    return passphrase


def _library() -> Any:
    try:
        import keyring
    except ImportError:
        raise UsageError("the library keyring is not installed", advice=_ADVICE) from None
    return keyring


def _marker(home: Path) -> Path:
    return home / "vault" / "keyring"


def _entry(home: Path) -> Optional[str]:
    try:
        name = read_limited(_marker(home), _MAX_MARKER).decode("ascii").strip()
    except (OSError, UnicodeDecodeError, TesseraError):
        return None
    return name or None
