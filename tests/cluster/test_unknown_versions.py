"""An older worker on what a newer one stored: nothing is damaged, the loss is said, and all comes back."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable

from cluster.local import LocalCluster
from tests.support.devices import held_shares, numbers, revive
from tests.support.programs import User, random_bytes
from tests.support.store_folder import ShareRecord

_VERSION_AT = len(b"\x97\xad" + b"tessera-share")  # in a share
_NEWER_INDEX = 99


def become(cluster: LocalCluster, records: Iterable[ShareRecord], version: int) -> None:
    """Have shares and indexes written by workers of another version; returns once this version's run on them."""
    for index in numbers(cluster):
        cluster.kill_device(index)
    for record in records:
        record.write(bytes([version]), _VERSION_AT)
        record.seal()
    for name in cluster.devices:
        with contextlib.closing(sqlite3.connect(cluster.directory / name / "index.sqlite")) as database:
            database.execute(f"PRAGMA user_version={_NEWER_INDEX}")
    revive(cluster)


def test_shares_that_workers_are_too_old_for_are_missed_and_come_back(
    fragile_cluster: LocalCluster, user: User
) -> None:
    cluster = fragile_cluster
    before = held_shares(cluster)
    stored, content = [], [random_bytes(size) for size in (20_000, 20_001, 3_000_000)]
    for each in content:
        stored.append(user.store_bytes(each)["sha256"])
    records = held_shares(cluster) - before
    assert len(records) == 18
    assert len({record.in_pack for record in records}) == 2, "in packs and in files of their own"

    version = next(iter(records)).read()[_VERSION_AT]
    become(cluster, records, version + 1)
    newer = {record: record.read() for record in records}
    ended = user.run("admin", "verify", "--all")
    assert ended.exit_code == 5, ended
    assert "3 images that were stored are on no device" in ended.stderr
    ended = user.run("admin", "verify", "--all", "--json")
    assert {json.loads(line)["state"] for line in ended.lines} == {"missing"}
    left = {record: record.read() for record in held_shares(cluster) if record in newer}
    assert left == newer, "left where they are"

    become(cluster, records, version)
    assert user.run("admin", "verify", "--all").exit_code == 0
    for number, each in enumerate(content):
        ended = user.restore(stored[number], output=user.folder / "out", options=("--force",))
        assert (ended.exit_code, (user.folder / "out").read_bytes()) == (0, each)

    for sha256, days in zip(stored, ("0", "30", "30")):
        assert user.run("admin", "delete", "--hash", sha256, "--yes", "--trash-days", days).exit_code == 0
    ended = user.run("admin", "verify", "--all")
    assert ended.exit_code == 0, f"what was deleted is not missing: {ended}"
