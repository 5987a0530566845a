"""Which small images go to the broker once, to be coded there, and the message that takes them.

What a device is to have of them is one STORE, as if it had been sent from here, and comes alone where it has to be sent
again. An image of which no more than k shares are to be sent, or whose data blocks fill a message by themselves, is
not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, Union

from common.link.client_protocol import DeviceRequest
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.device_messages import Store, WholeShare
from common.protocol.messages import MAX_BATCH, MAX_CODED_SHARES, NOWHERE, CodedImage, CodedStore, StoreSegments
from common.protocol.operations import STORE
from producer.encoding import Bytes

_MOST = 4 * MAX_PAYLOAD  # bytes of all STOREs that come of one message: what a broker grants a client


class Sealed(NamedTuple):
    """An image that is sealed and coded."""

    encoding_id: bytes
    blocks: list[Bytes]
    commitment: bytes

    @property
    def share_bytes(self) -> int:
        return self.blocks[0].nbytes + len(self.commitment)


Placed = tuple[Sealed, Mapping[int, bytes]]  # an image, and the device of each share that is to be sent


def divide(placed: Sequence[Placed], k: int) -> tuple[list[list[Placed]], list[Placed]]:
    """Images that fit into one message together, and those that are to go share by share."""
    together: list[list[Placed]] = []
    alone: list[Placed] = []
    devices: set[bytes] = set()
    sent = made = 0
    for each in placed:
        image, places = each
        size, whole = image.share_bytes + (k - 1) * image.blocks[0].nbytes, image.share_bytes * len(places)
        if len(places) <= k or size > MAX_PAYLOAD:
            alone.append(each)
            continue
        full = together and (len(together[-1]) == MAX_BATCH or sent + size > MAX_PAYLOAD or made + whole > _MOST)
        if not together or full or len(devices.union(places.values())) > MAX_CODED_SHARES:
            together.append([])
            devices, sent, made = set(), 0, 0
        together[-1].append(each)
        devices.update(places.values())
        sent, made = sent + size, made + whole
    return together, alone


class CodedBatch:
    """One message, of images that `divide` put together."""

    def __init__(self, placed: Sequence[Placed], k: int, n: int) -> None:
        self._placed = placed
        self._k, self._n = k, n
        self.shares: dict[bytes, list[tuple[Sealed, int]]] = {}  # of each device
        for image, places in placed:
            for share, device in places.items():
                self.shares.setdefault(device, []).append((image, share))

    def payload(self) -> bytes:
        pieces: list[Union[bytes, memoryview]] = []
        for image, _ in self._placed:
            pieces += [*(block.data for block in image.blocks[: self._k]), image.commitment]
        return b"".join(pieces)

    def requests(self) -> list[DeviceRequest]:
        """What each device is asked, in the order of `shares`."""
        asked = []
        for device, shares in self.shares.items():
            size = sum(image.share_bytes for image, _ in shares)
            header = store_header(shares, self._k, self._n)
            asked.append(DeviceRequest(STORE, header, size, partial(store_payload, shares), device))
        return asked

    def header(self, request_ids: Mapping[int, bytes]) -> StoreSegments:
        """Of those devices that get their STORE by this message, by their places in `shares`."""
        devices = list(self.shares)
        stores = {devices[place]: number for number, place in enumerate(request_ids)}
        images = []
        for image, places in self._placed:
            to = [stores.get(places.get(share, b""), NOWHERE) for share in range(self._n)]
            images.append(CodedImage(image.encoding_id, image.blocks[0].nbytes, len(image.commitment), bytes(to)))
        return StoreSegments(self._k, self._n, [CodedStore(devices[p], i) for p, i in request_ids.items()], images)


def store_header(shares: Sequence[tuple[Sealed, int]], k: int, n: int) -> Store:
    whole = []
    for image, share in shares:
        whole.append(WholeShare(image.encoding_id, share, k, n, image.blocks[share].nbytes, len(image.commitment)))
    return Store(whole)


def store_payload(shares: Sequence[tuple[Sealed, int]]) -> bytes:
    pieces: list[Union[bytes, memoryview]] = []
    for image, share in shares:
        pieces += [image.blocks[share].data, image.commitment]
    return b"".join(pieces)
