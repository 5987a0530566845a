"""Codes what a client sends once for all shares, and makes of it what each device is asked.

Of a segment only the k data blocks come over the client's link; the parity is made here. What comes out are the
requests that the client would have sent one by one, under the ids that it chose for them: they are passed on as those
are, each with its own credit and its own answer. Nothing is believed of this broker: every device compares its block
with the digest that the client made.

Each block is a buffer of its own. A view of the whole payload would keep all of that in memory until the slowest
device has read its part, and the credit counts the part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from broker.credit import CREDIT
from common.erasure import ErasureCode
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack_header
from common.protocol.device_messages import Append, Store, WholeShare
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import MAX_BATCH, NOWHERE, AppendSegment, CodedImage, StoreSegments


class DeviceRequest(NamedTuple):
    """What one device is asked, as its client would have asked it."""

    envelope: Envelope
    header: bytes
    payload: Any  # a buffer


def _size(image: CodedImage, k: int) -> int:
    """Bytes that come of an image."""
    return k * image.block_bytes + image.commitment_bytes


class Coding:
    """Keeps the codes that it made: there are 120 of at most MAX_CODED_SHARES shares, and each may take 20 ms."""

    def __init__(self) -> None:
        self._codes: dict[tuple[int, int], ErasureCode] = {}

    def appends(self, asked: AppendSegment, payload: memoryview) -> list[DeviceRequest]:
        """An APPEND of each block that is asked for; ProtocolError where payload or shares do not fit the code."""
        shares = [block.share for block in asked.blocks]
        if not shares or len(set(shares)) < len(shares) or max(shares) >= asked.n:
            raise ProtocolError("a segment has each of its n blocks once")
        if len(shares) * payload.nbytes > asked.k * CREDIT:
            raise ProtocolError("it is more than a client may have under way")
        blocks = self._blocks(asked.k, asked.n, payload, shares)
        requests = []
        for block, content in zip(asked.blocks, blocks):
            credit = memoryview(content).nbytes
            envelope = Envelope(Kind.REQUEST, Operation.APPEND, block.request_id, block.device_id, credit)
            header = pack_header(Append(asked.encoding_id, block.share, asked.segment, block.digest))
            requests.append(DeviceRequest(envelope, header, content))
        return requests

    def stores(self, asked: StoreSegments, payload: memoryview) -> list[DeviceRequest]:
        """A STORE for each device, of the shares that it is to have; ProtocolError where anything does not fit."""
        code = self._code(asked.k, asked.n)
        shares = self._shares(asked, code.block_unit, payload.nbytes)
        parts = []
        offset = 0
        for image in asked.images:
            data, end = offset + code.k * image.block_bytes, offset + _size(image, code.k)
            segment = np.empty(code.n * image.block_bytes, np.uint8)
            segment[: data - offset] = np.frombuffer(payload[offset:data], np.uint8)
            parts.append((segment, payload[data:end]))
            offset = end
        code.encode_together([segment for segment, _ in parts])
        pieces: list[list[memoryview]] = [[] for _ in asked.stores]
        for image, (segment, commitment) in zip(asked.images, parts):
            blocks = segment.reshape(code.n, -1)
            for share, place in enumerate(image.places):
                if place != NOWHERE:
                    pieces[place] += [blocks[share].data, commitment]
        requests = []
        for store, whole, content in zip(asked.stores, shares, pieces):
            joined = b"".join(content)
            envelope = Envelope(Kind.REQUEST, Operation.STORE, store.request_id, store.device_id, len(joined))
            requests.append(DeviceRequest(envelope, pack_header(Store(whole)), joined))
        return requests

    def _shares(self, asked: StoreSegments, unit: int, size: int) -> list[list[WholeShare]]:
        """What each STORE has, once the whole of it is known to fit; the payload has `size` bytes."""
        shares: list[list[WholeShare]] = [[] for _ in asked.stores]
        for image in asked.images:
            size -= _size(image, asked.k)
            if len(image.places) != asked.n or image.block_bytes % unit:
                raise ProtocolError("an image has a place for each share, and blocks of whole units")
            for share, place in enumerate(image.places):
                if place != NOWHERE:
                    if place >= len(shares):
                        raise ProtocolError("a share is to go where nothing goes")
                    lengths = image.block_bytes, image.commitment_bytes
                    shares[place].append(WholeShare(image.encoding_id, share, asked.k, asked.n, *lengths))
        sizes = [sum(share.block_bytes + share.commitment_bytes for share in each) for each in shares]
        if size or not shares or not all(0 < len(each) <= MAX_BATCH for each in shares):
            raise ProtocolError("the payload has not the length that the header says, or a device gets nothing")
        if max(sizes) > MAX_PAYLOAD or sum(sizes) > CREDIT:
            raise ProtocolError("it is more than a client may have under way")
        return shares

    def _blocks(self, k: int, n: int, payload: memoryview, shares: Sequence[int]) -> list[Any]:
        """The blocks of these shares, of a segment whose data blocks are the payload."""
        code = self._code(k, n)
        length, rest = divmod(payload.nbytes, k)
        if rest or not length or length % code.block_unit:
            raise ProtocolError(f"{payload.nbytes} bytes are not {k} blocks of whole units")
        data = [payload[share * length : (share + 1) * length] for share in range(k)]
        parity = [np.empty(length, np.uint8) for _ in range(n - k)]
        if max(shares) >= k:
            code.encode([np.frombuffer(block, np.uint8) for block in data], parity)
        return [bytes(data[share]) if share < k else parity[share - k].data for share in shares]

    def _code(self, k: int, n: int) -> ErasureCode:
        if k > n:
            raise ProtocolError(f"{k} of {n} blocks is no code")
        if (k, n) not in self._codes:
            self._codes[k, n] = ErasureCode(k, n, keeps_scratch=False)
        return self._codes[k, n]
