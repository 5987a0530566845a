"""Sealing the segments of one encoding: AES-256-GCM (NIST SP 800-38D), much as STREAM (Hoang et al. 2015).

    nonce            4 zero bytes ‖ s
    associated data  "tessera/v1/segment" ‖ encoding id (16) ‖ s (8) ‖ last flag (1) ‖ k (2) ‖ n (2)
    sealed segment   ciphertext ‖ tag (16), as long as the segment and 16 bytes

Integers are big-endian. Segment s opens only as segment s of this encoding, and the flag tells a stream that
ended from one that was cut, so that a stream of unknown length can be sealed as it comes. Length, count and
SHA-256 of the image are bound by the mapping, not here.

The counted nonce is safe because no data key seals two different plaintexts as segment s: a data key is
new for each encoding, seals in one sealer only, and a sealer takes each segment number once, in order. A retry
sends the same ciphertext again. A put that was interrupted goes on in a `ResumedSealer`, under the same key; why
that is safe is said there. Buffers are the caller's and are reused: allocating them costs more than the cipher.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Union

import numpy as np
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from common.errors import IntegrityError, TesseraError
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.vault.keys import HiddenKey, require_size

TAG_SIZE = 16
MAX_SHARES = 64
LABEL = b"tessera/v1/segment"

Bytes = NDArray[np.uint8]
Buffer = Union[Bytes, memoryview, bytes]

_ASSOCIATED = struct.Struct(f">{len(LABEL)}s{IDENTIFIER_SIZE}sQ?HH")
_NONCE = struct.Struct(">4xQ")


class DataKey(HiddenKey):
    """The key of one encoding: `DataKey.generate()` makes one that seals, `DataKey(raw)` only opens."""

    __slots__ = ("_may_seal",)

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        # Known bytes have been in use: sealing with them could repeat a nonce under the same key.
        self._may_seal = False

    @classmethod
    def generate(cls) -> DataKey:
        """A new data key, which one `SegmentSealer` may use."""
        key = super().generate()
        key._may_seal = True
        return key

    def claim_for_sealing(self) -> None:
        """Take the right to seal, which a generated key gives once; TesseraError where it is gone."""
        if not self._may_seal:
            raise TesseraError("a data key seals in one sealer only, and never after it was in a mapping")
        self._may_seal = False


class SegmentSealer:
    """Seals segments 0, 1, 2, … of one encoding; one thread at a time.

    Takes a fresh data key, the encoding id (16 bytes), k and n (2 ≤ k ≤ n ≤ 64). TesseraError where the key
    has sealed before, or an argument is out of bounds.
    """

    def __init__(self, data_key: DataKey, encoding_id: bytes, k: int, n: int) -> None:
        _check_encoding(encoding_id, k, n)
        self._claim(data_key)
        self._cipher = AESGCM(data_key.reveal())
        self._encoding_id = encoding_id
        self._k = k
        self._n = n
        self._next_segment = 0
        self._ended = False

    def _claim(self, data_key: DataKey) -> None:
        data_key.claim_for_sealing()

    def seal(self, segment_number: int, plaintext: Buffer, is_last: bool, out: Bytes) -> int:
        """Write ciphertext ‖ tag of the segment to the start of `out`, and return its length.

        `plaintext` holds contiguous bytes, `out` at least 16 more (uint8, one dimension). They may start at
        the same address, to seal in place, and not overlap otherwise. TesseraError, with nothing sealed, when
        the number is not the next one, the last segment was sealed, or a buffer does not fit.
        """
        self._require_next(segment_number)
        source = _contiguous(plaintext)
        target = _room(out, source.size + TAG_SIZE)
        _check_overlap(source, target)
        self._check_repetition(segment_number, source, is_last)
        # Advanced before it is used: whatever happens from here on, this key seals with this number only once.
        self._next_segment = segment_number + 1
        self._ended = is_last
        associated = _associated_data(self._encoding_id, segment_number, is_last, self._k, self._n)
        return self._cipher.encrypt_into(_NONCE.pack(segment_number), source.data, associated, target.data)

    def _require_next(self, segment_number: int) -> None:
        if self._ended or segment_number != self._next_segment:
            raise TesseraError(f"segment {segment_number} cannot be sealed: {self._expectation()}")

    def _check_repetition(self, segment_number: int, plaintext: Bytes, is_last: bool) -> None:
        """Hook for a sealer that seals what was sealed before."""

    def _expectation(self) -> str:
        if self._ended:
            return f"segment {self._next_segment - 1} was the last"
        return f"segment {self._next_segment} comes next"


def fingerprint(sha256_so_far: bytes, is_last: bool) -> bytes:
    """Of all that is sealed as a segment beside what its encoding and number say: bytes and last flag. 32 bytes.

    `sha256_so_far`: of the image up to the segment's end, which whoever reads it has at hand.
    """
    return bytes(blake3(sha256_so_far + (b"\1" if is_last else b"\0")).digest())


class ResumedSealer(SegmentSealer):
    """Goes on with an encoding that was interrupted: with its raw data key, and the fingerprints of its first segments.

    Under one key, what was sealed as segment s must never be sealed otherwise. It is not, since of each segment that
    may have left the process, in whole or in part, the fingerprint was on disk before (`journal`):

    - A segment that has a fingerprint is sealed again only where its plaintext, all before it, and the last flag have
      that very fingerprint, of what passed here. Key, nonce, associated data and plaintext are then the same, and so is
      the ciphertext: nothing new is revealed.
    - Of a segment that has none, no ciphertext left the process that sealed it, if it ever was: it is sealed as if for
      the first time, in order.

    Segments that have a fingerprint may be passed over, since devices may have their ciphertext. Two of these for one
    encoding at once would each seal new segments: whoever makes one holds the journal's lock. A journal that lost its
    end, by a disk that lied or a backup put back, does no harm as long as the file is the same; its stamp (size, times,
    inode) is compared with the journal's before, and the whole SHA-256 after.
    """

    def __init__(self, raw_key: bytes, encoding_id: bytes, k: int, n: int, fingerprints: Sequence[bytes]) -> None:
        super().__init__(DataKey(raw_key), encoding_id, k, n)
        self._fingerprints = list(fingerprints)
        self._so_far = hashlib.sha256()

    def _claim(self, data_key: DataKey) -> None:
        """The right to seal is the journal's here."""

    def pass_over(self, segment_number: int, plaintext: Buffer, is_last: bool) -> None:
        """Go on behind the next segment, which is not sealed again.

        IntegrityError where it is not what was sealed before; TesseraError where it has no fingerprint, as from `seal`.
        """
        self._require_next(segment_number)
        if segment_number >= len(self._fingerprints):
            raise TesseraError(f"segment {segment_number} was never sealed")
        self._check_repetition(segment_number, _contiguous(plaintext), is_last)
        self._next_segment = segment_number + 1
        self._ended = is_last

    def _check_repetition(self, segment_number: int, plaintext: Bytes, is_last: bool) -> None:
        if segment_number >= len(self._fingerprints):
            return
        so_far = self._so_far.copy()
        so_far.update(plaintext.data)
        if fingerprint(so_far.digest(), is_last) != self._fingerprints[segment_number]:
            raise IntegrityError(f"segment {segment_number} is not what was sealed before")
        self._so_far = so_far


