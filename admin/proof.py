"""The last time that the whole vault was proven restorable: `vault/proven.json`, written by `verify --all --deep`.

When, and of how many images, is all that it says: nothing that a look at the folder would not tell.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Optional

import msgspec

from common.errors import IntegrityError
from common.files import read_limited, write_private

_MAX_FILE = 4096
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]

log = logging.getLogger(__name__)


class Proof(msgspec.Struct, frozen=True):
    """Every share at hand was read, and every image could be restored."""

    at: _Count  # Unix seconds, when it was done
    images: _Count


def keep_proof(home: Path, proof: Proof) -> None:
    """Keep it in place of the one before; where the disk refuses, that is said, and no more: the proof holds."""
    path = _path(home)
    try:
        write_private(path, json.dumps(msgspec.to_builtins(proof)).encode())
    except OSError as error:
        log.warning("%s could not be written: %s", path, error.strerror)


def last_proof(home: Path) -> Optional[Proof]:
    """The last one; None where there was none, or its record is damaged."""
    try:
        return msgspec.json.decode(read_limited(_path(home), _MAX_FILE), type=Proof)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IntegrityError) as error:
        log.warning("%s is damaged, and left out: %s", _path(home), error)
        return None


def _path(home: Path) -> Path:
    return home / "vault" / "proven.json"
