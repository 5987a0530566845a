"""Images of the simulation: real erasure code, tiny blocks, and the truth about every block."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field

import numpy as np

from common.coding.recipe import Recipe, digest
from common.erasure import ErasureCode
from common.protocol.codec import pack
from common.protocol.device_messages import Commitment
from common.protocol.identifiers import encoding_id
from common.protocol.messages import Tombstone
from common.vault.keys import VaultKey
from tests.support.sample_shares import KEY, sign

TRASH = 30 * 24 * 3600  # seconds


@functools.lru_cache
def code_of(k: int, n: int) -> ErasureCode:
    return ErasureCode(k, n)


@dataclass
class Encoding:
    """`blocks[segment][share]` as they were made."""

    object_id: bytes
    recipe: Recipe
    blocks: list[list[bytes]]
    packed: bytes  # the commitment

    @property
    def encoding_id(self) -> bytes:
        return self.recipe.encoding_id

    def tombstone(self, generation: int = 1, key: VaultKey = KEY) -> Tombstone:
        """What its owner signs to delete it, or to take that back; remembered for ever."""
        return key.tombstone(self.object_id, self.encoding_id, generation, TRASH)

    def share(self, index: int) -> list[bytes]:
        return [row[index] for row in self.blocks]

    def restores_from(self, shares: dict[int, list[bytes]]) -> bool:
        """Whether k of these shares give back all data."""
        k, n = self.recipe.k, self.recipe.n
        for segment, row in enumerate(self.blocks):
            present = {i: np.frombuffer(blocks[segment], np.uint8) for i, blocks in sorted(shares.items())[:k]}
            missing = {i: np.empty(len(row[0]), np.uint8) for i in range(k) if i not in present}
            code_of(k, n).rebuild(present, missing)
            if any(missing[i].tobytes() != row[i] for i in missing):
                return False
        return True


@dataclass
class Image:
    object_id: bytes
    data: bytes
    k: int
    n: int
    encodings: list[Encoding] = field(default_factory=list)
    generation: int = 0  # odd: deleted

    @property
    def deleted(self) -> bool:
        return self.generation % 2 == 1


def make_image(rng: random.Random, k: int, n: int) -> Image:
    block_size = code_of(k, n).block_unit * rng.randint(1, 2)
    return Image(rng.randbytes(32), rng.randbytes(k * block_size * rng.randint(1, 3)), k, n)


def encode(image: Image, rng: random.Random) -> Encoding:
    """A new encoding, as another put of the image would make it (the data is not sealed here: nobody looks at it)."""
    code = code_of(image.k, image.n)
    key = rng.randbytes(len(image.data))
    sealed = bytes(a ^ b for a, b in zip(image.data, key))
    block = code.block_unit
    rows = []
    for start in range(0, len(sealed), image.k * block):
        data = [np.frombuffer(sealed, np.uint8, block, start + i * block) for i in range(image.k)]
        parity = [np.empty(block, np.uint8) for _ in range(image.n - image.k)]
        code.encode(data, parity)
        rows.append([array.tobytes() for array in data + parity])
    digests = b"".join(digest(one) for row in rows for one in row)
    nonce = rng.randbytes(16)
    recipe = Recipe(encoding_id(KEY.owner_key(), nonce), image.k, image.n, block, block, digests)
    commitment = Commitment(image.object_id, KEY.owner_id(), recipe.encode(), rng.randbytes(20), nonce)
    encoding = Encoding(image.object_id, recipe, rows, pack(sign(commitment)))
    image.encodings.append(encoding)
    return encoding
