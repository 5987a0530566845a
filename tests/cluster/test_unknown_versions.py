"""An older worker on what a newer one stored: nothing is damaged, the loss is said, and all comes back."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.local import LocalCluster
from tests.support.devices import numbers, restart, share_files
from tests.support.programs import User, random_bytes

_VERSION_AT = len(b"\x97\xad" + b"tessera-share")  # in a share's file


def set_version(files: list[Path], version: int) -> None:
    for path in files:
        content = bytearray(path.read_bytes())
        content[_VERSION_AT] = version
        path.write_bytes(content)


def test_shares_that_workers_are_too_old_for_are_missed_and_come_back(
    fragile_cluster: LocalCluster, user: User
) -> None:
    cluster = fragile_cluster
    before = share_files(cluster)
    stored, content = [], [random_bytes(20_000 + number) for number in range(3)]
    for each in content:
        stored.append(user.store_bytes(each)["sha256"])
    files = sorted(file.path for file in share_files(cluster) - before)
    assert len(files) == 18

    version = files[0].read_bytes()[_VERSION_AT]
    set_version(files, version + 1)
    restart(cluster, *numbers(cluster))
    ended = user.run("admin", "verify", "--all")
    assert ended.exit_code == 5, ended
    assert "3 images that were stored are on no device" in ended.stderr
    ended = user.run("admin", "verify", "--all", "--json")
    assert {json.loads(line)["state"] for line in ended.lines} == {"missing"}
    assert all(path.exists() for path in files), "left where they are"

    set_version(files, version)
    restart(cluster, *numbers(cluster))
    assert user.run("admin", "verify", "--all").exit_code == 0
    for number, each in enumerate(content):
        ended = user.restore(stored[number], output=user.folder / "out", options=("--force",))
        assert (ended.exit_code, (user.folder / "out").read_bytes()) == (0, each)

    for sha256, days in zip(stored, ("0", "30", "30")):
        assert user.run("admin", "delete", "--hash", sha256, "--yes", "--trash-days", days).exit_code == 0
    ended = user.run("admin", "verify", "--all")
    assert ended.exit_code == 0, f"what was deleted is not missing: {ended}"
