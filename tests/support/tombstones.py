"""Deletions as devices tell of them."""

from __future__ import annotations

from typing import Optional

from common.protocol.messages import ToldTombstone, Tombstone


def told(tombstone: Tombstone, trash_left: Optional[int] = None, left: int = 1000) -> ToldTombstone:
    """With all of its trash left, unless said otherwise, and so many seconds until it is forgotten."""
    return ToldTombstone(tombstone, tombstone.trash_seconds if trash_left is None else trash_left, left)
