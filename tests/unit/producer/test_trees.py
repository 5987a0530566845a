"""What a snapshot records: names by which its paths are told apart, and trees put together from below."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NotFoundError
from common.vault.snapshot import encode_snapshot
from producer.events import FailedImage, LeftOut, SkippedFile
from producer.recording import new_snapshot
from producer.run import Run
from producer.sources import FolderFound, FolderListed, LinkFound, Source, find_all, root_paths
from producer.trees import Trees

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths are written as on Linux")
parts = st.sampled_from(["a", "b", "photos"])
paths = st.lists(st.lists(parts, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names)), max_size=6)


@given(paths)
def test_no_two_paths_of_a_snapshot_have_one_name_or_lie_in_each_other(given_paths: list[str]) -> None:
    places = root_paths(given_paths)
    for path, names in places.items():
        assert tuple(path.split("/"))[-len(names) :] == names
        assert not any(other[: len(names)] == names for own, other in places.items() if own != path)


@given(paths)
def test_what_is_left_out_is_in_a_folder_that_was_given(given_paths: list[str]) -> None:
    places = root_paths(given_paths)
    for path in given_paths:
        assert path in places or any(path.startswith(f"{other}/") for other in places)


def test_a_path_has_its_last_name_and_more_of_it_only_where_another_ends_alike() -> None:
    assert root_paths(["/home/a/photos", "/home/b/photos", "/home/b/x.jpg"]) == {
        "/home/a/photos": ("a", "photos"),
        "/home/b/photos": ("b", "photos"),
        "/home/b/x.jpg": ("x.jpg",),
    }


def test_a_folder_is_found_before_what_is_in_it_and_listed_after(here: Path) -> None:
    (here / "in" / "sub" / "empty").mkdir(parents=True)
    (here / "in" / "a").write_bytes(b"a")
    (here / "in" / "sub" / "b").write_bytes(b"b")
    (here / "in" / "link").symlink_to("sub", target_is_directory=True)
    open_folders, seen = {0}, []
    for found in find_all(["in"], "stdin"):
        if isinstance(found, FolderFound):
            assert found.parent in open_folders
            open_folders.add(found.number)
            seen.append(os.fsdecode(found.entry.name) + "/")
        elif isinstance(found, FolderListed):
            open_folders.remove(found.number)
        elif isinstance(found, LinkFound):
            assert found.folder in open_folders
            seen.append(f"{os.fsdecode(found.entry.name)} -> {os.fsdecode(found.entry.target or b'')}")
        else:
            assert isinstance(found, Source)
            assert found.folder in open_folders
            seen.append(found.name)
    assert seen == ["in/", "a", "link -> sub", "sub/", "b", "empty/"]
    assert open_folders == set()


def test_a_path_that_was_given_twice_or_lies_in_another_is_found_once(here: Path) -> None:
    (here / "in" / "sub").mkdir(parents=True)
    (here / "in" / "sub" / "a").write_bytes(b"a")
    found = [each.shown for each in find_all(["in/sub/a", "in", "./in", "in/sub"], "stdin") if isinstance(each, Source)]
    assert found == [os.path.join("in", "sub", "a")]


def test_stdin_has_no_name_in_a_snapshot() -> None:
    (source, listed) = find_all(["-"], "scan.png")
    assert isinstance(source, Source)
    assert (source.name, source.folder, source.entry) == ("scan.png", None, None)
    assert listed == FolderListed(0)


def test_a_snapshot_of_more_paths_than_it_has_room_for_names_the_first() -> None:
    trees = Trees()
    trees.root = bytes(32)
    arguments = [f"{number:04}-{'x' * 300}" for number in range(10_000)]
    named = new_snapshot(arguments, "many", trees, 0, 2, 4).paths
    assert 1000 < len(named) < len(arguments)
    assert named == [os.fsencode(argument) for argument in arguments[: len(named)]]
    encode_snapshot(new_snapshot(arguments, "many", trees, 0, 2, 4))


def test_an_argument_that_another_one_has_in_it_counts_as_stored_with_it(here: Path) -> None:
    write = here / "in" / "sub" / "a"
    write.parent.mkdir(parents=True)
    write.write_bytes(b"a")
    arguments = ["in", "in/sub", "./in", "nothing"]
    run = Run(arguments, [], Trees())
    assert [failed.shown for failed in run.untouched()] == ["in", "./in", "nothing"]
    run.settle(Source(write, "in/sub/a", "a", 1), SkippedFile("in/sub/a", LeftOut.NO_IMAGE))
    assert [failed.shown for failed in run.untouched()] == ["in", "./in", "nothing"]
    run.settle(Source(write, "in/sub/a", "a", 1), FailedImage("in/sub/a", NotFoundError("gone")))
    assert [failed.shown for failed in run.untouched()] == ["nothing"]
