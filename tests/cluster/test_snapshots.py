"""A folder that was stored comes back as it was, by the programs as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.support.generated_trees import described
from tests.support.programs import Ended, User

NEW = "the passphrase of ann from now on"


@pytest.fixture
def user(cluster: LocalCluster, tmp_path: Path) -> User:
    """Somebody who stores folders, with a vault of their own."""
    environment = cluster.add_client(f"{tmp_path.name}-ann", "the passphrase of ann")
    return User(environment, tmp_path / "ann", snapshots=True)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_album(user: User) -> Path:
    """Equal files, empty ones, equal names in several folders, links, an empty folder, an old date, a private file."""
    album = user.folder / "album"
    tag = os.fsencode(user.folder.parent.name)
    for year in ("2018", "2019", "2020"):
        write(album / year / "IMG_0001.JPG", tag + year.encode())
    write(album / "a/x", tag)
    write(album / "b/y", tag)
    write(album / "one", b"")
    write(album / "two", b"")
    write(album / "long.bin", tag * 300_000)
    (album / "nothing here").mkdir()
    (album / "newest").symlink_to("2020")
    os.link(album / "long.bin", album / "again.bin")
    (album / "one").chmod(0o600)
    os.utime(album / "2018/IMG_0001.JPG", ns=(10**9, 10**9))
    os.utime(album / "2018", ns=(2 * 10**9, 2 * 10**9))
    return album


def put(user: User, *arguments: str, exit_code: int = 0) -> Ended:
    ended = user.run("producer", *arguments)
    assert ended.exit_code == exit_code, ended
    return ended


def get(user: User, *arguments: str, exit_code: int = 0) -> Ended:
    ended = user.run("consumer", *arguments)
    assert ended.exit_code == exit_code, ended
    return ended


def differences(one: Path, other: Path) -> str:
    """What rsync would have to change, of content, times, modes, links and attributes; empty where it is not there."""
    if shutil.which("rsync") is None:
        return ""
    command = ["rsync", "-rlptHX", "--checksum", "--delete", "-n", "-i", f"{one}/", f"{other}/"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_folder_comes_back_as_it_was_with_two_of_six_devices_killed(
    fragile_cluster: LocalCluster, user: User
) -> None:
    album = make_album(user)
    put(user, "album")
    fragile_cluster.kill_device(1)
    fragile_cluster.kill_device(4)
    get(user, "--snapshot", "latest", "--output", "back")
    assert described(user.folder / "back/album") == described(album)
    assert differences(album, user.folder / "back/album") == ""


def test_each_snapshot_gives_what_was_there_when_it_was_taken(user: User) -> None:
    album = make_album(user)
    put(user, "album", "--label", "photos")
    then = described(album)
    (album / "a/x").rename(album / "a/renamed")
    (album / "b/y").unlink()
    write(album / "a/new", b"new")
    put(user, "album", "--label", "photos")
    first, second = get(user, "--snapshots", "--json").objects
    assert [each["label"] for each in (first, second)] == ["photos", "photos"]
    assert (first["files"], second["files"], first["complete"]) == (9, 9, True)
    get(user, "--snapshot", first["id"][:8], "--output", "then")
    get(user, "--snapshot", "latest", "--label", "photos", "--output", "now")
    assert described(user.folder / "then/album") == then
    assert described(user.folder / "now/album") == described(album)
    changes = {
        (each["change"], each["path"], each["to"])
        for each in get(user, "--diff", first["id"], second["id"], "--json").objects
    }
    assert changes == {
        ("renamed", "album/a/x", "album/a/renamed"),
        ("removed", "album/b/y", None),
        ("added", "album/a/new", None),
    }


def test_what_is_in_a_snapshot_is_listed_as_ls_does(user: User) -> None:
    make_album(user)
    put(user, "album")
    listed = {each["path"]: each for each in get(user, "--ls", "latest", "--json").objects}
    assert listed["album/2018/IMG_0001.JPG"]["modified"] == 10**9
    assert (listed["album/one"]["mode"], listed["album/one"]["bytes"]) == ("0600", 0)
    assert listed["album/newest"]["target"] == "2020"
    below = [each["path"] for each in get(user, "--ls", "latest", "--path", "album/2019", "--json").objects]
    assert below == ["album/2019", "album/2019/IMG_0001.JPG"]
    assert any(
        line.startswith("lrwx") and line.endswith("album/newest -> 2020") for line in get(user, "--ls", "latest").lines
    )


def test_all_gives_the_newest_of_each_label_and_beside_it_what_no_snapshot_names(user: User) -> None:
    album = make_album(user)
    write(user.folder / "other/album/z", b"of another folder")
    write(user.folder / "alone.png", b"in no snapshot")
    put(user, "album")
    put(user, "other/album")
    put(user, "alone.png", "--no-snapshot")
    get(user, "--all", "--output", "back")
    by_label = {path.name.rpartition("_")[0]: path for path in (user.folder / "back").iterdir()}
    assert (user.folder / "back/in no snapshot/alone.png").read_bytes() == b"in no snapshot"
    (own,) = [path for path in by_label.values() if (path / "album/2018").is_dir()]
    (other,) = [path for path in by_label.values() if (path / "album/z").is_file()]
    assert own != other
    assert described(own / "album") == described(album)


def test_a_list_shows_every_path_of_a_content_and_neither_trees_nor_snapshots(user: User) -> None:
    make_album(user)
    put(user, "album")
    held = get(user, "--list", "--json").objects
    assert sorted(path for each in held for path in each["paths"]) == sorted(
        each["path"] for each in get(user, "--ls", "latest", "--json").objects if each["type"] == "file"
    )
    assert len(held) == 6


def test_a_put_that_fails_for_some_records_the_rest_and_says_that_it_lacks_some(user: User) -> None:
    make_album(user)
    write(user.folder / "papers/.nobackup", b"")  # so that nothing of it is stored
    ended = put(user, "album", "missing.jpg", "papers", "--json", exit_code=3)
    (recorded,) = [each for each in ended.objects if each["state"] == "snapshot"]
    assert recorded["complete"] is False
    assert sum(each["state"] == "failed" for each in ended.objects) == 2
    assert "INCOMPLETE: 2 could not be stored" in get(user, "--snapshots").lines[0]
    get(user, "--snapshot", "latest", "--output", "back")
    assert differences(user.folder / "album", user.folder / "back/album") == ""


def test_an_interrupted_restore_goes_on_where_it_stopped(user: User) -> None:
    album = make_album(user)
    put(user, "album")
    get(user, "--snapshot", "latest", "--output", "back")
    (user.folder / "back/album/2019/IMG_0001.JPG").unlink()
    ended = get(user, "--snapshot", "latest", "--output", "back", "--json")
    assert len(ended.objects) == 9
    assert described(user.folder / "back/album") == described(album)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("--snapshot", "latest", "--output", "o"), 3, "the vault has no snapshot"),
        (("--snapshot", "latest"), 2, "--snapshot needs --output FOLDER"),
        (("--ls", "latest"), 3, "the vault has no snapshot"),
        (("--snapshots", "--list"), 2, "give one of"),
    ],
)
def test_what_cannot_be_is_said(user: User, arguments: tuple[str, ...], exit_code: int, words: str) -> None:
    ended = get(user, *arguments, exit_code=exit_code)
    assert words in ended.stderr


def test_trees_and_snapshots_are_verified_and_go_with_a_rotation(user: User) -> None:
    album = make_album(user)
    put(user, "album")
    verified = user.run("admin", "verify", "--all", "--deep")
    assert verified.exit_code == 0, verified
    assert "6 images, 8 trees and 1 snapshot, every share read" in " ".join(verified.stdout.decode().split())
    kinds = [each["kind"] for each in user.run("admin", "verify", "--all", "--json").objects]
    assert [kinds.count(kind) for kind in ("image", "tree", "snapshot")] == [6, 8, 1]
    rotated = user.run("admin", "vault", "rotate", "--yes", "--backup", "backup.key", TESSERA_NEW_PASSPHRASE=NEW)
    assert rotated.exit_code == 0, rotated
    user.environment["TESSERA_PASSPHRASE"] = NEW
    get(user, "--snapshot", "latest", "--output", "back")
    assert described(user.folder / "back/album") == described(album)
    assert json.loads(get(user, "--snapshots", "--json").lines[0])["files"] == 9
