"""What replaces the commitment in a share's trailer: a small file for each share that was amended.

    <store>/amendments/<encoding id in hex>.<share>.<base, its first 16 hex digits>
    array of 5    "tessera-amendment", 3, base, signed commitment without its recipe, digest of that recipe
    bin of 32     BLAKE3-256 of the array

The base is the digest in the share file's footer, so an amendment belongs to one committed file and no other, wherever
that lies: in its place, in quarantine or in the trash. It is written whole and replaces the old one by a rename; the
share's file is never changed. One that cannot be read makes its share damaged: the commitment in the file was
superseded, and is never used again.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Callable, Optional

import msgspec

from common.coding.recipe import digest
from common.errors import IntegrityError
from common.protocol.device_messages import MAX_GRANTED_MAPPING, MAX_TRANSFERS, SignedCommitment
from common.protocol.messages import MAX_GRANTS, Digest
from worker.disk import Disk
from worker.durability import NEW, Durability
from worker.format_version import Record, decode_record, encode_record
from worker.layout import Layout, ShareKey, file_name, read_key_and_rest

log = logging.getLogger(__name__)

_MAGIC = "tessera-amendment"
_VERSION = 3
_BASE = re.compile(r"[0-9a-f]{16}")
MAX_AMENDMENT_SIZE = (MAX_GRANTS + 1) * (MAX_GRANTED_MAPPING + 256) + MAX_TRANSFERS * 128


class _Record(Record):
    base: Digest
    signed: SignedCommitment  # its recipe is empty
    recipe_digest: Digest


def encode_amendment(signed: SignedCommitment, base: bytes) -> bytes:
    """The content of the file that amends the share with this base by a commitment."""
    recipe = signed.commitment.recipe
    return encode_record(_Record(_MAGIC, _VERSION, base, _with_recipe(signed, b""), digest(recipe)))


def decode_amendment(content: bytes, base: bytes, recipe: bytes) -> SignedCommitment:
    """The commitment in an amendment's file, with the share's recipe.

    IntegrityError where it is not what was written for this base, or is of another recipe.
    """
    record = decode_record(content, _Record, _MAGIC, _VERSION)
    if record.base != base:
        raise IntegrityError("the amendment is another share's")
    if record.recipe_digest != digest(recipe) or record.signed.commitment.recipe:
        raise IntegrityError("the amendment is of another recipe")
    return _with_recipe(record.signed, recipe)


def _with_recipe(signed: SignedCommitment, recipe: bytes) -> SignedCommitment:
    commitment = msgspec.structs.replace(signed.commitment, recipe=recipe)
    return msgspec.structs.replace(signed, commitment=commitment)


class Amendments:
    """All amendments: their names in memory, their contents on the disk."""

    def __init__(self, disk: Disk, layout: Layout, durability: Durability) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._sizes: dict[ShareKey, dict[str, int]] = {}  # share → beginning of the base → bytes

    def load(self) -> None:
        """List the folder; OSError where it cannot be listed."""
        for entry in self._disk.entries(self._layout.amendments):
            if entry.path.name.endswith(NEW):  # its writing was interrupted, before it was acknowledged
                self._remove(entry.path)
                continue
            name = read_key_and_rest(entry.path.name)
            if name is not None and _BASE.fullmatch(name[1]):
                self._sizes.setdefault(name[0], {})[name[1]] = entry.size

    def size(self, key: ShareKey, base: bytes) -> int:
        """Bytes of the amendment to this share's file; 0 where there is none."""
        return self._sizes.get(key, {}).get(_name(base), 0)

    def find(self, key: ShareKey, base: bytes, recipe: bytes) -> Optional[SignedCommitment]:
        """What amends a share's file with this base and recipe; IntegrityError or OSError where it cannot be read."""
        if _name(base) not in self._sizes.get(key, {}):
            return None
        path = self._layout.amendment(key, _name(base))
        return decode_amendment(self._disk.read_whole(path, MAX_AMENDMENT_SIZE), base, recipe)

    def write(self, key: ShareKey, base: bytes, signed: SignedCommitment) -> None:
        """Keep what amends a share durably, in place of an older one; OSError where the disk refuses."""
        content = encode_amendment(signed, base)
        self._durability.write(self._layout.amendment(key, _name(base)), content)
        self._sizes.setdefault(key, {})[_name(base)] = len(content)

    def drop(self, wanted: Callable[[ShareKey], bool]) -> None:
        """Remove those of shares that are not here any more, those too that a power cut brings back.

        Where the folder of such a share cannot be listed, or is gone, as with a disk that is not mounted, they stay:
        the share may come back, and what lies in its file was superseded.
        """
        for key in [key for key in self._sizes if not wanted(key)]:
            if not self._is_gone(key):
                continue
            if all([self._remove(self._layout.amendment(key, name)) for name in self._sizes[key]]):
                del self._sizes[key]

    def _is_gone(self, key: ShareKey) -> bool:
        """Whether the folder of a share says that it is not there."""
        try:
            names = {entry.path.name for entry in self._disk.entries(self._layout.share_folder(key))}
        except OSError:
            return False
        return file_name(key) not in names

    def _remove(self, path: Path) -> bool:
        try:
            self._disk.remove(path)
        except OSError as error:
            log.warning("cannot remove an amendment: %s", error)
            return False
        return True


def _name(base: bytes) -> str:
    return base.hex()[:16]
