"""What a snapshot records: names by which its paths are told apart, and trees put together from below."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NotFoundError
from common.vault.mapping import TREE
from common.vault.snapshot import encode_snapshot
from common.vault.tree import Entry, EntryType, decode_tree
from producer.events import FailedImage, LeftOut, SkippedFile, StoredImage
from producer.recording import new_snapshot
from producer.run import Run
from producer.sources import ROOT, FolderFound, FolderListed, LinkFound, Source, find_all, root_paths
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


# --- trees, and what comes of them


def entry(name: str, kind: EntryType) -> Entry:
    return Entry(name.encode(), kind, 0o755, 0, 0)


def folder(number: int, parent: int) -> FolderFound:
    return FolderFound(number, parent, entry(f"folder-{number}", EntryType.FOLDER), f"folder-{number}")


def file(number: int, parent: int) -> Source:
    name = f"file-{number}"
    return Source(Path(name), name, name, 1, folder=parent, entry=entry(name, EntryType.FILE))


def stored(source: Source) -> StoredImage:
    sha256 = hashlib.sha256(source.content or source.name.encode()).digest()
    return StoredImage(sha256, source.shown, source.size or 0, 2, 4, ["a"] * 4, False, 0.0, None)


def failed(source: Source) -> FailedImage:
    return FailedImage(source.shown, NotFoundError("gone"))


def waiting(trees: Trees) -> list[Source]:
    return list(iter(trees.next, None))


def one_in_another(trees: Trees, depth: int) -> Source:
    """Have the root found with so many folders in each other, and a file in the last; that file."""
    for number in range(depth):
        trees.take(folder(number + 1, number))
    last = file(0, depth)
    trees.expect(last)
    for number in reversed(range(depth + 1)):
        trees.take(FolderListed(number))
    return last


def test_a_tree_and_those_above_it_are_there_to_be_stored_together() -> None:
    trees = Trees()
    last = one_in_another(trees, 2000)  # deeper than the stack
    assert waiting(trees) == []
    trees.settle(last, stored(last))
    found = waiting(trees)
    assert [tree.folder for tree in found] == list(reversed(range(2001)))
    for tree in reversed(found):  # the root's may be stored first
        assert trees.settle(tree, stored(tree))
    assert (trees.root, trees.folders, trees.failed) == (stored(found[-1]).sha256, 2000, 0)


def test_those_above_a_tree_that_fails_are_made_anew_once_they_are_settled() -> None:
    trees = Trees()
    beside = file(1, 1)
    trees.take(folder(1, ROOT))
    trees.take(folder(2, 1))
    for each in (beside, last := file(2, 2)):
        trees.expect(each)
    for number in (2, 1, ROOT):
        trees.take(FolderListed(number))
    for each in (beside, last):
        trees.settle(each, stored(each))
    below, above, root = waiting(trees)
    assert trees.settle(above, stored(above))
    assert trees.settle(below, failed(below))
    (again,) = waiting(trees)
    assert [each.name for each in decode_tree(again.content or b"")] == [b"file-1"]
    assert trees.settle(again, stored(again))
    assert waiting(trees) == []  # the root's is under way still
    assert not trees.settle(root, failed(root)), "what came of a tree that does not hold is told"
    (root,) = waiting(trees)
    assert trees.settle(root, stored(root))
    assert (trees.root, trees.files, trees.folders, trees.failed) == (stored(root).sha256, 2, 1, 1)


@given(st.lists(st.integers(0, 8), max_size=8), st.lists(st.integers(0, 8), max_size=8), st.randoms(), st.floats(0, 1))
def test_whatever_fails_a_root_names_only_what_is_stored(
    parents: list[int], homes: list[int], drawn: random.Random, failing: float
) -> None:
    trees, there = Trees(), dict[bytes, Source]()
    numbers = [ROOT]
    for parent in parents:
        numbers.append(len(numbers))
        trees.take(folder(numbers[-1], numbers[parent % (len(numbers) - 1)]))
    under_way = [file(number, numbers[home % len(numbers)]) for number, home in enumerate(homes)]
    for each in under_way:
        trees.expect(each)
    for number in reversed(numbers):
        trees.take(FolderListed(number))
    while under_way := under_way + waiting(trees):
        each = under_way.pop(drawn.randrange(len(under_way)))
        if drawn.random() < failing:
            trees.settle(each, failed(each))
        else:
            there[stored(each).sha256] = each
            trees.settle(each, stored(each))
        assert max(Counter(each.folder for each in under_way if each.kind == TREE).values(), default=1) == 1
    found = [] if trees.root is None else list(named(trees.root, there))
    assert (len(found) == len(homes) + len(parents)) == (trees.failed == 0)


def named(tree: bytes, there: dict[bytes, Source]) -> Iterator[Entry]:
    """All that a tree and those below it name; KeyError where something is not `there`."""
    for each in decode_tree(there[tree].content or b""):
        yield each
        assert each.content in there
        if each.type is EntryType.FOLDER:
            yield from named(each.content, there)
