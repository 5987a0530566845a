"""The paths of a store.

    <store>/shares/ab/cd/<encoding>.<share>     committed shares
    <store>/staging/<encoding>.<share>.<owner>  shares being stored; they survive a restart
    <store>/quarantine/<encoding>.<share>       shares found bad, until they are stored anew or discarded
    <store>/trash/<encoding>.<share>.<fate>     shares that were deleted or are surplus, until their time is over
    <store>/tombstones/<encoding>.<owner>       what was deleted, as its owner signed it
    <store>/amendments/<encoding>.<share>.<base>  what replaces the commitment in a share's trailer
    <store>/scrub.json                          how far the scrub has come
    <store>/reserve                             room that is kept for deleting
    <store>/device.key, brokers.json …          this device's identity, see `command`
    <store>/store.lock                          held by the worker, so that no second one works on the same store

Encoding ids and owners are 32 hexadecimal digits in lower case, a share is two. Files of other names are left alone,
but in `staging/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

ShareKey = tuple[bytes, int]  # encoding id, share

_KEY = re.compile(r"([0-9a-f]{32})\.([0-3][0-9a-f])")
_ID = re.compile(r"[0-9a-f]{32}")


class Layout:
    """The paths of one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shares = folder / "shares"
        self.staging = folder / "staging"
        self.quarantine = folder / "quarantine"
        self.trash = folder / "trash"
        self.tombstones = folder / "tombstones"
        self.amendments = folder / "amendments"
        self.scrub = folder / "scrub.json"
        self.reserve = folder / "reserve"
        self.lock = folder / "store.lock"
        self._share_folders: dict[str, Path] = {}

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.shares, self.staging, self.quarantine, self.trash, self.tombstones, self.amendments

    def share(self, key: ShareKey) -> Path:
        return self.share_folder(key) / file_name(key)

    def share_folder(self, key: ShareKey) -> Path:
        """The folder of a share; the same object each time, for quick look-ups in a set."""
        name = key[0][:2].hex()
        folder = self._share_folders.get(name)
        if folder is None:
            folder = self._share_folders[name] = self.shares / name[:2] / name[2:]
        return folder

    def staged(self, key: ShareKey, owner: bytes) -> Path:
        return self.staging / f"{file_name(key)}.{owner.hex()}"

    def quarantined(self, key: ShareKey) -> Path:
        return self.quarantine / file_name(key)

    def trashed(self, key: ShareKey, fate: str) -> Path:
        return self.trash / f"{file_name(key)}.{fate}"

    def amendment(self, key: ShareKey, base: str) -> Path:
        """`base`: the first hexadecimal digits of the share file's digest."""
        return self.amendments / f"{file_name(key)}.{base}"

    def tombstone(self, encoding_id: bytes, owner: bytes) -> Path:
        return self.tombstones / f"{encoding_id.hex()}.{owner.hex()}"


def file_name(key: ShareKey) -> str:
    return f"{key[0].hex()}.{key[1]:02x}"


def read_key(name: str) -> Optional[ShareKey]:
    """The share that a file name stands for; None for other names."""
    match = _KEY.fullmatch(name)
    return (bytes.fromhex(match[1]), int(match[2], 16)) if match else None


def read_encoding_id(name: str) -> Optional[bytes]:
    """The encoding that a tombstone's file is called after, in any version; None where it is called otherwise."""
    beginning = name.split(".")[0]
    return bytes.fromhex(beginning) if _ID.fullmatch(beginning) else None


def read_key_and_rest(name: str) -> Optional[tuple[ShareKey, str]]:
    """The share that a name begins with, and what follows the last dot."""
    beginning, _, rest = name.rpartition(".")
    key = read_key(beginning)
    return (key, rest) if key is not None else None


def read_staged_name(name: str) -> Optional[tuple[ShareKey, bytes]]:
    """The share and the owner that a staged file's name stands for."""
    read = read_key_and_rest(name)
    if read is None or not _ID.fullmatch(read[1]):
        return None
    return read[0], bytes.fromhex(read[1])
