"""What clients ask the broker: which devices there are, where to put shares, where shares are.

Lists of any length are asked for in messages of the protocol's sizes. While a broker is new, devices that hold
something may not have registered yet; so whoever misses something asks with `settled`, and is answered once the
broker knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from common.chunks import chunks
from common.errors import ProtocolError
from common.link.link import Link
from common.link.replies import Reply
from common.process.events import waiting
from common.protocol.codec import pack, unpack
from common.protocol.messages import (
    MAX_OBJECTS,
    Code,
    Device,
    Empty,
    EncodingAt,
    Holdings,
    Identifier,
    ListObjects,
    Locate,
    Places,
)
from common.protocol.operations import LIST, LOCATE, PLACES, STATUS

SETTLING = "the broker has just started: waiting for its devices"
_SETTLE_TIMEOUT = 12.0  # seconds; a broker settles within ten
_SETTLE_PAUSE = 0.25
_PAGE = 500  # objects


async def list_devices(link: Link) -> list[Device]:
    """All devices of the cluster, by name."""
    reply = await link.request(STATUS, Empty())
    return unpack(reply.payload, list[Device])


async def device_names(link: Link) -> dict[bytes, str]:
    """Device id → name, of all devices of the cluster."""
    return {device.device_id: device.name for device in await list_devices(link)}


async def settled_devices(link: Link) -> list[Device]:
    """All devices, once those that may still come to a new broker have come or had the time to."""
    with waiting(link.emit, SETTLING):
        return await _settled_devices(link)


async def _settled_devices(link: Link) -> list[Device]:
    loop = asyncio.get_running_loop()
    end = loop.time() + _SETTLE_TIMEOUT
    while True:
        reply = await link.request(STATUS, Empty())
        if reply.header.settled or loop.time() > end:
            return unpack(reply.payload, list[Device])
        await asyncio.sleep(_SETTLE_PAUSE)


class FoundPlaces(NamedTuple):
    devices: list[list[bytes]]  # for each encoding up to n device ids, in the order of shares
    lacking: Code  # why there are not more: NO_ROOM where connected devices are full, else GONE


async def find_places(
    link: Link, encoding_ids: Sequence[bytes], n: int, share_bytes: int, exclude: Iterable[bytes] = ()
) -> FoundPlaces:
    """For each encoding up to n devices with room for `share_bytes`, in the order of shares."""
    request = Places(n, share_bytes, list(exclude))
    payload = pack(list(encoding_ids))
    reply = await link.request(PLACES, request, payload=payload)
    lacking = Code.NO_ROOM if reply.header.full else Code.GONE
    devices = unpack(reply.payload, list[list[Identifier]])
    if len(devices) != len(encoding_ids) or any(len(set(each)) != len(each) or len(each) > n for each in devices):
        raise ProtocolError("the broker's places do not answer what was asked")
    return FoundPlaces(devices, lacking)


async def locate(link: Link, object_ids: Sequence[bytes]) -> tuple[dict[bytes, list[EncodingAt]], bool]:
    """object id → its encodings, the most complete first, and whether the broker is settled."""
    found: dict[bytes, list[EncodingAt]] = {object_id: [] for object_id in object_ids}
    settled = True
    for some in chunks(object_ids, _PAGE):
        reply = await link.request(LOCATE, Locate(), payload=pack(some))
        settled = settled and reply.header.settled
        for encoding in unpack(reply.payload, list[EncodingAt]):
            if encoding.object_id not in found:
                raise ProtocolError("the broker located an object that was not asked for")
            found[encoding.object_id].append(encoding)
    return found, settled


async def list_encodings(link: Link) -> list[EncodingAt]:
    """All encodings of all of this vault's objects, once the broker is settled, in the order of object ids."""
    await _settled_devices(link)  # whoever lists says so
    return [encoding async for page in list_pages(link) for group in page.values() for encoding in group]


async def list_pages(link: Link) -> AsyncIterator[dict[bytes, list[EncodingAt]]]:
    """The same, some objects at a time, by object id; as far as the broker knows them now.

    The next are asked for while some are used.
    """

    def ask(after: bytes) -> asyncio.Task[Reply[Holdings]]:
        return asyncio.ensure_future(link.request(LIST, ListObjects(after, min(_PAGE, MAX_OBJECTS))))

    asked = ask(b"")
    try:
        while True:
            reply = await asked
            page: dict[bytes, list[EncodingAt]] = {}
            for encoding in unpack(reply.payload, list[EncodingAt]):
                page.setdefault(encoding.object_id, []).append(encoding)
            is_last = reply.header.complete or not page
            if not is_last:
                asked = ask(max(page))
            if page:
                yield page
            if is_last:
                return
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
