"""Which files there are to store: each of them once, in order, and whatever cannot be stored says so."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from common.errors import NotFoundError, UnstorableError, UsageError
from producer.events import LeftOut
from producer.sources import Choice, FolderFound, Found, LinkFound, Source, find_all, find_sources, read_paths


def make(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(path.encode())


def shown(*arguments: str) -> list[str]:
    return [source.shown.replace(os.sep, "/") for source in find_sources(arguments, "stdin")]


def one(argument: str) -> Source:
    (source,) = find_sources([argument], "stdin")
    return source


def test_a_file_is_shown_as_it_was_given_and_named_after_its_last_part(here: Path) -> None:
    make("album/été 写真.png")
    assert one("album/été 写真.png") == Source(
        Path("album/été 写真.png"),
        "album/été 写真.png",
        "été 写真.png",
        len("album/été 写真.png".encode()),
        is_kept=True,
    )
    absolute = os.fspath(here / "album" / "été 写真.png")
    assert one(absolute).shown == absolute


def test_files_come_in_the_order_of_the_arguments(here: Path) -> None:
    make("b", "a", "c")
    assert shown("b", "c", "a") == ["b", "c", "a"]


def test_a_folder_gives_its_files_and_those_of_its_folders_sorted(here: Path) -> None:
    make("album/z.png", "album/a.png", "album/.hidden", "album/sub/deep/x.png", "album/sub/b.png", "beside.png")
    assert shown("album") == [
        "album/.hidden",
        "album/a.png",
        "album/z.png",
        "album/sub/b.png",
        "album/sub/deep/x.png",
    ]


def test_an_empty_folder_that_was_named_is_nothing_that_can_be_stored(here: Path) -> None:
    """As a mount point without its mount."""
    (here / "empty").mkdir()
    fault = one("empty").fault
    assert isinstance(fault, UnstorableError)
    assert (str(fault), fault.advice) == ("empty: an empty folder", "is what belongs there mounted?")


def test_an_empty_folder_in_a_folder_is_said(here: Path) -> None:
    make("album/a.png")
    (here / "album" / "nas").mkdir()
    found = {source.name: source.left_out for source in find_sources(["album"], "stdin")}
    assert found == {"a.png": None, "nas": LeftOut.EMPTY_FOLDER}


@contextlib.contextmanager
def deep(folder: str, name: str, depth: int) -> Iterator[None]:
    """Folders in folders, `bottom.png` in the last; taken away step by step, as nothing else can where it is deep."""
    here = os.getcwd()
    os.chdir(folder)
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    Path("bottom.png").write_bytes(b"bottom")
    try:
        os.chdir(here)
        yield
    finally:
        os.chdir(folder)
        for _ in range(depth):
            os.chdir(name)
        os.unlink("bottom.png")
        for _ in range(depth):
            os.chdir("..")
            os.rmdir(name)
        os.chdir(here)


def test_a_folder_deeper_than_the_stack_gives_all_its_files(here: Path) -> None:
    make("top/good.png")
    with deep("top", "d", 1200):
        found = list(find_sources(["top"], "stdin"))
    assert [(source.name, source.fault) for source in found] == [("good.png", None), ("bottom.png", None)]


@pytest.mark.skipif(sys.platform != "linux", reason="how long a path may be differs")
def test_a_folder_with_too_long_a_path_is_named_and_its_neighbours_are_found(here: Path) -> None:
    make("top/good.png", "top/z/also.png")
    with deep("top", "d" * 200, 25):
        found = list(find_sources(["top"], "stdin"))
    assert [source.name for source in found if source.fault is None] == ["good.png", "also.png"]
    (fault,) = [source.fault for source in found if source.fault is not None]
    assert "File name too long" in str(fault)


@pytest.mark.parametrize("arguments", [["album"], None])
def test_images_by_their_ending_and_what_lies_beside_one_are_kept(here: Path, arguments: Optional[list[str]]) -> None:
    kept = {"IMG_1.HEIC", "IMG_1.MOV", "IMG_1.AAE", "IMG_1.xmp", "new.CR3", "new.CR3.xmp"}
    kept |= {"P.JPG.json", "P.JPG", "P.JPG.supplemental-metada.json"}
    other = {"video.mov", "IMG_2.xmp", "notes.json", "P.json", "notes.txt.xmp", "readme", ".jpg"}
    make(*(f"album/{name}" for name in kept | other))
    named = arguments or sorted(f"album/{name}" for name in kept | other)
    assert {source.name for source in find_sources(named, "stdin") if source.is_kept} == kept


def test_what_lies_beside_an_image_in_another_folder_is_not_kept(here: Path) -> None:
    make("album/IMG_1.JPG", "edits/IMG_1.xmp")
    assert [source.is_kept for source in find_sources(["album", "edits"], "stdin")] == [True, False]


def test_a_dash_is_stdin_with_the_name_that_it_was_given() -> None:
    assert list(find_sources(["-"], "scan.png")) == [Source(None, "-", "scan.png")]


@pytest.mark.parametrize("argument", ["missing.png", "file/beneath.png", "line\nbreak", ""])
def test_a_file_that_is_not_there_is_named(here: Path, argument: str) -> None:
    make("file")
    source = one(argument)
    assert isinstance(source.fault, NotFoundError)
    assert argument in str(source.fault)


@pytest.mark.parametrize("argument", ["x" * 5000, "nul\0byte"])
def test_a_name_that_no_file_can_have_is_named_too(here: Path, argument: str) -> None:
    fault = one(argument).fault
    assert isinstance(fault, NotFoundError)
    assert argument in str(fault)


def test_what_is_missing_does_not_cost_the_others(here: Path) -> None:
    make("a", "b")
    assert [source.fault is None for source in find_sources(["a", "missing", "b"], "stdin")] == [True, False, True]


def make_irregular(folder: Path) -> dict[str, LeftOut]:
    """A pipe, a socket and a link to a device in a folder."""
    folder.mkdir()
    os.mkfifo(folder / "pipe")  # type: ignore[attr-defined,unused-ignore]  # not on Windows
    with socket.socket(socket.AF_UNIX) as listener:  # type: ignore[attr-defined,unused-ignore]  # as above
        listener.bind("album/socket")  # a path that is not too long for one
    (folder / "device").symlink_to("/dev/null")
    return {"pipe": LeftOut.PIPE, "socket": LeftOut.SOCKET, "device": LeftOut.DEVICE}


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no such files")
def test_what_is_no_regular_file_in_a_folder_is_left_out_and_never_waited_for(here: Path) -> None:
    expected = make_irregular(here / "album")
    found = list(find_sources(["album"], "stdin"))
    assert {source.name: source.left_out for source in found} == expected
    assert all(source.fault is None for source in found)


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no such files")
def test_what_is_no_regular_file_but_was_named_is_an_error_of_its_own(here: Path) -> None:
    for name, kind in make_irregular(here / "album").items():
        fault = one(f"album/{name}").fault
        assert isinstance(fault, UnstorableError)
        assert str(fault) == f"album/{name}: a {kind.value}, no file"


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_a_link_to_itself_is_named_and_its_neighbours_are_found(here: Path) -> None:
    make("album/a.png")
    (here / "album" / "loop").symlink_to("loop")
    found = {source.name: source.fault for source in find_sources(["album"], "stdin")}
    assert found["a.png"] is None
    assert isinstance(found["loop"], NotFoundError)


def test_a_folder_whose_listing_breaks_off_gives_what_it_had_and_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("album/a.png", "album/b.png", "album/sub/c.png")
    scandir: Any = os.scandir

    class Failing:
        def __init__(self, path: str) -> None:
            self._entries = list(scandir(path))

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self) -> Any:
            yield from self._entries
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", lambda path: Failing(path) if path == "album" else scandir(path))
    found = list(find_sources(["album"], "stdin"))
    assert {source.name for source in found if source.fault is None} == {"a.png", "b.png", "c.png"}
    assert [str(source.fault) for source in found if source.fault] == ["album: cannot be read: Input/output error"]


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_links_to_files_are_followed_and_links_to_folders_are_not(here: Path) -> None:
    make("album/a.png", "elsewhere/b.png")
    (here / "album" / "link.png").symlink_to(here / "elsewhere" / "b.png")
    (here / "album" / "circle").symlink_to(here / "album", target_is_directory=True)
    (here / "album" / "dangling.png").symlink_to(here / "nowhere")
    found = {source.name: source for source in find_sources(["album"], "stdin")}
    assert {name for name, source in found.items() if source.outcome is None} == {"a.png", "link.png"}
    assert found["circle"].left_out is LeftOut.LINK_TO_FOLDER
    assert isinstance(found["dangling.png"].fault, NotFoundError)


# --- where links are followed


def album_of_links(here: Path) -> None:
    make("album/a.png", "elsewhere/sub/b.png")
    (here / "album" / "file").symlink_to(here / "elsewhere" / "sub" / "b.png")
    (here / "album" / "folder").symlink_to(here / "elsewhere", target_is_directory=True)
    (here / "album" / "nowhere").symlink_to("missing")
    (here / "album" / "itself").symlink_to("itself")
    (here / "elsewhere" / "sub" / "back").symlink_to(here / "album", target_is_directory=True)


def names_found(found: Iterator[Found]) -> list[str]:
    """Paths below `album`; folders with a slash, links with what they lead to."""
    names, folders = [], {0: ""}
    for each in found:
        if isinstance(each, FolderFound):
            folders[each.number] = f"{folders[each.parent]}{os.fsdecode(each.entry.name)}/"
            names.append(folders[each.number])
        elif isinstance(each, LinkFound):
            names.append(f"{folders[each.folder]}{os.fsdecode(each.entry.name)} ->")
        elif isinstance(each, Source) and each.outcome is None:
            names.append(f"{folders[each.folder or 0]}{each.name}")
    return names


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_links_that_are_followed_are_recorded_as_what_they_lead_to(here: Path) -> None:
    album_of_links(here)
    found = list(find_all(["album"], "stdin", Choice(follow=True)))
    assert names_found(iter(found)) == [
        *("album/", "album/a.png", "album/file", "album/folder/", "album/itself ->", "album/nowhere ->"),
        *("album/folder/sub/", "album/folder/sub/b.png", "album/folder/sub/back ->"),
    ]
    left = {each.shown: each.left_out for each in found if isinstance(each, Source) and each.left_out is not None}
    assert left == {
        "album/folder/sub/back": LeftOut.LOOP,
        "album/itself": LeftOut.BROKEN_LINK,
        "album/nowhere": LeftOut.BROKEN_LINK,
    }
    modes = [oct(each.entry.mode) for each in found if isinstance(each, FolderFound)]
    assert modes == [oct(Path(path).stat().st_mode & 0o7777) for path in ("album", "elsewhere", "elsewhere/sub")]


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_links_are_followed_without_a_snapshot_too(here: Path) -> None:
    album_of_links(here)
    found = list(find_sources(["album"], "stdin", Choice(follow=True)))
    assert [each.shown for each in found if each.outcome is None] == [
        *("album/a.png", "album/file", "album/folder/sub/b.png"),
    ]
    assert left_out("album", Choice(follow=True)) == {"album/folder/sub/back": LeftOut.LOOP}
    assert {each.shown for each in found if each.fault is not None} == {"album/itself", "album/nowhere"}


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_a_link_to_the_folder_above_ends_where_the_named_one_comes_again(here: Path) -> None:
    make("top/album/a.png", "top/beside.png")
    (here / "top" / "album" / "up").symlink_to("..", target_is_directory=True)
    found = list(find_all(["top/album"], "stdin", Choice(follow=True)))
    assert names_found(iter(found)) == ["album/", "album/a.png", "album/up/", "album/up/album/", "album/up/beside.png"]
    left = [(each.shown, each.left_out) for each in found if isinstance(each, Source) and each.left_out is not None]
    assert left == [("top/album/up/album", LeftOut.LOOP)]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_walked(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("album/a.png", "album/locked/b.png", "album/open/c.png")
    scandir: Any = os.scandir

    def refusing(path: Any) -> Any:
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = list(find_sources(["album"], "stdin"))
    assert {source.name for source in found if source.fault is None} == {"a.png", "c.png"}
    (locked,) = [source for source in found if source.fault is not None]
    assert str(locked.fault) == f"{os.path.join('album', 'locked')}: cannot be read: Permission denied"


# --- paths from a list


def test_a_list_has_a_path_a_line_and_empty_lines_name_nothing(here: Path) -> None:
    (here / "list").write_bytes("album/été.png\n\n spaces \n-\nlast".encode())
    assert read_paths("list") == ["album/été.png", " spaces ", os.path.join(".", "-"), "last"]


def test_a_list_with_a_nul_in_it_is_separated_by_nuls(here: Path) -> None:
    (here / "list").write_bytes(b"line\nbreak.png\0plain.png\0")
    assert read_paths("list") == ["line\nbreak.png", "plain.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_names_files_whose_names_have_any_bytes(here: Path, end: bytes) -> None:
    names = [b"\xff\xfe.png", b"carriage\r", b"\xef\xbb\xbf"]
    (here / "list").write_bytes(b"".join(name + end for name in names))
    assert [os.fsencode(path) for path in read_paths("list")] == names


def test_a_list_comes_from_stdin_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.png\nb.png\n")))
    assert read_paths("-") == ["a.png", "b.png"]


def test_a_list_that_cannot_be_read_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="no such file: missing"):
        read_paths("missing")
    with pytest.raises(UsageError, match="cannot be read"):
        read_paths(os.fspath(here))
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        read_paths("-")


# --- what is left out of folders, though it could be stored


def left_out(folder: str, choice: Optional[Choice] = None) -> dict[str, LeftOut]:
    found = find_sources([folder], "stdin", choice or Choice())
    return {source.shown.replace(os.sep, "/"): source.left_out for source in found if source.left_out is not None}


def test_an_unfinished_file_of_a_restore_is_never_stored(here: Path) -> None:
    make("album/a.png", "album/.a.png.0123456789ab.part", "album/b.part")
    assert left_out("album") == {"album/.a.png.0123456789ab.part": LeftOut.UNFINISHED}
    assert shown("album") == ["album/.a.png.0123456789ab.part", "album/a.png", "album/b.part"]


def test_a_folder_in_which_a_restore_that_was_killed_tried_names_is_never_stored(here: Path) -> None:
    make("album/a.png", "album/.tessera-0123456789ab/held", "album/.tessera-of-mine/b.png")
    assert left_out("album") == {"album/.tessera-0123456789ab": LeftOut.UNFINISHED}
    found = find_all(["album"], "stdin")
    assert [each.entry.name for each in found if isinstance(each, FolderFound)] == [b"album", b".tessera-of-mine"]


def test_tesseras_own_home_and_the_stores_of_devices_are_skipped_with_a_word(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_HOME", os.fspath(here / "all" / "home"))
    make(
        "all/a.png", "all/home/vault/vault.key", "all/device/store.lock", "all/device/shares/x", "all/device/staging/y"
    )
    assert left_out("all") == {"all/device": LeftOut.OWN, "all/home": LeftOut.OWN}


def test_folders_that_are_marked_as_not_worth_keeping_are_skipped_with_a_word(here: Path) -> None:
    make("all/a.png", "all/quiet/.nobackup", "all/quiet/b.png", "all/cache/b.png", "all/no cache/CACHEDIR.TAG")
    (here / "all/cache/CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# a remark\n")
    assert left_out("all") == {"all/cache": LeftOut.CACHE, "all/quiet": LeftOut.NO_BACKUP}


@pytest.mark.skipif(sys.platform != "linux", reason="needs another file system at a known place")
def test_what_is_mounted_in_a_folder_is_skipped_only_where_that_is_asked_for() -> None:
    folder = Path("/dev")
    mounted = {
        os.fspath(each) for each in folder.iterdir() if each.is_dir() and each.lstat().st_dev != folder.stat().st_dev
    }
    if not mounted:
        pytest.skip("nothing is mounted there")
    skipped = {
        shown
        for shown, why in left_out("/dev", Choice(one_file_system=True)).items()
        if why is LeftOut.OTHER_FILE_SYSTEM
    }
    assert skipped == {each for each in mounted if not os.path.islink(each)}
    assert LeftOut.OTHER_FILE_SYSTEM not in left_out("/dev").values()
