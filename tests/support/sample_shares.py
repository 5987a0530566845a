"""Small encodings for the tests of the worker: blocks of chance, and the recipe and commitment that go with them.

A worker never decodes, so the blocks need not belong to an image.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
from blake3 import blake3
from msgspec.structs import replace

from common.coding.recipe import Recipe, digest
from common.protocol.device_messages import Commitment, Open, SignedCommitment
from common.protocol.identifiers import encoding_id as make_encoding_id
from common.protocol.messages import AnnouncedShare, Answer, Code, Tombstone
from common.vault.keys import VaultKey
from tests.support.clocks import SetClock
from worker.layout import ShareKey
from worker.refusals import Refusal
from worker.share_states import KeptShare, State
from worker.store import ShareStore

OVERHEAD = 64 * 1024  # what a share may take beside its blocks
KEY, STRANGERS_KEY = VaultKey(b"\x0a" * 32), VaultKey(b"\x0b" * 32)
OWNER, STRANGER = KEY.owner_id(), STRANGERS_KEY.owner_id()
HOLD = 7 * 24 * 3600  # seconds
TRASH = 30 * 24 * 3600  # seconds


def chance(label: str, length: int) -> bytes:
    """Bytes without any pattern, the same each time."""
    return bytes(blake3(label.encode()).digest(length=length))


@contextlib.contextmanager
def declined(code: Code) -> Iterator[None]:
    """What is done within is declined by the store, with this code."""
    with pytest.raises(Refusal) as caught:
        yield
    assert caught.value.answer.code is code


@dataclass(frozen=True)
class Sample:
    """An encoding: `blocks[segment][share]`."""

    recipe: Recipe
    blocks: list[list[bytes]]
    nonce: bytes  # of which, with the key of OWNER, its encoding id is made

    @property
    def encoding_id(self) -> bytes:
        return self.recipe.encoding_id

    @property
    def commitment(self) -> Commitment:
        """As its first owner, OWNER, says it."""
        name = self.encoding_id.hex()
        object_id, mapping = chance(f"{name} object", 32), chance(f"{name} mapping", 100)
        return Commitment(object_id, OWNER, self.recipe.encode(), mapping, self.nonce)

    def signed(self, owner: bytes = OWNER, **changes: Any) -> SignedCommitment:
        """What OWNER commits; for another owner as OWNER leaves it for them."""
        transfers = [] if owner == OWNER else [KEY.signing_key().transfer(self.encoding_id, owner)]
        return sign(replace(self.commitment, owner=owner, transfers=transfers, **changes))

    def deletion(self, generation: int = 1, *, key: VaultKey = KEY, trash_seconds: int = TRASH) -> Tombstone:
        return key.tombstone(self.commitment.object_id, self.encoding_id, generation, trash_seconds)

    def undeletion(self, generation: int = 2, *, key: VaultKey = KEY) -> Tombstone:
        return self.deletion(generation, key=key)

    def key(self, share: int) -> ShareKey:
        return self.encoding_id, share

    def opening(self, share: int, *, share_bytes: Optional[int] = None) -> Open:
        recipe = self.recipe
        expected = recipe.share_bytes if share_bytes is None else share_bytes
        return Open(recipe.encoding_id, share, recipe.k, recipe.n, recipe.block_size, expected)

    def append(
        self, store: ShareStore, share: int, segment: int, owner: bytes = OWNER, *, now: float = 0.0, block: bytes = b""
    ) -> None:
        block = block or self.blocks[segment][share]
        store.append(self.key(share), owner, segment, digest(block), memoryview(block), now)

    def stage(self, store: ShareStore, share: int, owner: bytes = OWNER) -> None:
        """Open a share and append all its blocks."""
        store.open(self.opening(share), owner, 0.0)
        for segment in range(self.recipe.segment_count):
            self.append(store, share, segment, owner)

    def commit(self, store: ShareStore, share: int, owner: bytes = OWNER) -> Answer:
        pending = store.prepare_commit(self.key(share), owner, self.signed(owner))
        assert pending is not None, "it was committed before"
        return store.commit_round([pending])[0]

    def put(self, store: ShareStore, share: int, owner: bytes = OWNER) -> None:
        self.stage(store, share, owner)
        assert self.commit(store, share, owner).granted

    def assert_readable(self, store: ShareStore, share: int, owner: bytes = OWNER) -> None:
        for segment, row in enumerate(self.blocks):
            assert store.block(self.key(share), owner, segment) == row[share], f"segment {segment}"
        there = store.share(self.key(share), owner).commitment
        assert (there.recipe, there.mapping) == (self.commitment.recipe, self.commitment.mapping)


def sign(commitment: Commitment, key: VaultKey = KEY) -> SignedCommitment:
    (signed,) = key.signing_key().commit([commitment])
    return signed


@functools.lru_cache
def _nonce_in_folder(label: str, beginning: bytes) -> bytes:
    """A nonce that makes an encoding id which begins so: one of some 65,000."""
    owner_key, first = KEY.owner_key(), int.from_bytes(chance(label, 15), "big")
    nonces = ((first + number).to_bytes(16, "big") for number in itertools.count())
    return next(nonce for nonce in nonces if make_encoding_id(owner_key, nonce).startswith(beginning))


def sample(
    label: str = "one", *, segments: int = 3, k: int = 2, n: int = 3, block_size: int = 64, last: int = 40
) -> Sample:
    """Encodings of different labels differ in all; those whose labels begin alike up to a "/" share their folder."""
    folder, slash, _ = label.partition("/")
    nonce = _nonce_in_folder(label, chance(folder, 2)) if slash else chance(label, 16)
    encoding_id = make_encoding_id(KEY.owner_key(), nonce)
    lengths = [block_size] * (segments - 1) + [last]
    blocks = [[chance(f"{label} {s} {i}", length) for i in range(n)] for s, length in enumerate(lengths)]
    digests = b"".join(digest(block) for row in blocks for block in row)
    return Sample(Recipe(encoding_id, k, n, block_size, last, digests), blocks, nonce)


def large(label: str = "large") -> Sample:
    """An encoding whose shares are files of their own; those of the others lie in packs."""
    return sample(label, segments=2, block_size=300 << 10)


def held_by(store: ShareStore) -> dict[ShareKey, AnnouncedShare]:
    """All that a store announces as held."""
    return {(share.encoding_id, share.share): share for page in store.pages() for share in page}


def lying(store: ShareStore, encoding: Sample, share: int) -> tuple[Path, int, int]:
    """Where a share is kept: the file, the offset in it, and how many bytes of it."""
    kept = next(iter(store._index.copies(encoding.key(share))))
    return place_of(store, kept)


def place_of(store: ShareStore, kept: KeptShare) -> tuple[Path, int, int]:
    if not kept.place.pack:
        return store._layout.share(kept.key, kept.serial), 0, kept.place.length
    (pack,) = store.folder.glob(f"packs/{kept.place.pack:08d}.*")
    return pack, kept.place.offset, kept.place.length


def damage(store: ShareStore, encoding: Sample, share: int, offset: int = 0, content: bytes = b"\xff" * 8) -> None:
    """Overwrite some bytes of a share's record on the disk; an offset below 0 counts from its end."""
    path, start, length = lying(store, encoding, share)
    with open(path, "r+b") as file:
        file.seek(start + (offset if offset >= 0 else length + offset))
        file.write(content)


