"""A put into a cluster in memory, as `producer.py` does one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Callable, Optional

from producer.command import _Printer
from producer.events import Emit, Outcome
from producer.owner import Owner
from producer.run import Run, record, store_all
from producer.sources import find_sources
from producer.target import StoreOptions, Target
from producer.threads import Threads
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import Unseeing


async def put(
    cluster: MemoryCluster,
    owner: Owner,
    k: int,
    n: int,
    arguments: Sequence[str],
    required: tuple[Optional[int], Optional[int]] = (None, None),
    avoid: Sequence[bytes] = (),
    emit: Optional[Emit] = None,
    run: Optional[Run] = None,
    before_recording: Callable[[], object] = lambda: None,
    **options: Any,
) -> list[Outcome]:
    """Store what the arguments name, by k of n on all devices; what came of each.

    `run`: with a snapshot, which is emitted; `before_recording`: what happens before that. `required`: k and n as far
    as the user gave them; `options`: the rest of `StoreOptions`.
    """
    wanted = StoreOptions(*required, **options)
    run = run or Run(arguments, find_sources(arguments, "stdin"))
    target = Target(
        cluster.link, owner, k, n, cluster.as_devices(), wanted, avoid=avoid, emit=emit or _Printer(as_json=False)
    )
    threads = Threads(Unseeing())
    began = time.time_ns()
    try:
        outcomes = [outcome async for outcome in store_all(target, threads, run)]
        await asyncio.to_thread(before_recording)  # as another client does it, in a loop of its own
        await record(target, threads, run, began)
        return outcomes
    finally:
        threads.close()
        owner.save(target.emit)
