"""The demo: one image through a cluster of real processes, with devices killed while it is stored there.

    1. start a broker and the devices            4. restore the image from the others
    2. store the image                           5. compare it with the original, byte for byte
    3. kill n-k of the devices that hold it      6. stop everything, whatever happened

With several brokers the first one, through which the image was stored, is killed before step 4, too.

Each step is announced in a line. An error names the step in which it happened. No rates are shown: of one small image
they would be those of starting Python (see `bench/`).
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.local import LocalCluster, require_success
from common.errors import IntegrityError, NotEnoughError, TesseraError


class Demo:
    """One run of the demo with `image` on `cluster`; `scratch` is a folder for the restored file."""

    def __init__(self, cluster: LocalCluster, image: Path, scratch: Path) -> None:
        self._cluster = cluster
        self._image = image
        self._restored = scratch / "restored"
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._step = 0

    def run(self) -> None:
        """All steps. Raises the `TesseraError` of the step that failed."""
        cluster = self._cluster
        brokers = "a broker" if cluster.broker_count == 1 else f"{cluster.broker_count} brokers"
        ports = f"ports {cluster.ports[0]} {'and' if cluster.broker_count == 1 else 'to'} {cluster.ports[-1]}"
        with self._announced(f"Starting {brokers} and {len(cluster.devices)} devices on 127.0.0.1, {ports}"):
            cluster.start()  # if it fails it stops what it started, and leaves alone what ran before
        try:
            self._store_and_restore()
        finally:
            self._say(f"Stopped the {cluster.stop()} processes that were still running.")

    def _store_and_restore(self) -> None:
        cluster = self._cluster
        with self._announced(f"Storing {self._image.name} ({self._image.stat().st_size:,} bytes)"):
            stored = self._store()
            self._console.print(self._table(stored))
        victims = stored["devices"][: stored["n"] - stored["k"]]
        with self._announced(f"Killing {' and '.join(victims) or 'no device'} (kill -9)"):
            for name in victims:
                cluster.kill_device(cluster.devices.index(name) + 1)
        if cluster.broker_count > 1:
            with self._announced("Killing the first broker, which all programs used so far (kill -9)"):
                cluster.kill_broker()
        with self._announced(f"Restoring the image from the other {len(cluster.devices) - len(victims)} devices"):
            self._restore(stored["sha256"])
        with self._announced("Comparing the restored file with the original"):
            self._compare(stored["sha256"])
        self._say("identical")
        self._say(f"SHA-256  {stored['sha256']}")

    def _store(self) -> dict[str, Any]:
        result = self._cluster.run("producer", str(self._image), "--json")
        require_success("producer", result)
        told = map(json.loads, result.stdout.splitlines())  # of the image, and of the snapshot
        stored = next(dict(each) for each in told if each["state"] == "stored")
        if stored["degraded"] or len(set(stored["devices"])) != stored["n"]:
            raise NotEnoughError(
                f"{stored['n']} devices should hold the image, but these do: {', '.join(stored['devices'])}"
            )
        if stored["already_stored"]:
            self._say("   it was stored here before, so nothing had to be sent")
        return stored

    def _table(self, stored: dict[str, Any]) -> Table:
        table = Table("device", "share", "kind", "bytes on its disk")
        table.columns[-1].justify = "right"
        shares = {name: share for share, name in enumerate(stored["devices"])}
        for name in self._cluster.devices:
            share = shares.get(name)
            kind = "none" if share is None else "data" if share < stored["k"] else "parity"
            number = "" if share is None else str(share)
            table.add_row(name, number, kind, f"{_bytes_below(self._cluster.directory / name):,}")
        table.caption = f"any {stored['k']} of the {stored['n']} shares give the image back"
        return table

    def _restore(self, sha256: str) -> None:
        result = self._cluster.run("consumer", "--hash", sha256, "--output", str(self._restored))
        require_success("consumer", result)

    def _compare(self, sha256: str) -> None:
        if not filecmp.cmp(self._image, self._restored, shallow=False):
            raise IntegrityError("the restored file differs from the original")
        if _sha256(self._restored) != sha256:
            raise IntegrityError(f"the restored file's SHA-256 is not the {sha256} that producer.py named")

    @contextmanager
    def _announced(self, title: str) -> Iterator[None]:
        self._step += 1
        self._say(f"{self._step}. {title}")
        try:
            yield
        except TesseraError as error:
            log = "" if self._step == 1 else f"\n{self._cluster.log_tail()}"  # the start adds its own
            raise type(error)(f"step {self._step} failed: {error}{log}", advice=error.advice) from error

    def _say(self, line: str) -> None:
        # Plain text: a file's name may hold what rich takes for markup.
        self._console.print(line, markup=False)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
