"""Where an image is written: a safe name, and no file under it before the image is proven."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Callable, Optional, Union

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common import files
from common.errors import NoRoomError, NotFoundError, TesseraError, UsageError
from common.files import is_device_name
from common.vault.mapping import Mapping
from consumer import target_folder
from consumer.command import _Printer
from consumer.destination import Destination
from consumer.events import NotRestored, Restored
from consumer.output import HeldOutput, Output, ThroughOutput, name_here, open_named, remove_unfinished, safe_name
from consumer.restorer import restore_all
from consumer.target_folder import TargetFolder
from tests import ROOT
from tests.support.sample_images import encode

RESERVED = [
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "CONIN$",
    "CONOUT$",
    *(f"{d}{n}" for d in ("COM", "LPT") for n in "0123456789¹²³"),
]
ORDINARY = [
    "photo.jpg",
    "IMG_0001.JPG",
    "no suffix",
    "été à la plage.png",
    "写真.png",
    "Фотография 12.tiff",
    "صورة.webp",
    "תמונה.gif",
    "ภาพถ่าย.bmp",
    "사진.jpeg",
    "👩‍👩‍👧 family.png",
    ".hidden.png",
    "two..dots.png",
    "-dash.png",
    "a" * 196 + ".png",
    "console.png",
    "nullify",
    "com10.txt",
    "COMmon.jpg",
]

# What another process does that writes to `picture.png`: held until its stdin ends, or killed.
HOLD = """
import sys
from pathlib import Path
from consumer.output import Output
output = Output(Path(sys.argv[1]), replace=True)
print("held", flush=True)
sys.stdin.read()
output.keep()
"""

names = st.text(max_size=300) | st.text(st.sampled_from(' ./\\:*?"<>|\0\n\x85\u00a0\u3000_~$aC写'), max_size=12)
long_names = st.builds(
    lambda stem, times, tail: stem * times + tail,
    st.text(min_size=1, max_size=5),
    st.integers(1, 300),
    st.text(max_size=30),
)


def reserved_on_windows(name: str) -> bool:
    """As Python's ntpath says it, which follows Microsoft's "Naming Files, Paths, and Namespaces"."""
    return name.partition(".")[0].rstrip(" ").upper() in RESERVED


@given(names | long_names)
@example("a\u00a0.")
@example("a" * 199 + " b")
@example("a" * 198 + "..b")
@example("con .txt")
@example("../../etc/passwd")
@example("C:\\Windows\\System32\\evil.dll")
@example("\x9b31m.png")
def test_a_safe_name_is_one_file_in_the_folder_at_hand_whatever_was_given(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\:*?"<>|')
    assert not any(unicodedata.category(character) == "Cc" for character in safe)
    assert not safe.endswith((".", " "))
    assert not reserved_on_windows(safe)
    assert len(safe.encode("utf-8")) <= 255
    assert Path(safe).name == safe
    assert safe_name(safe) == safe, "not idempotent"


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_in_any_script_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == name


@given(
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40), st.sampled_from([".png", ".jpg", ".tiff"])
)
def test_letters_and_digits_of_all_scripts_stay_as_they_are(stem: str, suffix: str) -> None:
    name = stem + suffix
    if not reserved_on_windows(name):
        assert safe_name(name) == name


@pytest.mark.parametrize("form", ["{}", "{}.png", "{} .png", "{}.tar.gz"])
def test_the_names_of_windows_devices_are_altered_in_either_case(form: str) -> None:
    for device in RESERVED:
        for name in (form.format(device), form.format(device.lower())):
            assert safe_name(name) == f"_{name}"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("", "image"),
        (".", "image"),
        ("..", "image"),
        ("...", "image"),
        ("   ", "image"),
        ("/", "image"),
        ("../..", "image"),
        ("a/b", "a_b"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\evil.dll", "C__evil.dll"),
        ("photo.jpg.", "photo.jpg"),
        ("photo.jpg  ", "photo.jpg"),
        ("line\nbreak.png", "line_break.png"),
    ],
)
def test_known_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_long_name_keeps_its_suffix() -> None:
    safe = safe_name("写" * 200 + ".jpeg")
    assert safe.endswith("写.jpeg")
    assert 190 < len(safe.encode()) <= 255


# --- a file


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_only_when_it_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "image.png"
    output = Output(target, replace=False)
    output.file.write(b"content")
    assert not target.exists()
    output.keep()
    assert target.read_bytes() == b"content"
    assert left_in(tmp_path) == {"image.png"}


def test_what_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    output = Output(tmp_path / "image.png", replace=False)
    output.file.write(b"content")
    output.discard()
    assert left_in(tmp_path) == set()


def test_an_existing_file_is_refused_at_once_and_stays_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "image.png"
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match="it was not touched") as raised:
        Output(target, replace=False)
    assert "--force" in (raised.value.advice or "")
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == {"image.png"}


def test_a_file_that_came_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "image.png"
    output = Output(target, replace=False)
    output.file.write(b"new")
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match="it was not touched"):
        output.keep()
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == {"image.png"}


def test_with_force_the_old_file_is_there_until_the_new_one_is_proven(tmp_path: Path) -> None:
    target = tmp_path / "image.png"
    target.write_bytes(b"old")
    output = Output(target, replace=True)
    output.file.write(b"new")
    assert target.read_bytes() == b"old"
    output.keep()
    assert target.read_bytes() == b"new"
    assert left_in(tmp_path) == {"image.png"}


def test_with_force_too_a_discarded_file_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "image.png"
    target.write_bytes(b"old")
    output = Output(target, replace=True)
    output.file.write(b"new")
    output.discard()
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == {"image.png"}


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_is_never_replaced(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        Output(tmp_path / "folder", replace=replace)
    assert left_in(tmp_path) == {"folder"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="missing"):
        Output(tmp_path / "missing" / "image.png", replace=False)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TesseraError, match="file"):
        Output(tmp_path / "file" / "image.png", replace=False)


@pytest.mark.parametrize("name", ["写" * 84 + ".p", "x" * 251 + ".png"], ids=["写", "x"])
def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path, name: str) -> None:
    output = Output(tmp_path / name, replace=False)
    output.file.write(b"content")
    output.keep()
    assert left_in(tmp_path) == {name}


def test_a_name_longer_than_any_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TesseraError):
        Output(tmp_path / ("x" * 300), replace=False).keep()
    assert left_in(tmp_path) == set()


def test_when_the_name_cannot_be_given_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(tmp_path / "image.png", replace=True)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("consumer.output.rename_over", refuse)
    with pytest.raises(TesseraError, match="No space left on device"):
        output.keep()
    assert left_in(tmp_path) == set()


def test_when_the_disk_refuses_the_content_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(tmp_path / "image.png", replace=False)
    monkeypatch.setattr("consumer.output.sync_files", lambda _: [OSError(5, "Input/output error")])
    with pytest.raises(TesseraError, match="Input/output error"):
        output.keep()
    assert left_in(tmp_path) == set()


# --- stdout


def test_stdout_gets_nothing_before_the_image_is_proven(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output = ThroughOutput()
    output.file.write(b"content\r\n\0")
    output.file.flush()
    assert capsysbinary.readouterr().out == b""
    output.keep()
    assert capsysbinary.readouterr().out == b"content\r\n\0"


def test_stdout_gets_nothing_of_what_is_discarded(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output = ThroughOutput()
    output.file.write(b"content")
    output.discard()
    assert capsysbinary.readouterr().out == b""
    assert output.file.closed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file that is not shown in its folder")
def test_what_goes_to_stdout_lies_in_no_folder_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    output = ThroughOutput()
    assert left_in(tmp_path) == set()
    output.discard()


# --- where images go


def destination(output: Optional[str], *, several: bool = False, force: bool = False) -> Destination:
    return Destination(output, several=several, force=force)


def mapping(content: bytes, name: str) -> Mapping:
    return msgspec.structs.replace(encode(content).trusted().mapping, name=name)


def path_of(output: Union[Output, ThroughOutput]) -> Path:
    """Where an output would go, which is then discarded."""
    output.discard()
    assert output.target is not None
    return output.target


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_output_an_image_gets_its_own_name_in_the_current_folder(folder: Path) -> None:
    assert path_of(destination(None).open(mapping(b"a", "写真.png"))) == Path("写真.png")
    assert path_of(destination(None).open(mapping(b"a", "../../etc/passwd"))) == Path(".._.._etc_passwd")


def test_an_output_that_is_or_looks_like_a_folder_takes_the_image_by_its_own_name(folder: Path) -> None:
    (folder / "there").mkdir()
    assert path_of(destination("there").open(mapping(b"a", "a.png"))) == Path("there/a.png")
    assert path_of(destination("new/").open(mapping(b"a", "a.png"))) == Path("new/a.png")


def test_any_other_output_is_the_file(folder: Path) -> None:
    assert path_of(destination("b.png").open(mapping(b"a", "a.png"))) == Path("b.png")


def test_an_output_that_exists_is_refused_before_anything_is_fetched(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"old")
    with pytest.raises(UsageError, match="it was not touched"):
        destination("b.png")
    assert path_of(destination("b.png", force=True).open(mapping(b"a", "a.png"))) == Path("b.png")


def test_several_images_go_to_a_folder_and_never_to_stdout_or_a_file(folder: Path) -> None:
    (folder / "file").write_bytes(b"")
    assert path_of(destination("new", several=True).open(mapping(b"a", "a.png"))) == Path("new/a.png")
    for output in ("-", "file"):
        with pytest.raises(UsageError):
            destination(output, several=True)


def test_an_output_longer_than_any_name_is_no_internal_fault(folder: Path) -> None:
    with pytest.raises(TesseraError):
        output = destination("x" * 300).open(mapping(b"a", "a.png"))
        assert isinstance(output, Output)
        output.keep()
    assert left_in(folder) == set()


def test_two_images_of_one_name_get_names_that_differ(folder: Path) -> None:
    where = destination("out", several=True)
    first, second = mapping(b"first", "a.png"), mapping(b"second", "a.png")
    assert path_of(where.open(first)) == Path("out/a.png")
    assert path_of(where.open(second)) == Path(f"out/a-{second.image_sha256.hex()[:8]}.png")
    assert path_of(where.open(first)) == Path("out/a.png")


def test_an_image_that_is_decoded_meanwhile_is_saved_whole(tmp_path: Path) -> None:
    """Both read the one file that there is."""
    content = os.urandom(3 << 20)
    held = HeldOutput(1 << 23)
    held.file.write(content)
    held.keep()
    decoded: list[object] = []
    decoding = threading.Thread(target=lambda: decoded.append(held.content()))

    class Reading:
        """A file between whose pieces somebody else would read, if they could."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def read(self, *count: int) -> Any:
            piece = self._file.read(*count)
            if count and not decoding.ident:
                decoding.start()
                decoding.join(0.2)
            return piece

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    reading: Any = Reading(held.file)
    held.file = reading
    held.save(tmp_path / "saved")
    decoding.join()
    assert (tmp_path / "saved").read_bytes() == content
    assert decoded == [content]


