"""Images encoded in memory as the producer does it, with blocks as small as the erasure code allows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from blake3 import blake3

from common.coding.recipe import Recipe
from common.coding.slicing import Slicing
from common.erasure import ErasureCode
from common.protocol.codec import unpack
from common.protocol.device_messages import Commitment, SignedCommitment
from common.protocol.messages import EncodingAt, ShareAt
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping
from common.vault.signer import owner_signer
from common.vault.trust import TrustedImage
from producer.encoding import Encoding, Image
from producer.owner import OwnVault
from viewer.picture import Picture
from viewer.process import Viewer

KEY = VaultKey(bytes(range(32)))
OTHER_KEY = VaultKey(bytes(range(1, 33)))


class Unseeing(Viewer):
    """Starts no process: what can be said of an image are its first bytes."""

    def start(self) -> None:
        pass


def chance(label: str, length: int) -> bytes:
    """Bytes without any pattern, the same each time."""
    return blake3(label.encode()).digest(length=length) if length else b""


def device_of(share: int) -> bytes:
    """The id of the device that holds a share, where nothing else is said."""
    return chance(f"device {share}", 16)


@dataclass(frozen=True)
class EncodedImage:
    """An image as it lies on the devices: `blocks[segment][share]`, and what was committed beside every share."""

    content: bytes
    code: ErasureCode
    slicing: Slicing
    blocks: list[list[bytes]]
    recipe: Recipe
    signed: SignedCommitment

    @property
    def commitment(self) -> Commitment:
        return self.signed.commitment

    @property
    def encoding_id(self) -> bytes:
        return self.recipe.encoding_id

    def trusted(self, key: VaultKey = KEY) -> TrustedImage:
        """The mapping opened, and nothing proven yet beyond it."""
        return TrustedImage.from_sealed(key, self.commitment.mapping, self.commitment.object_id, self.encoding_id)

    def proven(self) -> TrustedImage:
        """With the recipe accepted, too."""
        image = self.trusted()
        image.accept_recipe(self.commitment.recipe, self.code.block_unit)
        return image

    def with_mapping(self, **changed: object) -> TrustedImage:
        """A mapping that opened, but says something else."""
        mapping: Mapping = msgspec.structs.replace(self.trusted().mapping, **changed)
        return TrustedImage(mapping, self.encoding_id)

    def sealed_segment(self, segment: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return np.frombuffer(b"".join(self.blocks[segment][: self.code.k]), np.uint8)

    def located(self, **changed: object) -> EncodingAt:
        """What the catalog says of it, with each share on a device of its own."""
        shares = [ShareAt(share, device_of(share), True, True) for share in range(self.code.n)]
        encoding = EncodingAt(
            self.commitment.object_id,
            self.encoding_id,
            self.code.k,
            self.code.n,
            self.recipe.share_bytes,
            shares,
        )
        return msgspec.structs.replace(encoding, **changed)


def encode(content: bytes, k: int = 2, n: int = 4, units: int = 2, key: VaultKey = KEY) -> EncodedImage:
    """Encode an image; `units`: the size of a full block, in the smallest steps of the erasure code."""
    code = ErasureCode(k, n)
    slicing = Slicing(k, code.block_unit, units * code.block_unit)
    encoding = Encoding(code, slicing, owner_signer(key))
    count = slicing.segment_count(len(content))
    blocks = []
    for segment in range(count):
        start = segment * slicing.segment_size
        plaintext = content[start : start + slicing.segment_length(len(content), segment)]
        # Not zeroed, so that padding which the producer forgets shows.
        buffer = np.full(encoding.buffer_bytes(len(plaintext)), 0xA5, np.uint8)
        encoded = encoding.encode(segment, plaintext, segment == count - 1, buffer)
        blocks.append([block.tobytes() for block in encoded.blocks])
    image = Image(hashlib.sha256(content).digest(), len(content), "写真.png", Picture(), 1_700_000_000)
    owner = OwnVault(VaultFolder(Path("a home that is never made")), key)
    signed = unpack(encoding.conclude(encoding.seal(owner, image)).commitment, SignedCommitment)
    return EncodedImage(content, code, slicing, blocks, encoding.recipe(), signed)


def segment_size(k: int, n: int, units: int = 2) -> int:
    """Bytes of the image in a full segment."""
    unit = ErasureCode(k, n).block_unit
    return Slicing(k, unit, units * unit).segment_size
