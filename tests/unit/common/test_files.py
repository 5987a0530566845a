"""Files: after any fault there is the old file or the new one, whole, and nothing beside it; a lock has one holder."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

from common import files
from common.errors import NoRoomError, TesseraError, UnwritableError, UsageError, refused_by_system
from common.files import lock, locked, make_folder, read_limited, rename_new, write_private
from tests import ROOT

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and calls")
OLD, NEW = b"what was there", b"what comes instead" * 1000

HOLD_A_LOCK = """
import sys
from pathlib import Path
from common.files import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from common.files import locked
folder = Path(sys.argv[1])
for _ in range(200):
    with locked(folder / "lock"):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


class HalfWritten(io.FileIO):
    """A file on a disk that fills up in the middle of a write."""

    def write(self, data: Any) -> int:
        super().write(data[: len(data) // 2])
        return int(full_disk())


class Unflushable(io.FileIO):
    def flush(self) -> None:
        full_disk()


def fail_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if step == "create":
        monkeypatch.setattr(os, "open", full_disk)
    elif step == "write":
        monkeypatch.setattr(files, "open", lambda descriptor, _: HalfWritten(descriptor, "wb"), raising=False)
    elif step == "flush":
        monkeypatch.setattr(files, "open", lambda descriptor, _: Unflushable(descriptor, "wb"), raising=False)
    elif step == "sync":
        monkeypatch.setattr(files, "sync_file", full_disk)
    elif step == "rename":
        monkeypatch.setattr(os, "replace", full_disk)


def run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# --- writing a whole file


def test_a_file_is_written_whole_into_a_folder_made_for_it(tmp_path: Path) -> None:
    target = tmp_path / "made" / "for it" / "file"
    write_private(target, NEW)
    assert target.read_bytes() == NEW
    assert os.listdir(target.parent) == ["file"]


def test_a_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_private(target, OLD)
    write_private(target, NEW)
    assert target.read_bytes() == NEW
    assert os.listdir(tmp_path) == ["file"]


@POSIX
def test_file_and_folder_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "folder" / "file", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder" / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


@POSIX
@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_path_that_is_a_folder_by_its_name_is_refused_as_one(name: str) -> None:
    with pytest.raises(IsADirectoryError):
        write_private(Path(name), NEW)


def test_a_file_that_others_could_read_is_private_once_written_again(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(OLD)
    target.chmod(0o644)
    write_private(target, NEW)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("old", [OLD, None])
@pytest.mark.parametrize("step", ["create", "write", "flush", "sync", "rename"])
def test_a_fault_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: Optional[bytes]
) -> None:
    target = tmp_path / "file"
    if old is not None:
        write_private(target, old)
    fail_at(step, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_private(target, NEW)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ([] if old is None else ["file"])
    assert old is None or target.read_bytes() == old


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "file"
    write_private(target, OLD)
    monkeypatch.setattr(files, "sync_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_private(target, NEW)
    assert os.listdir(tmp_path) == ["file"]
    assert target.read_bytes() == OLD


@POSIX
def test_a_folder_that_cannot_be_synced_is_told_and_the_file_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_private(target, OLD)
    monkeypatch.setattr(files, "sync_folder", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_private(target, NEW)
    assert os.listdir(tmp_path) == ["file"]
    assert target.read_bytes() == NEW


def test_bytes_are_synced_before_they_get_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    target = tmp_path / "file"

    def watch(step: str) -> None:
        done = getattr(files, step)

        def watched(*given: Any) -> None:
            steps.append(f"{step}, {'named' if target.exists() else 'not named yet'}")
            done(*given)

        monkeypatch.setattr(files, step, watched)

    for step in ("sync_file", "rename_over", "sync_folder"):
        watch(step)
    write_private(target, NEW)
    assert steps == ["sync_file, not named yet", "rename_over, not named yet", "sync_folder, named"]


# --- a name that must be new


def test_without_replacing_a_new_file_is_written(tmp_path: Path) -> None:
    write_private(tmp_path / "file", NEW, replace=False)
    assert (tmp_path / "file").read_bytes() == NEW
    assert os.listdir(tmp_path) == ["file"]


def test_without_replacing_an_existing_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_private(target, OLD)
    with pytest.raises(FileExistsError):
        write_private(target, NEW, replace=False)
    assert target.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["file"]


@POSIX
@pytest.mark.parametrize("taken", [True, False])
def test_where_there_are_no_hard_links_a_new_name_is_given_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(NEW)
    monkeypatch.setattr(os, "link", no_links)
    if taken:
        target.write_bytes(OLD)
        with pytest.raises(FileExistsError):
            rename_new(source, target)
        assert (source.read_bytes(), target.read_bytes()) == (NEW, OLD)
    else:
        rename_new(source, target)
        assert os.listdir(tmp_path) == ["target"]
        assert target.read_bytes() == NEW


# --- reading


def test_a_file_of_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_limited(path, 100) == b"x" * 100
    with pytest.raises(TesseraError, match="larger than 99 bytes"):
        read_limited(path, 99)


def test_making_a_folder_that_is_there_does_no_harm(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "file").write_bytes(OLD)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == OLD


# --- locks


def test_a_second_process_is_refused_the_lock_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "store" / "lock"
    with run_python(HOLD_A_LOCK, str(path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="in use by another Tessera process") as refusal:
            lock(path)
        assert str(path.parent) in str(refusal.value)
        holder.kill()
    lock(path).close()


def test_a_lock_is_free_once_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = lock(path)
    with pytest.raises(UsageError):
        lock(path)
    held.close()
    lock(path).close()


def test_a_refused_lock_does_not_end_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path):
        for _ in range(2):
            with pytest.raises(UsageError):
                lock(path)


def test_of_those_who_wait_for_a_lock_one_holds_it_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    counting = [run_python(COUNT, str(tmp_path)) for _ in range(3)]
    for process in counting:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert (tmp_path / "count").read_text() == "600"


def test_a_lock_is_given_back_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        raise RuntimeError
    lock(tmp_path / "lock").close()


# --- files that a person names


@pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links of POSIX")
def test_a_new_file_takes_the_place_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "null").symlink_to(os.devnull)
    kinds = {
        "file": "exists already",
        "folder": "is a folder",
        "pipe": "is a pipe",
        "dangling": "is a link that leads nowhere",
        "null": "is a device",
    }
    before = {path.name: path.lstat() for path in tmp_path.iterdir()}
    for name, what in kinds.items():
        with pytest.raises(UsageError, match=f"{name} {what}; it was not touched"):
            files.write_new(tmp_path / name, b"new")
    assert {path.name: path.lstat().st_ino for path in tmp_path.iterdir()} == {
        name: status.st_ino for name, status in before.items()
    }
    files.write_new(tmp_path / "new", b"new")
    assert (tmp_path / "new").read_bytes() == b"new"


@pytest.mark.parametrize("number", [28, 30, 13])
def test_what_cannot_be_written_is_told_by_its_own_path_whatever_was_written_first(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "sync_file", refuse)
    with pytest.raises(UnwritableError) as raised:
        files.write_private(tmp_path / "vault.key", b"key")
    assert raised.value.filename == str(tmp_path / "vault.key")
    told = refused_by_system(raised.value)
    assert isinstance(told, NoRoomError)
    assert str(told) == f"cannot write {tmp_path / 'vault.key'}: {os.strerror(number)}"
    with pytest.raises(NoRoomError):
        files.write_new(tmp_path / "copy", b"key")
    assert list(tmp_path.iterdir()) == []