# --- targets that are no files

LINKS = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links of POSIX")


@LINKS
@pytest.mark.parametrize("force", [False, True])
def test_what_takes_bytes_and_keeps_no_file_is_written_through(folder: Path, force: bool) -> None:
    os.mkfifo("pipe")
    Path("link").symlink_to(os.devnull)
    for target in ("pipe", os.devnull, "link"):
        output = destination(target, force=force).open(mapping(b"a", "a.png"))
        assert isinstance(output, ThroughOutput)
        output.discard()
    assert left_in(folder) == {"pipe", "link"}


@LINKS
@pytest.mark.parametrize("force", [False, True])
def test_a_socket_is_refused_and_not_touched(folder: Path, force: bool) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(UsageError, match="is a socket; it was not touched"):
            destination("socket", force=force)
    assert left_in(folder) == {"socket"}


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_is_refused_and_not_touched(folder: Path, force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sda").write_bytes(b"partitions")
    for module in ("consumer.output", "common.files"):
        monkeypatch.setattr(f"{module}.type_at", lambda _: stat.S_IFBLK)
    with pytest.raises(UsageError, match="is a disk; it was not touched"):
        destination("sda", force=force)
    assert (folder / "sda").read_bytes() == b"partitions"


@LINKS
def test_a_link_is_replaced_as_the_file_that_it_is_and_only_with_force(folder: Path) -> None:
    Path("file").write_bytes(b"precious")
    for leads in ("file", "nowhere"):
        Path("link").unlink(missing_ok=True)
        Path("link").symlink_to(leads)
        with pytest.raises(UsageError, match="it was not touched"):
            destination("link")
        output = destination("link", force=True).open(mapping(b"a", "a.png"))
        output.file.write(b"new")
        output.keep()
        assert (Path("link").read_bytes(), Path("file").read_bytes()) == (b"new", b"precious")
        assert not Path("link").is_symlink()


@LINKS
@pytest.mark.parametrize("force", [False, True])
def test_what_lies_in_a_folder_is_never_written_through(folder: Path, force: bool) -> None:
    """A name that a mapping brings along was chosen elsewhere: it is not to reach a device."""
    os.mkfifo("a.png")
    with pytest.raises(UsageError, match="is a pipe; it was not touched"):
        destination(".", force=force).open(mapping(b"a", "a.png"))
    assert left_in(folder) == {"a.png"}


@LINKS
def test_a_pipe_that_nobody_reads_is_an_error_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")
    monkeypatch.setattr("consumer.output._READER_TIMEOUT", 0.0)
    output = destination("pipe").open(mapping(b"a", "a.png"))
    with pytest.raises(NoRoomError, match="cannot write pipe"):
        output.keep()


@pytest.mark.parametrize("name", ["CON", "nul", "COM1", "lpt9.txt", "aux.png"])
def test_windows_names_of_devices_are_no_files(name: str) -> None:
    assert is_device_name(name, windows=True)
    assert not is_device_name(name, windows=False)
    assert not is_device_name(f"_{name}", windows=True)


@pytest.mark.parametrize(("name", "through"), [("NUL", True), ("nul", True), ("CON", False), ("COM1", False)])
def test_on_windows_nul_is_written_through_and_other_devices_are_refused(
    name: str, through: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("consumer.output", "common.files"):
        monkeypatch.setattr(f"{module}.is_device_name", lambda name: is_device_name(name, windows=True))
    if through:
        assert isinstance(open_named(Path(name), replace=True), ThroughOutput)
    else:
        with pytest.raises(UsageError, match="is the name of a device"):
            open_named(Path(name), replace=True)
    assert left_in(folder) == set()


# --- what cannot be written


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(28, NoRoomError, 8), (30, NoRoomError, 8), (13, NoRoomError, 8), (5, NoRoomError, 8), (36, UsageError, 2)],
)
def test_what_the_system_refuses_names_the_place_and_has_one_code(
    number: int, error: type[TesseraError], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(error, match=os.strerror(number)) as raised:
        Output(tmp_path / "image.png", replace=False)
    assert raised.value.exit_code == code
    assert str(tmp_path) in str(raised.value)


def test_without_any_temporary_folder_that_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.setattr("tempfile.TemporaryFile", none)
    with pytest.raises(NoRoomError, match="cannot write to a temporary folder"):
        ThroughOutput()


@contextlib.contextmanager
def writing_elsewhere(target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is restoring to a path."""
    command = [sys.executable, "-c", HOLD, os.fspath(target)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        yield process


def test_what_a_killed_restore_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    with writing_elsewhere(tmp_path / "killed.png") as killed:
        killed.kill()
    with writing_elsewhere(tmp_path / "picture.png") as living:
        for name in (".notes.part", "x.0123456789ab.part", ".a.0123456789AB.part"):  # not a restore's
            (tmp_path / name).touch()
        (tmp_path / ".folder.0123456789ab.part").mkdir()
        before = {path.name for path in tmp_path.iterdir()}
        assert Destination(os.fspath(tmp_path), several=True, force=False).removed == 1
        left = {path.name for path in tmp_path.iterdir()}
        assert {name.split(".")[1] for name in before - left} == {"killed"}
        living.communicate()
        assert living.returncode == 0
    assert (tmp_path / "picture.png").exists()
    assert remove_unfinished(tmp_path) == 0


def test_a_restore_to_one_path_removes_what_was_left_of_that_path_only(tmp_path: Path) -> None:
    for name in ("one", "one.png"):
        with writing_elsewhere(tmp_path / name) as killed:
            killed.kill()
    assert Destination(os.fspath(tmp_path / "one"), several=False, force=False).removed == 1
    assert [path.name[:9] for path in tmp_path.iterdir()] == [".one.png."]


@pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be removed there")
def test_a_file_that_is_removed_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another restore that tidies up in that moment."""
    lock = files._lock

    def tidy_before(file: IO[bytes], wait: bool) -> None:
        monkeypatch.setattr(files, "_lock", lock)
        assert remove_unfinished(tmp_path) == 1
        lock(file, wait)

    monkeypatch.setattr(files, "_lock", tidy_before)
    output = Output(tmp_path / "picture.png", replace=False)
    output.file.write(b"whole")
    output.keep()
    assert (tmp_path / "picture.png").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_in_which_a_killed_restore_tried_names_is_removed(tmp_path: Path) -> None:
    killed = tmp_path / ".tessera-0123456789ab"
    killed.mkdir()
    (killed / "held").touch()
    with TargetFolder(tmp_path) as living:
        assert not killed.exists()
        with TargetFolder(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
        assert living.takes("été".encode())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [[], ["é.probe"]], ids=["before it was held", "in being removed"])
def test_a_folder_for_names_that_nobody_holds_any_more_is_removed(tmp_path: Path, left: list[str]) -> None:
    killed = tmp_path / ".tessera-0123456789ab"
    killed.mkdir()
    for name in left:
        (killed / name).touch()
    with TargetFolder(tmp_path):
        assert not killed.exists()


def test_a_folder_for_names_that_is_removed_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another restore that tidies up in that moment."""
    new_trial = target_folder._new_trial

    def tidied_after(folder: Path) -> Path:
        monkeypatch.setattr(target_folder, "_new_trial", new_trial)
        trial = new_trial(folder)
        target_folder._remove_trials(folder)
        assert not trial.exists()
        return trial

    monkeypatch.setattr(target_folder, "_new_trial", tidied_after)
    with TargetFolder(tmp_path) as living:
        assert living.takes("été".encode())
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_removed_in_between_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "o"
    monkeypatch.setattr(target_folder, "_remove_trials", lambda folder: folder.rmdir())
    with pytest.raises(NoRoomError, match="cannot write"):
        TargetFolder(folder)


def test_a_folder_that_takes_nothing_more_is_told_of_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = destination("out", several=True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("common.files.open", refuse, raising=False)
    told: list[str] = []
    monkeypatch.setattr("consumer.command.warn", told.append)
    report = _Printer(where, as_json=False)
    for name in ("a.png", "b.png", "c.png"):
        with pytest.raises(NoRoomError) as raised:
            where.open(mapping(name.encode(), name))
        report(NotRestored("", raised.value))
    assert report.conclude(restored=True) == 8
    assert [line for line in told if "Read-only" in line] == ["consumer: cannot write out: Read-only file system"]
    assert told[-1] == "consumer: so 3 images were not restored"


@LINKS
@pytest.mark.parametrize("encoding", ["iso8859-1", "euc_jp", "ascii"])
@pytest.mark.parametrize("name", ["写真.png", "été 😀.png", "plain.png"])
def test_a_name_that_the_file_system_cannot_have_gets_its_bytes_in_utf_8(
    name: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsencode", lambda text: text.encode(encoding, "surrogateescape"))
    monkeypatch.setattr("os.fsdecode", lambda content: content.decode(encoding, "surrogateescape"))
    try:
        expected = name.encode(encoding)
    except UnicodeEncodeError:
        expected = name.encode()
    assert os.fsencode(name_here(name)) == expected


# --- many


class Waiting:
    """A restorer whose second image is not there before the first was told of."""

    def __init__(self, told: asyncio.Event, emit: Callable[[object], None]) -> None:
        self._told = told
        self.emit = emit

    def mapping_of_small(self, _encodings: object) -> None:
        """None is for a batch."""

    async def restore(self, _encodings: object, sha256: str, _open_output: object) -> Restored:
        if sha256 == "second":
            await asyncio.wait_for(self._told.wait(), 10)
        return Restored(sha256, sha256, 0, Path(sha256), 0.0)


@pytest.mark.parametrize("as_json", [False, True])
def test_each_image_is_told_of_and_flushed_as_soon_as_it_is_done(
    as_json: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(out)))
    where = destination("out", several=True)
    report = _Printer(where, as_json=as_json)

    async def restore() -> None:
        told = asyncio.Event()

        def emit(event: object) -> None:
            report(event)
            assert b"first" in out.getvalue()
            told.set()

        restorer: Any = Waiting(told, emit)
        await restore_all(restorer, {"second": [], "first": []}, where.open)

    asyncio.run(restore())
    assert out.getvalue().count(b"\n") == 2
