"""Whatever is given is stored as it is, or is an error of its own; its neighbours go on."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from producer.run import AT_A_TIME
from tests.support.devices import MIB, wait_nothing_staged, wait_staged
from tests.support.programs import User, files_below, finish, random_bytes, sha256_of

SEGMENT = 4 * MIB - 16  # bytes of the image in a segment, k = 4
SIZES = [0, 1, 2, 15, 16, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 1]
NAMES = [
    "名前 写真.jpg",
    "фотография.png",
    "صورة.gif",
    "e\u0301te\u0301.tif",  # decomposed accents stay decomposed
    "👩‍👩‍👧 on the beach.jpeg",
    "-k",
    "--output",
    'quo\'te and "double" $HOME `date`.png',
    "percent %s {0} [bold].png",
    " begins with a space",
    ".hidden",
    "n" * 190 + ".png",
]
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def test_every_size_comes_back(user: User) -> None:
    contents = {}
    for size in SIZES:
        path = user.folder / "in" / f"{size}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random_bytes(size))
        contents[path.name] = path.read_bytes()
    stored = {Path(image["path"]).name: image for image in user.store(str(user.folder / "in"))}
    assert {name: (image["sha256"], image["bytes"]) for name, image in stored.items()} == {
        name: (sha256_of(content), len(content)) for name, content in contents.items()
    }
    assert user.run("consumer", "--all", "--output", "out").exit_code == 0
    assert {path.name: path.read_bytes() for path in files_below(user.folder / "out")} == contents


@pytest.mark.parametrize("size", [0, 1, SEGMENT, SEGMENT + 1])
def test_every_size_comes_back_from_a_pipe(owner: User, size: int) -> None:
    content = random_bytes(size)
    ended = owner.run("producer", "-", "--json", *([] if size else ["--allow-empty"]), stdin=content)
    assert ended.exit_code == 0, ended
    assert owner.restore(ended.objects[0]["sha256"], output=owner.folder / "out").exit_code == 0
    assert (owner.folder / "out").read_bytes() == content


def test_a_large_sparse_file_comes_back(user: User) -> None:
    path = user.folder / "sparse.raw"
    with path.open("wb") as file:
        file.write(b"begin" + random_bytes(32))
        file.truncate(80 << 20)
        file.seek(50 << 20)
        file.write(random_bytes(32))
    (stored,) = user.store(str(path))
    assert (stored["bytes"], stored["already_stored"]) == (80 << 20, False)
    assert user.restore(stored["sha256"], output=user.folder / "out").exit_code == 0
    assert (user.folder / "out").read_bytes() == path.read_bytes()
    (again,) = user.store(str(path))
    assert again["already_stored"] is True


@POSIX_ONLY
def test_names_in_any_script_come_back(user: User) -> None:
    contents = {}
    for name in NAMES:
        path = user.folder / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random_bytes(100))
        contents[name] = path.read_bytes()
    stored = user.store(str(user.folder / "in"))
    assert {Path(image["path"]).name for image in stored} == set(NAMES)
    assert {image["name"] for image in user.listed()} == set(NAMES)
    hashes = [word for image in stored for word in ("--hash", image["sha256"])]
    out = user.folder / "out"
    out.mkdir()
    assert user.run("consumer", *hashes, "--output", str(out)).exit_code == 0
    # What Windows would not take as a name is replaced; the bytes are the same.
    assert sorted(path.read_bytes() for path in files_below(out)) == sorted(contents.values())
    kept = {path.name for path in files_below(out)}
    assert {"名前 写真.jpg", "фотография.png", "صورة.gif", "e\u0301te\u0301.tif", "-k", ".hidden"} <= kept


@POSIX_ONLY
@pytest.mark.parametrize("raw", [b"line\nend and\x1bescape.png", b"caf\xe9.png"])
def test_a_name_of_odd_bytes_does_no_harm(user: User, raw: bytes) -> None:
    path = user.folder / os.fsdecode(raw)
    path.write_bytes(random_bytes(100))
    plain = user.run("producer", str(path))
    assert plain.exit_code == 0, plain
    assert sha256_of(path.read_bytes()).encode() in plain.stdout
    as_json = user.run("producer", str(path), "--json")
    assert as_json.exit_code == 0, as_json
    assert as_json.objects[0]["already_stored"] is True
    for options in ((), ("--json",)):
        listed = user.run("consumer", "--list", *options)
        assert listed.exit_code == 0, listed
        assert len(listed.lines) == 1  # neither a line's end nor an escape sequence reaches the terminal
        assert b"\x1b" not in listed.stdout
    out = user.folder / "out"
    out.mkdir()
    ended = user.run("consumer", "--hash", sha256_of(path.read_bytes()), "--output", str(out))
    assert ended.exit_code == 0, ended
    assert [restored.read_bytes() for restored in files_below(out)] == [path.read_bytes()]


@POSIX_ONLY
def test_a_leading_dash_is_a_name_behind_two_dashes(user: User) -> None:
    (user.folder / "-n").write_bytes(b"not an option")
    ended = user.run("producer", "--", "-n")
    assert ended.lines == [f"{sha256_of(b'not an option')}  -n"]


def good_files(user: User) -> dict[str, str]:
    """Two files that are fine, by name: of one segment, and of two."""
    sizes = {"good.bin": 700, "long.bin": SEGMENT + 1}
    for name, size in sizes.items():
        (user.folder / name).write_bytes(random_bytes(size))
    return {name: sha256_of((user.folder / name).read_bytes()) for name in sizes}


def check_neighbours(user: User, fault: str, exit_code: int) -> str:
    """Store the fault among good files: they are stored, it is named; returns what was said."""
    good = good_files(user)
    ended = user.run("producer", "good.bin", fault, "long.bin", "--json")
    assert ended.exit_code == exit_code, ended
    assert {image["path"]: image["sha256"] for image in ended.stored} == good
    assert {image["name"] for image in user.listed()} == set(good)
    (failed,) = (each for each in ended.objects if each["state"] == "failed")
    assert (failed["path"], failed["exit_code"]) == (fault, exit_code)
    assert failed["error"] in ended.stderr
    assert "2 stored, 0 skipped, 1 failed" in ended.stderr
    return ended.stderr


def test_a_missing_file_does_not_stop_the_others(user: User) -> None:
    assert "no such file" in check_neighbours(user, "nowhere.png", 3)


def test_a_link_to_nothing_does_not_stop_the_others(user: User) -> None:
    try:
        (user.folder / "dangling.png").symlink_to("nowhere.png")
    except OSError:
        pytest.skip("links are not allowed here")
    assert "no such file" in check_neighbours(user, "dangling.png", 3)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable to root")
def test_an_unreadable_file_does_not_stop_the_others(user: User) -> None:
    (user.folder / "secret.png").write_bytes(b"secret")
    (user.folder / "secret.png").chmod(0)
    assert "cannot be read" in check_neighbours(user, "secret.png", 3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_does_not_stop_the_others(user: User) -> None:
    os.mkfifo(user.folder / "pipe.png")
    assert "pipe.png: a named pipe, no file" in check_neighbours(user, "pipe.png", 10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_in_a_folder_does_not_stop_the_others(user: User) -> None:
    good = good_files(user)
    os.mkfifo(user.folder / "pipe.png")
    ended = user.run("producer", str(user.folder), "--json")
    assert ended.exit_code == 0, ended
    assert {Path(image["path"]).name: image["sha256"] for image in ended.stored} == good
    skipped = [(each["path"], each["reason"]) for each in ended.objects if each["state"] == "skipped"]
    assert skipped == [(str(user.folder / "pipe.png"), "named pipe")]
    assert "pipe.png: named pipe; skipped" in ended.stderr
    assert "2 stored, 1 skipped (named pipe: 1), 0 failed" in ended.stderr


def test_the_exit_code_is_that_of_the_first_failure(user: User) -> None:
    (user.folder / "fine.bin").write_bytes(b"fine")
    ended = user.run("producer", "missing-1.png", "fine.bin", "missing-2.png")
    assert ended.exit_code == 3
    assert ended.lines == [f"{sha256_of(b'fine')}  fine.bin"]
    assert "missing-1.png" in ended.stderr
    assert "missing-2.png" in ended.stderr


def test_no_file_at_all_is_a_usage_error(user: User) -> None:
    ended = user.run("producer")
    assert (ended.exit_code, ended.stdout) == (2, b"")
    assert "nothing is named" in ended.stderr


def test_a_folder_of_which_nothing_is_stored_is_said_and_no_success(user: User) -> None:
    """As a mount point without its mount."""
    (user.folder / "album" / "nas").mkdir(parents=True)
    for argument, text in (("album/nas", "album/nas: an empty folder"), ("album", "album: nothing of it was stored")):
        ended = user.run("producer", argument, TESSERA_PASSPHRASE="")  # nobody needs to be asked for one
        assert (ended.exit_code, ended.stdout) == (10, b""), ended
        assert text in ended.stderr


@POSIX_ONLY
def test_links_to_folders_and_empty_folders_among_files_are_said_and_counted(user: User) -> None:
    album = user.folder / "album"
    (album / "nas").mkdir(parents=True)
    (album / "good.bin").write_bytes(random_bytes(100))
    (album / "link").symlink_to(user.folder)
    ended = user.run("producer", "album", "--json")
    assert ended.exit_code == 0, ended
    assert [image["path"] for image in ended.stored] == ["album/good.bin"]
    skipped = {each["path"]: each["reason"] for each in ended.objects if each["state"] == "skipped"}
    assert skipped == {"album/nas": "empty folder", "album/link": "link to a folder"}
    assert "1 stored, 2 skipped (link to a folder: 1, empty folder: 1), 0 failed" in ended.stderr
    named = user.run("producer", "album/link/album", "--json")  # as a name of its own, a link is followed
    assert [image["already_stored"] for image in named.stored] == [True]


def test_what_is_excluded_is_counted_and_not_entered(user: User) -> None:
    for name in ("a.bin", "b.tmp", "keep.tmp", "cache/c.bin"):
        path = user.folder / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(100))
    (user.folder / "patterns").write_text("# what is not worth keeping\n*.tmp\ncache/\n")
    chosen = ("--exclude-from", "patterns", "--exclude", "!keep.tmp", "album")
    ended = user.run("producer", "--json", *chosen)
    assert ended.exit_code == 0, ended
    assert {image["path"] for image in ended.stored} == {"album/a.bin", "album/keep.tmp"}
    skipped = {each["path"]: each["reason"] for each in ended.objects if each["state"] == "skipped"}
    assert skipped == {"album/b.tmp": "excluded", "album/cache": "excluded"}
    assert ended.objects[-1] == {"state": "counted", "stored": 2, "skipped": {"excluded": 2}, "failed": 0}
    said = user.run("producer", *chosen).stderr
    assert "2 stored, 2 skipped (excluded: 2), 0 failed" in said
    assert "b.tmp" not in said
    nothing = user.run("producer", "album", "--exclude", "album")
    assert (nothing.exit_code, nothing.stdout) == (10, b""), nothing
    assert "album: nothing of it was stored" in nothing.stderr


def test_what_a_list_names_is_stored_beside_what_was_given(user: User) -> None:
    for name in ("given.bin", "one.bin", "two.bin"):
        (user.folder / name).write_bytes(random_bytes(100))
    listed = user.run("producer", "--json", "given.bin", "--files-from", "-", stdin=b"one.bin\0two.bin\0gone.bin\0")
    assert listed.exit_code == 3, listed
    assert [image["path"] for image in listed.stored] == ["given.bin", "one.bin", "two.bin"]
    assert "gone.bin: no such file" in listed.stderr
    nothing = user.run("producer", "--files-from", "-", stdin=b"\n")
    assert (nothing.exit_code, nothing.stdout) == (10, b""), nothing
    assert "-: nothing is named in it" in nothing.stderr
    twice = user.run("producer", "-", "--files-from", "-", stdin=b"one.bin\n")
    assert (twice.exit_code, twice.stdout) == (2, b""), twice


def test_a_stdin_that_gives_nothing_is_no_image(user: User) -> None:
    ended = user.run("producer", "-")
    assert (ended.exit_code, ended.stdout) == (10, b""), ended
    assert "-: stdin gave nothing" in ended.stderr
    assert user.listed() == []


@POSIX_ONLY
@pytest.mark.parametrize("size", [4, (64 << 20) + 1], ids=["small", "large"])
def test_an_edit_that_keeps_size_and_time_is_stored(user: User, size: int) -> None:
    path = user.folder / "x"
    for content in (b"AAAA", b"BBBB"):
        status = path.stat() if path.exists() else None
        path.write_bytes(content)
        os.truncate(path, size)
        if status is not None:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        (stored,) = user.store("x")
        assert (stored["sha256"], stored["already_stored"]) == (sha256_of(path.read_bytes()), False)
    (again,) = user.store("x", "--reread")
    assert (again["sha256"], again["already_stored"]) == (stored["sha256"], True)


@POSIX_ONLY
def test_a_sparse_file_of_100_gb_is_refused_at_once_by_name(cluster: LocalCluster, user: User) -> None:
    try:
        with (user.folder / "disk.raw").open("wb") as file:
            file.truncate(100 * 10**9)
    except OSError:
        pytest.skip("the file system here has no such files")
    said = check_neighbours(user, "disk.raw", 10)
    assert "disk.raw: 100,000,000,000 bytes are too large: with 4 of 6 at most 90,818,918,064" in said
    assert "-k 5 -n 6 allows 113,523,734,192 bytes" in said
    wait_nothing_staged(cluster)


def test_a_file_that_vanishes_before_its_turn_is_an_error_of_its_own(cluster: LocalCluster, user: User) -> None:
    good = {}
    for name in (f"long-{number}.bin" for number in range(AT_A_TIME)):
        (user.folder / name).write_bytes(random_bytes(5 * SEGMENT))
        good[name] = sha256_of((user.folder / name).read_bytes())
    (user.folder / "vanishing.bin").write_bytes(b"soon gone")
    with user.started("producer", "--json", *good, "vanishing.bin") as process:
        wait_staged(cluster, 1)
        (user.folder / "vanishing.bin").unlink()
        ended = finish(process)
    assert ended.exit_code == 3, ended
    assert {image["path"]: image["sha256"] for image in ended.stored} == good
    assert "vanishing.bin" in ended.stderr


@POSIX_ONLY
@pytest.mark.parametrize("change", ["grows", "shrinks", "is written to"])
def test_a_file_that_changes_while_it_is_read_is_read_once_more_and_stored(
    cluster: LocalCluster, user: User, change: str
) -> None:
    good = good_files(user)
    path = user.folder / "restless.bin"
    path.touch()
    os.truncate(path, 80 << 20)  # more than is hashed before it is sent
    with user.started("producer", "--json", "restless.bin", *good) as process:
        wait_staged(cluster, 1)
        process.send_signal(signal.SIGSTOP)
        if change == "is written to":
            with path.open("r+b") as file:
                file.write(b"new")
        else:
            os.truncate(path, (80 << 20) + (1000 if change == "grows" else -1000))
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
    assert ended.exit_code == 0, ended
    expected = {**good, "restless.bin": sha256_of(path.read_bytes())}
    assert {image["path"]: image["sha256"] for image in ended.stored} == expected
    assert {image["name"] for image in user.listed()} == set(expected)
    wait_nothing_staged(cluster)
