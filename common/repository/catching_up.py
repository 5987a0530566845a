"""Bringing the vault's index in step with what the cluster has."""

from __future__ import annotations

from common.link.link import Link
from common.link.questions import list_pages
from common.vault.index import VaultIndex


async def catch_up(link: Link, index: VaultIndex) -> None:
    """Have the index say what the cluster has now; the broker must be settled."""
    while True:
        listing = index.list_anew()
        async for page in list_pages(link):
            listing.add(page)
        if listing.finish(None):
            return
