"""The paths of a store.

    <store>/packs/<number>.<salt>.pack1                small shares and all that is to be remembered (`pack_format`)
    <store>/shares/<ab>/<encoding>.<share>.<serial>    large shares, a file each; <ab> begins the encoding id
    <store>/staging/<encoding>.<share>.<owner>         large shares being stored; they survive a restart
    <store>/index.sqlite                               where each share lies, and its state; made anew where it lacks
    <store>/reserve                                    room that is kept for deleting
    <store>/device.key, brokers.json …                 this device's identity, see `command`
    <store>/store.lock                                 held by the worker, so that no second one works on the store

Encoding ids and owners are 32 hexadecimal digits in lower case, a serial is 16, a share is two. Files of other names
are left alone, but in `staging/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional

ShareKey = tuple[bytes, int]  # encoding id, share

_KEY = re.compile(r"([0-9a-f]{32})\.([0-3][0-9a-f])")
_ID = re.compile(r"[0-9a-f]{32}")
_SERIAL = re.compile(r"[0-9a-f]{16}")


class Place(NamedTuple):
    """Where bytes lie: in a pack, or, with the number 0, in a file of their own."""

    pack: int
    offset: int
    length: int


class Layout:
    """The paths of one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packs = folder / "packs"
        self.shares = folder / "shares"
        self.staging = folder / "staging"
        self.index = folder / "index.sqlite"
        self.reserve = folder / "reserve"
        self.lock = folder / "store.lock"

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.packs, self.shares, self.staging

    def share(self, key: ShareKey, serial: int) -> Path:
        return self.share_folder(key) / f"{file_name(key)}.{serial:016x}"

    def share_folder(self, key: ShareKey) -> Path:
        return self.shares / key[0][:1].hex()

    def staged(self, key: ShareKey, owner: bytes) -> Path:
        return self.staging / f"{file_name(key)}.{owner.hex()}"


def file_name(key: ShareKey) -> str:
    return f"{key[0].hex()}.{key[1]:02x}"


def read_share_name(name: str) -> Optional[tuple[ShareKey, int]]:
    """The share and the serial that a large share's file is called after; None for other names."""
    key, rest = _read_key_and_rest(name)
    return (key, int(rest, 16)) if key is not None and _SERIAL.fullmatch(rest) else None


def read_staged_name(name: str) -> Optional[tuple[ShareKey, bytes]]:
    """The share and the owner that a staged file's name stands for."""
    key, rest = _read_key_and_rest(name)
    return (key, bytes.fromhex(rest)) if key is not None and _ID.fullmatch(rest) else None


def _read_key_and_rest(name: str) -> tuple[Optional[ShareKey], str]:
    """The share that a name begins with, and what follows the last dot."""
    beginning, _, rest = name.rpartition(".")
    match = _KEY.fullmatch(beginning)
    return ((bytes.fromhex(match[1]), int(match[2], 16)) if match else None), rest
