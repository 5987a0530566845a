"""Disks, folders and streams of the client's machine that take nothing: what was asked for is done, or said why not."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests import ROOT
from tests.support.devices import MIB
from tests.support.programs import Ended, User, files_below, finish, random_bytes, sha256_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="devices, pipes and mounts of Linux")
SUPERUSER = hasattr(os, "geteuid") and os.geteuid() == 0
MOUNTS = pytest.mark.skipif(not SUPERUSER or shutil.which("mount") is None, reason="only root mounts a small disk")


@contextlib.contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """A file system there, as `mount` makes it, for a while; skipped where this system mounts none."""
    place.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", *arguments, str(place)], capture_output=True, check=False).returncode:  # noqa: S607
        pytest.skip("this system mounts nothing")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    with mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)  # noqa: S607
        yield


@contextlib.contextmanager
def full_disk(place: Path) -> Iterator[None]:
    """A disk with what was there, and with room for names, and for no byte."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(place, kept, dirs_exist_ok=True)
        size = 2 * sum(path.stat().st_size for path in Path(kept).rglob("*") if path.is_file()) + (1 << 20)  # in blocks
        with mounted(place, "-t", "tmpfs", "-o", f"size={size},mode=1777", "tessera-test"):
            shutil.copytree(kept, place, dirs_exist_ok=True)
            with open(place / "filler", "wb", 0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            yield


def no_fault(ended: Ended) -> None:
    assert "internal fault" not in ended.stderr, ended
    assert "Traceback" not in ended.stderr, ended


@pytest.fixture
def stored(user: User) -> list[str]:
    """Three images of the user's; what the machine had kept of them is gone, as on another machine."""
    for number in range(3):
        (user.folder / f"{number}.bin").write_bytes(random_bytes(300_000))
    hashes = [image["sha256"] for image in user.store(*(f"{number}.bin" for number in range(3)))]
    shutil.rmtree(user.home / "vault" / "index")
    return hashes


# --- the client's own disk


@MOUNTS
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_with_a_home_that_takes_nothing_all_comes_back_and_that_is_said_once(
    user: User, stored: list[str], disk: str
) -> None:
    kept = user.home / "vault" / "index"
    with full_disk(kept) if disk == "full" else read_only(user.home):
        for program, *arguments in (
            ["consumer", "--list"],
            ["consumer", "--hash", stored[0][:12], "--output", "one"],
            ["consumer", "--all", "--output", "all"],
            ["admin", "verify", "--all"],
            ["admin", "verify", "--all", "--deep"],
        ):
            ended = user.run(program, *arguments)
            no_fault(ended)
            assert ended.exit_code == 0, ended
            assert ended.stderr.count("nothing can be kept in") == 1, ended
    assert {sha256_of(path.read_bytes()) for path in files_below(user.folder / "all")} == set(stored)


@MOUNTS
def test_with_a_read_only_home_images_are_stored(user: User) -> None:
    (user.folder / "a.bin").write_bytes(random_bytes(300_000))
    with read_only(user.home):
        ended = user.run("producer", "a.bin")
    no_fault(ended)
    assert ended.exit_code == 0, ended
    assert "nothing can be kept in" in ended.stderr


@MOUNTS
def test_without_room_for_a_journal_a_large_image_is_stored_and_that_is_said(user: User) -> None:
    content = random_bytes(70 * MIB)
    (user.folder / "large.bin").write_bytes(content)
    with full_disk(user.home / "vault" / "journal"):
        ended = user.run("producer", "large.bin")
    no_fault(ended)
    assert ended.exit_code == 0, ended
    assert ended.stderr.count("no journal can be kept: No space left on device; interrupted, it would begin anew") == 1
    restored = user.restore(sha256_of(content), output=user.folder / "back")
    assert (restored.exit_code, (user.folder / "back").read_bytes() == content) == (0, True)


@MOUNTS
@pytest.mark.parametrize(
    "arguments", [("contacts", "remove", "x"), ("vault", "passphrase"), ("vault", "rotate", "--backup", "b", "--yes")]
)
def test_what_must_be_kept_and_cannot_be_is_8_and_names_the_file(user: User, arguments: tuple[str, ...]) -> None:
    with read_only(user.home):
        ended = user.run("admin", *arguments, TESSERA_NEW_PASSPHRASE="four other words now")
    assert ended.exit_code == 8, ended
    assert f"cannot write {user.home}/vault/" in ended.stderr
    assert "Read-only file system" in ended.stderr
    no_fault(ended)


@MOUNTS
@pytest.mark.parametrize("disk", ["full", "read-only"])
@pytest.mark.parametrize("command", [("vault", "export"), ("vault", "recovery", "--need", "2", "--of", "3", "--file")])
def test_what_is_written_for_keeping_elsewhere_and_cannot_be_is_8(
    user: User, command: tuple[str, ...], disk: str
) -> None:
    stick = user.folder / "stick"
    stick.mkdir()
    with full_disk(stick) if disk == "full" else read_only(stick):
        ended = user.run("admin", *command, str(stick / "kept"))
    assert ended.exit_code == 8, ended
    assert f"cannot write {stick}/kept" in ended.stderr
    no_fault(ended)


@MOUNTS
def test_on_a_full_disk_a_vault_keeps_its_passphrase_and_that_is_said(user: User, stored: list[str]) -> None:
    vault = user.home / "vault"
    key = (vault / "vault.key").read_bytes()
    with full_disk(vault):
        before = files_below(vault)
        ended = user.run("admin", "vault", "passphrase", TESSERA_NEW_PASSPHRASE="four other words now")
        assert files_below(vault) == before
        assert (vault / "vault.key").read_bytes() == key
        restored = user.restore(stored[0], output=user.folder / "back")
    assert ended.exit_code == 8, ended
    assert f"cannot write {vault}/vault.key: No space left on device" in ended.stderr
    no_fault(ended)
    assert (restored.exit_code, sha256_of((user.folder / "back").read_bytes())) == (0, stored[0])


@MOUNTS
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_an_invite_that_the_broker_cannot_keep_is_8(cluster: LocalCluster, user: User, disk: str) -> None:
    home = cluster.directory / "home"
    operator = User({**user.environment, "TESSERA_HOME": str(home)}, user.folder)
    with full_disk(home / "broker") if disk == "full" else read_only(home / "broker"):
        ended = operator.run("broker", "invite", "worker")
    assert ended.exit_code == 8, ended
    assert f"cannot write {home}/broker/" in ended.stderr
    assert not ended.stdout, "no invite that nobody knows of"
    no_fault(ended)
    assert operator.run("broker", "invite", "worker").exit_code == 0


@MOUNTS
def test_a_store_on_a_read_only_disk_is_8(cluster: LocalCluster, user: User) -> None:
    store = user.folder / "store"
    store.mkdir()
    with read_only(store):
        ended = user.run("worker", "--store", str(store))
    assert ended.exit_code == 8, ended
    assert str(store) in ended.stderr
    no_fault(ended)


# --- where images go


@MOUNTS
def test_each_image_that_does_not_fit_is_named_with_its_path(user: User) -> None:
    contents = {"small.bin": random_bytes(5_000), "large.bin": random_bytes(3_000_000)}
    for name, content in contents.items():
        (user.folder / name).write_bytes(content)
    user.store(*contents)
    with mounted(user.folder / "out", "-t", "tmpfs", "-o", "size=1m", "tessera-test") as out:
        ended = user.run("consumer", "--all", "--output", "out")
        there = {path.name: path.read_bytes() for path in files_below(out)}
    told = {
        name
        for name, content in contents.items()
        if f"{sha256_of(content)} ({name}): cannot write out/{name}: No space left on device" in ended.stderr
    }
    assert ended.exit_code == 8, ended
    assert told == {"large.bin"}
    # The small one is written beside the large one, which may leave it no room for a moment.
    assert there == {"small.bin": contents["small.bin"]}
    assert [line.split()[1] for line in ended.lines] == ["out/small.bin"]


@MOUNTS
def test_a_read_only_folder_is_said_once_for_all_images(user: User, stored: list[str]) -> None:
    (user.folder / "out").mkdir()
    with read_only(user.folder / "out"):
        for arguments in (["--all"], [word for text in stored for word in ("--hash", text)]):
            ended = user.run("consumer", *arguments, "--output", "out")
            assert ended.exit_code == 8, ended
            assert ended.stderr.count("Read-only file system") == 1
            assert "the folder out" in ended.stderr


@MOUNTS
def test_a_temporary_folder_that_is_full_is_called_so(user: User, stored: list[str]) -> None:
    with mounted(user.folder / "temporary", "-t", "tmpfs", "-o", "size=64k", "tessera-test") as place:
        ended = user.run("consumer", "--hash", stored[0], "--output", "-", TMPDIR=str(place))
    assert (ended.exit_code, ended.stdout) == (8, b"")
    assert f"{stored[0]} (0.bin): cannot write to the temporary folder {place}: No space left on device" in ended.stderr


def test_a_device_and_a_pipe_are_written_through_and_stay_what_they_are(
    user: User, stored: list[str], tmp_path: Path
) -> None:
    content = (user.folder / "0.bin").read_bytes()
    os.mkfifo(user.folder / "pipe")
    (user.folder / "link").symlink_to(os.devnull)
    for target in (os.devnull, "link"):
        for force in ((), ("--force",)):
            ended = user.run("consumer", "--hash", stored[0], "--output", target, *force)
            assert ended.exit_code == 0, ended
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert (user.folder / "link").is_symlink()
    with user.started("consumer", "--hash", stored[0], "--output", "pipe", "--force") as process:
        with open(user.folder / "pipe", "rb") as pipe:
            assert pipe.read() == content
        assert finish(process).exit_code == 0
    assert stat.S_ISFIFO(os.stat(user.folder / "pipe").st_mode)
    through = user.run("consumer", "--hash", stored[0], "--output", "/dev/stdout", "--force")
    assert (through.exit_code, through.stdout) == (0, content)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no such device")
def test_a_stdout_that_is_full_is_8_and_no_fault(user: User, stored: list[str]) -> None:
    for arguments in (
        ("--list",),
        ("--list", "--json"),
        ("--hash", stored[0], "--output", "-"),
        ("--all", "--output", "out", "--force"),
    ):
        command = [sys.executable, "-m", "consumer", *arguments]
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                command,
                cwd=user.folder,
                env={**user.environment, "PYTHONPATH": str(ROOT)},
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        told = ended.stderr.decode()
        assert ended.returncode == 8, told
        assert told.count("No space left on device") == 1
        assert "internal fault" not in told
    assert len(files_below(user.folder / "out")) == 3, "a list that is lost costs no image"


# --- locales


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the locales of these tests."""
    folder = tmp_path_factory.mktemp("locales")
    for name, charmap in (("en_US", "ISO-8859-1"), ("ja_JP", "EUC-JP")):
        command = ["localedef", "-i", name, "-f", charmap, str(folder / f"{name}.{charmap}")]
        if shutil.which("localedef") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("localedef makes no locales here")
    return folder


@pytest.mark.parametrize(
    ("locale", "shown", "on_disk"),
    [
        ("en_US.ISO-8859-1", rb"\u5199\u771f.png", "写真.png".encode()),
        ("ja_JP.EUC-JP", "写真.png".encode("euc_jp"), "写真.png".encode("euc_jp")),
    ],
)
def test_in_any_locale_every_name_is_listed_and_restored(
    user: User, locales: Path, locale: str, shown: bytes, on_disk: bytes
) -> None:
    contents = {"写真.png": random_bytes(2000), "été 😀.png": random_bytes(2000), "z.png": random_bytes(2000)}
    for name, content in contents.items():
        (user.folder / name).write_bytes(content)
    user.store(*contents)
    user.environment.update({"LC_ALL": locale, "LOCPATH": str(locales), "PYTHONUTF8": "0"})
    for arguments in (("--list",), ("--list", "--json"), ("--all", "--output", "out")):
        ended = user.run("consumer", *arguments)
        no_fault(ended)
        assert ended.exit_code == 0, ended
        assert ended.stdout.count(b"\n") == 3, ended
        assert "--json" in arguments or arguments[0] == "--all" or shown in ended.stdout
    found = {path: (Path(os.fsdecode(path))).read_bytes() for path in names_below(user.folder / "out")}
    assert set(found.values()) == set(contents.values())
    assert os.fsencode(user.folder / "out") + b"/" + on_disk in found
    verified = user.run("admin", "verify", "--all")
    no_fault(verified)
    assert verified.exit_code == 0, verified


def names_below(folder: Path) -> list[bytes]:
    return [entry.path for entry in os.scandir(os.fsencode(folder))]


# --- many


def test_whole_hashes_and_beginnings_are_resolved_together_and_each_is_told_of(user: User, stored: list[str]) -> None:
    wanted = [stored[0], stored[1][:16], "ab" * 32, stored[1], stored[2], "cd" * 6]
    ended = user.restore(*wanted, output=user.folder / "out", options=("--json",))
    assert ended.exit_code == 3, ended
    assert sorted(each["sha256"] for each in ended.objects) == sorted(stored)
    assert f"no image with the SHA-256 {'ab' * 32}" in ended.stderr
    assert f"begins with {'cd' * 6}" in ended.stderr
    assert {sha256_of(path.read_bytes()) for path in files_below(user.folder / "out")} == set(stored)
