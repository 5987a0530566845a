"""Whoever has a vault's key and deletes all of it for good: as long as devices hold it, it comes back."""

from __future__ import annotations

import json

from cluster.local import LocalCluster
from tests.support.programs import User, random_bytes, wait_until

WHOLE = 2 << 20  # bytes: of a file that lies in files of their own at the devices


def test_all_that_was_deleted_for_good_comes_back(user: User) -> None:
    contents = [random_bytes(5000), random_bytes(WHOLE), b""]
    hashes = [user.store_bytes(content)["sha256"] for content in contents]
    kept = user.store_bytes(random_bytes(100))["sha256"]
    for sha256 in hashes:
        ended = user.run("admin", "delete", "--hash", sha256, "--yes", "--trash-days", "0")
        assert ended.exit_code == 0, ended
        assert user.restore(sha256, output=user.folder / "gone").exit_code == 3
    assert not user.run("admin", "undelete", "--list").lines, "it is in no trash"

    ended = user.run("admin", "undelete", "--all", "--since", "1h")
    assert ended.exit_code == 0, ended
    assert len(ended.lines) == len(hashes)
    for sha256, content in zip(hashes, contents):
        ended = user.restore(sha256, output=user.folder / "back", options=("--force",))
        assert (ended.exit_code, (user.folder / "back").read_bytes()) == (0, content)
    assert user.restore(kept, output=user.folder / "kept").exit_code == 0


def test_what_was_not_deleted_lately_stays_deleted(user: User) -> None:
    ended = user.run("admin", "undelete", "--all", "--since", "1h")
    assert ended.exit_code == 3
    assert "nothing was deleted in that time" in ended.stderr


def test_status_says_for_how_long_devices_hold(cluster: LocalCluster, user: User) -> None:
    def said() -> set[tuple[bool, int]]:
        status = json.loads(user.run("admin", "status", "--json").stdout)
        settled = status["objects"]["settled"]
        own = [device for device in status["devices"] if device["name"] in cluster.devices]  # others' may be gone
        return {(settled and device["alive"], device["hold_seconds"]) for device in own}

    wait_until(lambda: said() == {(True, 7 * 24 * 3600)}, "all devices, with their hold")
    assert b"can be taken back for 7 days, whoever deleted it" in user.run("admin", "status").stdout


def test_all_needs_since_and_goes_with_nothing_else(user: User) -> None:
    for arguments in (["--all"], ["--since", "1h"], ["--list", "--since", "1h"], ["--all", "--list", "--since", "1h"]):
        assert user.run("admin", "undelete", *arguments).exit_code == 2
