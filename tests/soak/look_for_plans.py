"""How long a put looks for the plan of a prune, of all that it takes: puts of one new file each, in one process.

python -m tests.soak.look_for_plans
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from common.link.link import Link, run_with_link
from common.membership.identity import client_identity
from common.process.events import ignore
from common.vault.folder import VaultFolder
from producer import run as run_of_producer
from producer.owner import OwnVault
from producer.run import Run, store
from producer.sources import find_all
from producer.target import StoreOptions
from producer.trees import Trees
from tests.soak.ground import PASSPHRASE, new_cluster, new_user
from tests.support.sample_images import Unseeing

DEVICES = 6
PUTS = 30


class Measured:
    """Messages that were sent, and the seconds and messages of each look."""

    def __init__(self) -> None:
        self.sent = 0
        self.looks: list[tuple[float, int]] = []
        self._request, self._is_pruning = Link.request, run_of_producer._is_pruning

    async def request(self, link: Link, *arguments: Any, **options: Any) -> Any:
        self.sent += 1
        return await self._request(link, *arguments, **options)

    async def is_pruning(self, *arguments: Any) -> bool:
        began, before = time.perf_counter(), self.sent
        found = await self._is_pruning(*arguments)
        self.looks.append((time.perf_counter() - began, self.sent - before))
        return found


def main() -> None:
    measured, puts = Measured(), []
    with tempfile.TemporaryDirectory() as place, new_cluster(Path(place), DEVICES) as cluster:
        source = Path(place) / "source"
        source.mkdir()
        user = new_user(cluster, "ann")
        with ExitStack() as changed:
            changed.enter_context(mock.patch.dict(os.environ, user.environment))
            changed.enter_context(mock.patch.object(run_of_producer, "_is_pruning", measured.is_pruning))
            changed.enter_context(
                mock.patch.object(Link, "request", lambda *each, **options: measured.request(*each, **options))
            )
            vault = VaultFolder(user.home)
            key = vault.unlock(PASSPHRASE)
            for number in range(PUTS):
                (source / str(number)).write_bytes(b"%d" % number)
                given, began, before = [str(source)], time.perf_counter(), measured.sent
                run = Run(given, find_all(given, "stdin"), Trees())
                identity, owner = client_identity(), OwnVault(vault, key)
                run_with_link(partial(store, identity, owner, Unseeing(), run, StoreOptions(), ignore))
                puts.append((time.perf_counter() - began, measured.sent - before))
    for what, each in (("look", measured.looks), ("put", puts)):
        seconds, messages = map(statistics.median, zip(*each))
        print(f"a {what}: {1000 * seconds:.1f} ms, {messages:.0f} messages (medians of {len(each)})")


if __name__ == "__main__":
    main()
