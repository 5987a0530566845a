"""What the vault holds: the catalog's encodings together with their mappings, and the way from a hash to an image.

A mapping that this machine keeps needs no question; the others are asked of the devices, many at a time, so that a
machine that has never stored anything sees the whole vault too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from common.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from common.protocol.messages import MAX_BATCH, EncodingAt, ShareName, shares_at_hand
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, open_mapping
from consumer.asking import Description, Devices

_HASH = re.compile(r"[0-9a-f]{8,64}")
_FULL = 64  # hex digits


@dataclass(frozen=True)
class Held:
    """One image of the vault: its mapping and all its encodings, the most complete first."""

    mapping: Mapping
    encodings: list[EncodingAt]

    @property
    def sha256(self) -> str:
        return self.mapping.image_sha256.hex()

    @property
    def restorable(self) -> bool:
        return any(len(shares_at_hand(encoding)) >= encoding.k for encoding in self.encodings)


class Mappings:
    """Mappings by encoding id: those kept on this machine, and those asked for."""

    def __init__(self, devices: Devices, vault: VaultFolder, key: VaultKey) -> None:
        self._devices = devices
        self._vault = vault
        self._key = key

    def kept(self, encoding: EncodingAt) -> Optional[Mapping]:
        return self._vault.mapping(self._key, encoding.object_id, encoding.encoding_id)

    async def of(self, encodings: Iterable[EncodingAt]) -> dict[bytes, Mapping]:
        """encoding id → mapping, as far as they are to be had."""
        found: dict[bytes, Mapping] = {}
        missing: dict[bytes, EncodingAt] = {}
        for encoding in encodings:
            mapping = self.kept(encoding)
            if mapping is not None:
                found[encoding.encoding_id] = mapping
            else:
                missing[encoding.encoding_id] = encoding
        asked: set[tuple[bytes, bytes]] = set()
        while missing:
            questions = _questions(missing.values(), asked)
            if not questions:
                return found
            for device, names in questions.items():
                for start in range(0, len(names), MAX_BATCH):
                    page = names[start : start + MAX_BATCH]
                    answers = await self._devices.describe(device, page, with_recipe=False)
                    for name, answer in zip(page, answers):
                        if isinstance(answer, Description):
                            self._take(missing, found, name.encoding_id, answer.mapping)
        return found

    def _take(
        self, missing: dict[bytes, EncodingAt], found: dict[bytes, Mapping], encoding_id: bytes, sealed: bytes
    ) -> None:
        """Believe a mapping that opens, and keep it; another device is asked where it doesn't."""
        encoding = missing.get(encoding_id)
        if encoding is None:
            return
        try:
            found[encoding_id] = open_mapping(self._key, sealed, encoding.object_id, encoding_id)
        except (IntegrityError, RefusedError):
            return
        self._vault.keep_mapping(encoding.object_id, encoding_id, sealed)
        del missing[encoding_id]


def _questions(encodings: Iterable[EncodingAt], asked: set[tuple[bytes, bytes]]) -> dict[bytes, list[ShareName]]:
    """device → the shares to ask it about: for each encoding one holder that was not asked yet."""
    questions: dict[bytes, list[ShareName]] = {}
    for encoding in encodings:
        for share, devices in shares_at_hand(encoding).items():
            device = devices[0]
            if (encoding.encoding_id, device) not in asked:
                asked.add((encoding.encoding_id, device))
                questions.setdefault(device, []).append(ShareName(encoding.encoding_id, share))
                break
    return questions


def combine(encodings: Iterable[EncodingAt], mappings: dict[bytes, Mapping]) -> list[Held]:
    """The images, each with all its encodings; without those whose mapping is not to be had."""
    by_object: dict[bytes, list[EncodingAt]] = {}
    for encoding in encodings:
        by_object.setdefault(encoding.object_id, []).append(encoding)
    held = []
    for group in by_object.values():
        mapping = next((mappings[e.encoding_id] for e in group if e.encoding_id in mappings), None)
        if mapping is not None:
            held.append(Held(mapping, group))
    return held


def check_hash(text: str) -> str:
    """A SHA-256 or the beginning of one, as a person gives it; UsageError where it is neither."""
    text = text.strip().lower()
    if _HASH.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not a SHA-256, nor eight or more hex digits that one begins with")
    return text


def is_full(text: str) -> bool:
    return len(text) == _FULL


def find(prefix: str, held: Iterable[Held]) -> Held:
    """The one image whose SHA-256 begins so; NotFoundError where none does, UsageError where several do."""
    matches = [image for image in held if image.sha256.startswith(prefix)]
    if not matches:
        raise NotFoundError(
            f"the vault holds no image whose SHA-256 begins with {prefix}",
            advice="see what it holds with: python consumer/consumer.py --list",
        )
    if len(matches) > 1:
        raise UsageError(f"{prefix} is the beginning of {len(matches)} images' SHA-256; give more of its digits")
    return matches[0]
