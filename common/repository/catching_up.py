"""Bringing the vault's index in step with what the cluster has."""

from __future__ import annotations

import asyncio

from common.link.link import Link
from common.link.questions import list_pages
from common.protocol.codec import unpack
from common.protocol.messages import ChangedObject, ListChanges
from common.protocol.operations import CHANGES
from common.vault.index import Cursor, VaultIndex

_PAGE = 500  # objects
_NOWHERE = Cursor(b"", 0)


async def catch_up(link: Link, index: VaultIndex) -> None:
    """Have the index say what the cluster has now; the broker must be settled.

    What changed since its cursor is asked for; all is listed where the broker cannot tell, such as a new one.
    """
    while True:
        reply = await link.request(CHANGES, ListChanges(*(index.cursor or _NOWHERE), _PAGE))
        cursor = Cursor(reply.header.epoch, reply.header.number)
        if reply.header.known:
            index.apply({each.object_id: each.encodings for each in unpack(reply.payload, list[ChangedObject])}, cursor)
            if reply.header.complete:
                return
            continue
        listing = index.list_anew()
        async for page in list_pages(link):
            await asyncio.to_thread(listing.add, page)
        if listing.finish(cursor):
            return  # what changed while it was listed is told next time: where very much does, it would never end