class SegmentOpener:
    """Opens sealed segments of one encoding, in any order; arguments as for `SegmentSealer`."""

    def __init__(self, data_key: DataKey, encoding_id: bytes, k: int, n: int) -> None:
        _check_encoding(encoding_id, k, n)
        self._cipher = AESGCM(data_key.reveal())
        self._algorithm = algorithms.AES(data_key.reveal())
        self._encoding_id = encoding_id
        self._k = k
        self._n = n

    def open(self, segment_number: int, sealed: Buffer, is_last: bool, out: Bytes) -> int:
        """Write the plaintext of `sealed` (ciphertext ‖ tag) to the start of `out`, and return its length.

        Buffers as for `seal`. IntegrityError, with all of `out` set to zero, when this is not segment
        `segment_number` of this encoding as it was sealed; TesseraError where a buffer does not fit.
        """
        source = _contiguous(sealed)
        target = _room(out, max(source.size - TAG_SIZE, 0))
        _check_overlap(source, target)
        nonce, associated = self._place(segment_number, is_last)
        try:
            return self._cipher.decrypt_into(nonce, source.data, associated, target.data)
        except InvalidTag:
            raise self._damaged(segment_number, out) from None

    def open_blocks(self, segment_number: int, blocks: Sequence[Buffer], length: int, is_last: bool, out: Bytes) -> int:
        """As `open`, of a sealed segment of `length` bytes that lies in blocks, in order, and need not be put together.

        What follows in the blocks is left out. None overlaps `out`. TesseraError also where they have fewer bytes.
        """
        sources = [_contiguous(block) for block in blocks]
        size = length - TAG_SIZE
        if size < 0 or sum(source.size for source in sources) < length:
            raise TesseraError(f"blocks do not hold a sealed segment of {length} bytes")
        _room(out, size)
        for source in sources:
            if np.may_share_memory(source, out):
                raise TesseraError("a segment's buffers overlap")
        nonce, associated = self._place(segment_number, is_last)
        decryptor = Cipher(self._algorithm, modes.GCM(nonce)).decryptor()
        decryptor.authenticate_additional_data(associated)
        done, tag = 0, b""
        for source in sources:
            part = source[: size - done]
            # All that is left of `out`: some versions of the library want room for more than they write.
            decryptor.update_into(part.data, out[done:].data)
            done += part.size
            tag += source[part.size : part.size + TAG_SIZE - len(tag)].tobytes()
        try:
            decryptor.finalize_with_tag(tag)
        except InvalidTag:
            raise self._damaged(segment_number, out) from None
        return size

    def _place(self, segment_number: int, is_last: bool) -> tuple[bytes, bytes]:
        """Nonce and associated data."""
        if not 0 <= segment_number < 1 << 64:
            raise TesseraError(f"there is no segment {segment_number}")
        associated = _associated_data(self._encoding_id, segment_number, is_last, self._k, self._n)
        return _NONCE.pack(segment_number), associated

    def _damaged(self, segment_number: int, out: Bytes) -> IntegrityError:
        """The error; the tag is checked last, when the plaintext is in the buffer already: it is cleared."""
        out[:] = 0
        what = f"segment {segment_number} of encoding {self._encoding_id.hex()}"
        return IntegrityError(f"{what} is damaged or out of place")


