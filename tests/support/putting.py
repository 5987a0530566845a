"""A put into a cluster in memory, as `producer.py` does one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.process.progress import Printer
from producer.events import Outcome
from producer.owner import Owner
from producer.run import store_all
from producer.session import Session
from producer.sources import find_sources
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import Unseeing


async def put(
    cluster: MemoryCluster, owner: Owner, k: int, n: int, arguments: Sequence[str], **options: Any
) -> list[Outcome]:
    """Store what the arguments name, by k of n on all devices; what came of each. `options`: of the session."""
    session = Session(
        cluster.link,
        owner,
        k,
        n,
        cluster.as_devices(),
        viewer=Unseeing(),
        **{"images_only": False, "emit": Printer("storing"), **options},
    )
    try:
        return [outcome async for outcome in store_all(session, find_sources(arguments, "stdin"))]
    finally:
        session.close()
