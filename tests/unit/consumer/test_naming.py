"""The plan of names: real names where the target takes them, and never two entries on one path."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.naming import Path, Target, plan_names
from tests.support.generated_trees import names

COMPOSED, DECOMPOSED = "é.jpg".encode(), "e\N{COMBINING ACUTE ACCENT}.jpg".encode()


class Linux:
    def takes(self, name: bytes) -> bool:
        return len(name) <= 255

    def folded(self, name: bytes) -> bytes:
        return name


class Exfat(Linux):
    """Folds case, and takes no name that Windows would not."""

    def takes(self, name: bytes) -> bool:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return False
        return not set(text) & {*'<>:"|?*\\', *map(chr, range(32))} and text[-1] not in ". "

    def folded(self, name: bytes) -> bytes:
        return os.fsencode(unicodedata.normalize("NFC", os.fsdecode(name)).casefold())


paths = st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=12)


def paths_of(entries: Iterable[Path], target: Target) -> dict[Path, Path]:
    """Entry's path → the names under which it is restored."""
    entries = list(entries)
    plan = plan_names(entries, target)
    return {path: plan.names(path) for path in entries}


def whole(chosen: list[Path]) -> list[Path]:
    """The paths and the folders that they are in, each once, folders first."""
    return sorted({path[:depth] for path in chosen for depth in range(1, len(path) + 1)})


@given(paths)
def test_every_name_stays_where_the_target_takes_all(chosen: list[Path]) -> None:
    entries = whole(chosen)
    assert paths_of(entries, Linux()) == {path: path for path in entries}
    assert plan_names(entries, Linux()).mended == {}


@given(paths)
def test_no_two_entries_get_one_path_and_each_mended_name_is_said(chosen: list[Path]) -> None:
    entries, target = whole(chosen), Exfat()
    restored = paths_of(entries, target)
    assert len({tuple(map(target.folded, path)) for path in restored.values()}) == len(entries)
    assert all(target.takes(name) for path in restored.values() for name in path)
    own = {path: names[-1] for path, names in restored.items() if names[-1] != path[-1]}
    assert plan_names(entries, target).mended == own


@given(paths, st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_what_is_in_a_folder(chosen: list[Path], random: object) -> None:
    entries = whole(chosen)
    again = sorted(reversed(entries), key=len)
    assert paths_of(entries, Exfat()) == paths_of(again, Exfat())


@given(paths)
def test_what_is_in_a_folder_follows_its_name(chosen: list[Path]) -> None:
    restored = paths_of(whole(chosen), Exfat())
    for path, names_ in restored.items():
        assert names_[:-1] == restored.get(path[:-1], ())


def test_a_name_is_mended_alike_in_every_run_whatever_lies_beside_it() -> None:
    alone = paths_of([(b"what?.jpg",)], Exfat())
    beside = paths_of([(b"a.jpg",), (b"what?.jpg",)], Exfat())
    assert alone[b"what?.jpg",] == beside[b"what?.jpg",] == (b"what_-5987188f.jpg",)


def test_a_file_that_is_really_called_as_another_would_be_mended_keeps_its_name() -> None:
    restored = paths_of([(b"what?.jpg",), (b"what_-5987188f.jpg",)], Exfat())
    assert restored[b"what_-5987188f.jpg",] == (b"what_-5987188f.jpg",)
    assert restored[b"what?.jpg",] == (b"what_-5987188fa.jpg",)


@pytest.mark.parametrize(("one", "other"), [(b"IMG_7.JPG", b"img_7.jpg"), (COMPOSED, DECOMPOSED)])
def test_of_two_names_that_are_one_there_the_first_by_its_bytes_keeps_its_own(one: bytes, other: bytes) -> None:
    first, second = sorted([one, other])
    plan = plan_names([(second,), (first,)], Exfat())
    assert plan.names((first,)) == (first,)
    assert list(plan.mended) == [(second,)]


def test_two_folders_that_are_one_there_are_not_mixed() -> None:
    restored = paths_of([(b"A",), (b"A", b"x"), (b"a",), (b"a", b"x")], Exfat())
    assert restored[b"A", b"x"] == (b"A", b"x")
    assert restored[b"a", b"x"][0] not in (b"A", b"a")
