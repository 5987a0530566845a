"""The vault that images are stored for: this machine's own, or another's, of which only the contact card is known.

For its own vault a machine looks up what is stored already, keeps an index of files, and resumes what was interrupted.
For another it can only store: it cannot open what it sealed to the card, and the broker answers no requests about that
vault. So a camera needs a card and no key, and whoever takes it can read nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from common.link.link import Link
from common.membership.identity import ClientIdentity
from common.process.events import Emit
from common.protocol.messages import NO_TRASH, EncodingAt, Tombstone
from common.vault.contact_card import ContactCard
from common.vault.folder import VaultFolder
from common.vault.granting import card_object_id, seal_to_card
from common.vault.index_rows import MappingRow
from common.vault.journal import Journal, Journals
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, SealedMapping, seal_own
from common.vault.seen import SeenFiles
from common.vault.signer import Signer, depositor, owner_signer
from common.vault.stamp import Stamp

Kept = tuple[SealedMapping, bytes, Optional[bytes]]  # with the encoding id, and the content of a snapshot or tree


class Owner:
    """The vault that images are stored for. What keeps state does nothing for another's vault."""

    is_own: bool = False  # whether the broker answers requests about the vault

    def link(self, identity: ClientIdentity, emit: Emit) -> Link:
        """A link with the rights that this machine has for the vault."""
        raise NotImplementedError

    def object_id(self, image_sha256: bytes) -> bytes:
        """The object id of an image of the vault."""
        raise NotImplementedError

    def snapshot_ids(self, snapshot: bytes) -> tuple[bytes, bytes]:
        """The object ids of the snapshot with this SHA-256, and of what prunes are about to delete (`prune_plan`)."""
        raise NotImplementedError

    @property
    def signer(self) -> Signer:
        """Who signs for what is stored."""
        raise NotImplementedError

    def seal(self, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
        """Seal a mapping for the owner alone."""
        raise NotImplementedError

    def withdrawal(self, object_id: bytes, encoding_id: bytes) -> Optional[Tombstone]:
        """What has devices delete what they committed of an image that is not stored; None where only its owner can."""
        return None

    # --- what this machine remembers

    def journal(self, path: Path) -> Optional[Journal]:
        """That of a put of this file; None where there can be none. OSError where it cannot be kept."""
        return None

    def forget_old(self, now: float) -> None:
        """Forget puts that can be gone on with no more; `now` in Unix seconds."""

    def seen(self, stamps: Sequence[Optional[Stamp]]) -> list[bytes]:
        """The SHA-256 of each file that was seen before; empty where it was not."""
        return [b""] * len(stamps)

    def resembles_seen(self, stamp: Optional[Stamp]) -> bool:
        """Whether a file of this path and size was seen before: it is likely to be stored already."""
        return False

    def remember(self, stamp: Optional[Stamp], sha256: bytes) -> None:
        """A file with this stamp is stored."""

    def keep_mappings(self, stored: Sequence[Kept]) -> None:
        """Images with these mappings are stored."""

    def marks_kept(self, encoding: EncodingAt) -> bool:
        """Whether it is known that no prune deletes this, as what was first stored without a snapshot."""
        return True

    def save(self, emit: Emit) -> None:
        """To be called once, when all is stored or given up; `emit` is told where the disk refuses."""


class OtherVault(Owner):
    """A contact's vault: images are left there, and are its owner's from then on."""

    def __init__(self, card: ContactCard, identity: ClientIdentity) -> None:
        self._card = card
        self._signer = depositor(identity.key_pair.secret, card.owner)

    @property
    def signer(self) -> Signer:
        return self._signer

    def link(self, identity: ClientIdentity, emit: Emit) -> Link:
        proof = self._signer.key.proof(identity.key_pair.public)
        return Link(identity, proof, deposit_for=self._card.owner_key, emit=emit)

    def object_id(self, image_sha256: bytes) -> bytes:
        return self._card.object_id(image_sha256)

    def seal(self, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
        return SealedMapping(card_object_id(self._card, mapping), seal_to_card(self._card, mapping, encoding_id))


def withdrawal(key: VaultKey, object_id: bytes, encoding_id: bytes) -> Tombstone:
    """What deletes, for good, what devices committed of an encoding that is not stored after all."""
    return key.tombstone(object_id, encoding_id, 1, NO_TRASH)


class OwnVault(Owner):
    """The vault whose key is on this machine, and what the machine remembers of storing for it."""

    is_own: bool = True

    def __init__(self, vault: VaultFolder, key: VaultKey) -> None:
        self._journals = Journals(vault.folder, key)
        self._index = vault.index(key)
        self._key = key
        self._seen = SeenFiles(self._index)

    @property
    def signer(self) -> Signer:
        return owner_signer(self._key)

    def link(self, identity: ClientIdentity, emit: Emit) -> Link:
        return Link(identity, self._key.owner_proof(identity.key_pair.public), emit=emit)

    def object_id(self, image_sha256: bytes) -> bytes:
        return self._key.object_id(image_sha256)

    def snapshot_ids(self, snapshot: bytes) -> tuple[bytes, bytes]:
        return self._key.snapshot_object_id(snapshot), self._key.prune_object_id()

    def seal(self, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
        return seal_own(self._key, mapping, encoding_id)

    def withdrawal(self, object_id: bytes, encoding_id: bytes) -> Tombstone:
        return withdrawal(self._key, object_id, encoding_id)

    # --- what this machine remembers

    def journal(self, path: Path) -> Optional[Journal]:
        return self._journals.open(path)

    def forget_old(self, now: float) -> None:
        self._journals.remove_old(now)

    def seen(self, stamps: Sequence[Optional[Stamp]]) -> list[bytes]:
        hashes = iter(self._seen.sha256s_of([stamp for stamp in stamps if stamp is not None]))
        return [b"" if stamp is None else next(hashes) for stamp in stamps]

    def resembles_seen(self, stamp: Optional[Stamp]) -> bool:
        return stamp is not None and self._seen.resembles(stamp)

    def remember(self, stamp: Optional[Stamp], sha256: bytes) -> None:
        if stamp is not None:
            self._seen.add(stamp, sha256)

    def keep_mappings(self, stored: Sequence[Kept]) -> None:
        rows = [(MappingRow(sealed.object_id, id_, sealed.mapping), content) for sealed, id_, content in stored]
        self._index.keep_mappings(rows)

    def marks_kept(self, encoding: EncodingAt) -> bool:
        mapping = self._index.mapping(encoding.object_id, encoding.encoding_id)
        return mapping is not None and bool(mapping.kept)

    def save(self, emit: Emit) -> None:
        self._seen.save()
