"""Which files there are to store: each of them once, in order, and whatever cannot be stored says so."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotFoundError, UsageError
from producer.sources import Source, find_sources


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        Path("album/été 写真.png"), "album/été 写真.png", "été 写真.png", len("album/été 写真.png".encode())
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


def test_an_empty_folder_gives_nothing(here: Path) -> None:
    (here / "empty").mkdir()
    assert shown("empty") == []


def test_a_dash_is_stdin_with_the_name_that_it_was_given() -> None:
    assert list(find_sources(["-"], "scan.png")) == [Source(None, "-", "scan.png")]


@pytest.mark.parametrize("argument", ["missing.png", "file/beneath.png", "line\nbreak"])
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_refused_and_never_waited_for(here: Path) -> None:
    (here / "album").mkdir()
    os.mkfifo(here / "album" / "pipe")  # type: ignore[attr-defined,unused-ignore]  # not on Windows
    (source,) = find_sources(["album"], "stdin")
    assert isinstance(source.fault, UsageError)
    assert "not a regular file" in str(source.fault)


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right of its own there")
def test_links_to_files_are_followed_and_links_to_folders_are_not(here: Path) -> None:
    make("album/a.png", "elsewhere/b.png")
    (here / "album" / "link.png").symlink_to(here / "elsewhere" / "b.png")
    (here / "album" / "circle").symlink_to(here / "album", target_is_directory=True)
    (here / "album" / "dangling.png").symlink_to(here / "nowhere")
    found = {source.name: source.fault is None for source in find_sources(["album"], "stdin")}
    assert found == {"a.png": True, "link.png": True, "dangling.png": False}


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
