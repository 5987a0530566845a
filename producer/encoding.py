"""One encoding of one image: seal → encode, segment by segment, and the recipe and mapping that come of it.

An encoding has a data key and an id of its own and is used for one attempt only; a block that has to be sent again is
sent as it is. The image is read only once, except where the put was interrupted: then the attempt goes on from its
journal, and what was sealed before gives the same blocks, or an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.coding.recipe import Recipe, digest
from common.coding.slicing import Slicing
from common.erasure import ErasureCode
from common.errors import IntegrityError, TesseraError, UnstorableError
from common.protocol.codec import MAX_PAYLOAD, pack
from common.protocol.device_messages import Commitment, Grant
from common.protocol.identifiers import DIGEST_SIZE
from common.text import valid_unicode
from common.vault.journal import Beginning, InterruptedPut, Segment, new_beginning
from common.vault.mapping import MAX_NAME, MAX_SEALED_MAPPING, Kind, Mapping, SealedMapping
from common.vault.sealing import DataKey, ResumedSealer, SegmentSealer
from common.vault.signer import Signer
from common.vault.stamp import Stamp
from producer.owner import Owner
from viewer.picture import Picture

Bytes = NDArray[np.uint8]
_MAX_DIGESTS = MAX_PAYLOAD - MAX_SEALED_MAPPING - 4096  # bytes: all of a commitment travels in one message


def longest_image(n: int, slicing: Slicing) -> int:
    """Bytes of the longest image in n shares whose recipe fits into a message."""
    return _MAX_DIGESTS // (n * DIGEST_SIZE) * slicing.segment_size


@dataclass(frozen=True)
class Image:
    """What is known of an image that was read."""

    sha256: bytes
    size: int  # bytes
    name: str
    picture: Picture
    stored_at: int  # Unix seconds
    kind: Kind = None
    kept: bool = False  # without a snapshot that names it


@dataclass(frozen=True)
class EncodedSegment:
    """The n blocks of one segment, views into one buffer, and the digest of each."""

    segment: int
    blocks: list[Bytes]
    digests: list[bytes]
    data: Bytes  # the k data blocks, one after the other


class Encoding:
    def __init__(
        self, code: ErasureCode, slicing: Slicing, signer: Signer, begun: Optional[InterruptedPut] = None
    ) -> None:
        """A new encoding, or the one that was `begun`, of the same code and slicing."""
        self.k, self.n = code.k, code.n
        self._code = code
        self._slicing = slicing
        self._signer = signer
        self._before: list[Segment] = [] if begun is None else begun.segments
        if begun is None:
            self._nonce, self.encoding_id = signer.new_encoding()
            self._data_key = DataKey.generate()
            self._sealer = SegmentSealer(self._data_key, self.encoding_id, code.k, code.n)
            self._resumed: Optional[ResumedSealer] = None
        else:
            self._nonce, self.encoding_id = begun.beginning.nonce, begun.beginning.encoding_id
            self._data_key = DataKey(begun.beginning.data_key)
            fingerprints = [segment.fingerprint for segment in self._before]
            raw_key = self._data_key.reveal()
            self._sealer = self._resumed = ResumedSealer(raw_key, self.encoding_id, code.k, code.n, fingerprints)
        self._digests = bytearray()
        self._last_block_length = 0

    def beginning(self, origin: Stamp, devices: list[Optional[bytes]]) -> Beginning:
        """Its first chunk in a journal. Secret: it has the data key."""
        key, block_size = self._data_key.reveal(), self._slicing.block_size
        return new_beginning(origin, self._nonce, self.encoding_id, key, self.k, self.n, block_size, devices)

    def buffer_bytes(self, segment_length: int) -> int:
        """Bytes of the blocks of a segment that has so many bytes of the image."""
        return self.n * self._slicing.block_length(segment_length)

    def encode(self, segment: int, plaintext: Union[bytes, memoryview], is_last: bool, buffer: Bytes) -> EncodedSegment:
        """Seal and code the next segment into `buffer`.

        UnstorableError where the image is longer than `longest_image`, IntegrityError where the segment was encoded
        before and is not what it was.
        """
        blocks = self._seal_blocks(segment, plaintext, is_last, buffer)
        self._code.encode(blocks[: self.k], blocks[self.k :])
        return self._take(segment, blocks, buffer)

    def _seal_blocks(
        self, segment: int, plaintext: Union[bytes, memoryview], is_last: bool, buffer: Bytes
    ) -> list[Bytes]:
        """Seal the next segment into `buffer`; its n blocks there, of which the parity is not made yet."""
        if len(self._digests) + self.n * DIGEST_SIZE > _MAX_DIGESTS:
            limit = longest_image(self.n, self._slicing)
            raise UnstorableError(f"the image is too large: with {self.k} of {self.n} at most {limit:,} bytes")
        length = self._slicing.block_length(len(plaintext))
        sealed = self._sealer.seal(segment, plaintext, is_last, buffer)
        buffer[sealed : self.k * length] = 0
        return [buffer[share * length : (share + 1) * length] for share in range(self.n)]

    def _take(self, segment: int, blocks: list[Bytes], buffer: Bytes) -> EncodedSegment:
        """Take note of a segment that is coded, in `buffer`."""
        digests = [digest(block.data) for block in blocks]
        row = b"".join(digests)
        if segment < len(self._before) and row != self._before[segment].digests:
            raise IntegrityError(f"segment {segment} is not coded as it was before")
        self._digests += row
        self._last_block_length = blocks[0].size
        return EncodedSegment(segment, blocks, digests, buffer[: self.k * blocks[0].size])

    def skip(self, segment: int, plaintext: memoryview, is_last: bool) -> None:
        """Skip the next segment, which was encoded before and whose blocks are on their devices.

        IntegrityError where it is not what it was.
        """
        if self._resumed is None:
            raise TesseraError("only what was encoded before can be skipped")
        self._resumed.pass_over(segment, plaintext, is_last)
        self._digests += self._before[segment].digests
        self._last_block_length = self._slicing.block_length(len(plaintext))

    def recipe(self) -> Recipe:
        """The recipe of all segments encoded so far."""
        full, last = self._slicing.block_size, self._last_block_length
        return Recipe(self.encoding_id, self.k, self.n, full, last, bytes(self._digests))

    def seal(self, owner: Owner, image: Image) -> SealedMapping:
        """The mapping of the image, as it is committed beside every share."""
        mapping = Mapping(
            **self._coded(),
            image_sha256=image.sha256,
            image_size=image.size,
            name=valid_unicode(image.name)[:MAX_NAME],
            media_type=image.picture.media_type,
            width=image.picture.width,
            height=image.picture.height,
            thumbnail=image.picture.thumbnail,
            stored_at=image.stored_at,
            facts=image.picture.facts,
            kind=image.kind,
            kept=True if image.kept else None,
        )
        return owner.seal(mapping, self.encoding_id)

    def commitment(self, sealed: SealedMapping, grants: Sequence[Grant] = ()) -> Commitment:
        """What is to be signed, with the recipe of all segments encoded so far."""
        return Commitment(
            sealed.object_id,
            self._signer.owner,
            self.recipe().encode(),
            sealed.mapping,
            self._nonce,
            self._signer.transfers(self.encoding_id),
            grants=list(grants),
        )

    def conclude(self, sealed: SealedMapping, grants: Sequence[Grant] = ()) -> Conclusion:
        """The signed commitment of this encoding alone."""
        (signed,) = self._signer.key.commit([self.commitment(sealed, grants)])
        return Conclusion(sealed, pack(signed))

    def adopt(self, mapping: Mapping) -> Mapping:
        """The mapping of another encoding of the same image, as it is for this one: of revision 1, the vault's own."""
        return msgspec.structs.replace(mapping, **self._coded(), revision=None)

    def _coded(self) -> dict[str, Any]:
        """The fields of the mapping that are the encoding's, and not the image's."""
        recipe = self.recipe()
        return {
            "data_key": self._data_key.reveal(),
            "segment_count": recipe.segment_count,
            "segment_size": self._slicing.segment_size,
            "k": self.k,
            "n": self.n,
            "recipe_digest": digest(recipe.encode()),
        }


def encode_all(code: ErasureCode, images: Sequence[tuple[Encoding, memoryview, Bytes]]) -> list[EncodedSegment]:
    """Seal and code the only segment of each encoding into its buffer, which it fills; the small ones together."""
    sealed = [
        (encoding, encoding._seal_blocks(0, content, True, buffer), buffer) for encoding, content, buffer in images
    ]
    code.encode_together([buffer for _, _, buffer in images])
    return [encoding._take(0, blocks, buffer) for encoding, blocks, buffer in sealed]


@dataclass(frozen=True)
class Conclusion:
    sealed: SealedMapping
    commitment: bytes  # packed and signed


def conclude_all(signer: Signer, encodings: Sequence[tuple[Encoding, SealedMapping]]) -> list[Conclusion]:
    """The commitments of encodings, all signed together."""
    signed = signer.key.commit([encoding.commitment(sealed) for encoding, sealed in encodings])
    return [Conclusion(sealed, pack(each)) for (_, sealed), each in zip(encodings, signed)]