def staged_files(folder: Path) -> list[Path]:
    return list((folder / "staging").iterdir())


def trashed(store: ShareStore) -> list[KeptShare]:
    """What is in its trash: deleted shares, then surplus ones."""
    return [*store._index.in_state(State.DELETED), *store._index.in_state(State.SURPLUS)]


def pass_time(store: ShareStore, clock: SetClock, seconds: float) -> None:
    """Time passes, and the store does what is due then."""
    clock.pass_time(seconds)
    store.expire(clock.monotonic())


def reopened(store: ShareStore, clock: SetClock) -> ShareStore:
    """The same store after its worker was started anew."""
    store.close()
    return ShareStore(store.folder, clock=clock, hold=store.hold)


def through_restarts(store: ShareStore, clock: Optional[SetClock] = None) -> Iterator[ShareStore]:
    """The store as it is, after its worker was started anew, and after its index was lost, too."""
    clock = clock or SetClock()
    yield store
    store = reopened(store, clock)
    yield store
    yield with_index(store, clock, {})


def copy_of_index(store: ShareStore) -> dict[str, bytes]:
    """The index as it is now, by names of files."""
    return {path.name: path.read_bytes() for path in store.folder.glob("index.sqlite*")}


def with_index(store: ShareStore, clock: SetClock, index: dict[str, bytes]) -> ShareStore:
    """The same store after its worker was started anew, with this index, or with none where it is empty."""
    store.close()
    for path in store.folder.glob("index.sqlite*"):
        path.unlink()
    for name, content in index.items():
        (store.folder / name).write_bytes(content)
    return ShareStore(store.folder, clock=clock, hold=store.hold)
