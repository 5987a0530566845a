"""Whoever stole a vault's key and does all the harm that it allows: within the hold all comes back as it was."""

from __future__ import annotations

import shutil

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import MakeUser
from tests.cluster.test_rotation import rotate, with_old_key
from tests.cluster.test_sharing import admin
from tests.support.programs import User, random_bytes, sha256_of

WHOLE = 2 << 20  # bytes: of a file that lies in files of their own at the devices


@pytest.fixture
def cluster(mending_cluster: LocalCluster) -> LocalCluster:
    """For all tests here."""
    return mending_cluster


def restored_from_a_clean_machine(user: User, contents: list[bytes]) -> None:
    """Restore all with what this machine has: the vault's present key."""
    folder = user.folder / "all"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.rmtree(user.home / "vault" / "index")
    ended = user.run("consumer", "--all", "--output", str(folder))
    assert ended.exit_code == 0, ended
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert sorted(map(sha256_of, files)) == sorted(map(sha256_of, contents))


def test_what_was_rotated_to_a_key_of_the_thiefs_own_comes_back(make_user: MakeUser) -> None:
    user = make_user("robbed")
    contents = [random_bytes(5000), random_bytes(WHOLE), b""]
    hashes = [user.store_bytes(content)["sha256"] for content in contents]
    thief = with_old_key(user)
    assert rotate(thief).exit_code == 0
    admin(thief, "delete", "--yes", "--trash-days", "0", "--hash", hashes[0])
    refused = user.run("consumer", "--list")
    assert refused.exit_code == 6 and "admin.py vault reclaim" in refused.stderr, refused

    ended = user.run("admin", "vault", "reclaim", "--since", "1h")
    assert ended.exit_code == 0, ended
    assert sorted(line.split()[0] for line in ended.lines) == sorted(hashes)
    assert "vault rotate" in ended.stderr
    restored_from_a_clean_machine(user, contents)
    assert user.run("producer", "--help").exit_code == 0
    assert rotate(user).exit_code == 0
    restored_from_a_clean_machine(user, contents)
    (user.folder / "another").write_bytes(b"another")
    assert user.run("producer", str(user.folder / "another")).exit_code == 0


def test_nothing_is_taken_back_where_nothing_was_done(make_user: MakeUser) -> None:
    user = make_user("untouched")
    content = random_bytes(5000)
    user.store_bytes(content)
    ended = user.run("admin", "vault", "reclaim", "--since", "1h")
    assert ended.exit_code == 3 and "hold nothing that was deleted or changed" in ended.stderr, ended
    restored_from_a_clean_machine(user, [content])