def _associated_data(encoding_id: bytes, segment_number: int, is_last: bool, k: int, n: int) -> bytes:
    return _ASSOCIATED.pack(LABEL, encoding_id, segment_number, is_last, k, n)


def _check_encoding(encoding_id: bytes, k: int, n: int) -> None:
    require_size("an encoding id", encoding_id, IDENTIFIER_SIZE)
    if not 2 <= k <= n <= MAX_SHARES:
        raise TesseraError(f"{k} of {n} is no encoding: 2 ≤ k ≤ n ≤ {MAX_SHARES}")


def _contiguous(data: Buffer) -> Bytes:
    view = data.data if isinstance(data, np.ndarray) else memoryview(data)
    if not view.c_contiguous or view.itemsize != 1:
        raise TesseraError("a segment's buffer must be contiguous bytes")
    return np.frombuffer(view, np.uint8)


def _room(out: Bytes, size: int) -> Bytes:
    """The first `size` bytes of `out`: the cipher wants a buffer of the exact length."""
    if out.dtype != np.uint8 or out.ndim != 1 or not out.flags.c_contiguous or not out.flags.writeable:
        raise TesseraError("a segment's output buffer must be writable, contiguous uint8 of one dimension")
    if out.size < size:
        raise TesseraError(f"a segment's output buffer has {out.size} bytes where {size} are written")
    return out[:size]


def _check_overlap(source: Bytes, target: Bytes) -> None:
    # Where buffers overlap the cipher overwrites what it has not read yet, and raises nothing.
    if np.may_share_memory(source, target) and source.ctypes.data != target.ctypes.data:
        raise TesseraError("a segment's buffers overlap")
