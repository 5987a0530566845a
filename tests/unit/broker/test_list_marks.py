"""Marks of the list of members: a broker with an old copy of its list, or a copy of its folder, is found out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from broker.list_marks import ListMarks
from broker.members import MembersFile
from common.errors import RefusedError
from common.protocol.operations import Role

SECRET = b"s" * 32
NOW = 1_800_000_000


class Broker:
    """A broker's list, from one start to the next."""

    def __init__(self, folder: Path, run: int, secret: bytes = SECRET) -> None:
        self.file = MembersFile(folder)
        self.file.begin_run(bytes([run] * 8))
        self.marks = ListMarks(self.file, secret)

    def change(self, key: int) -> bytes:
        """Change the list; the mark from then on."""
        self.file.change(lambda members: members.invite(bytes([key] * 32), Role.WORKER, NOW))
        return self.marks.current()


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Path]:
    """A broker's folder, where one ran, and a copy of it."""
    Broker(tmp_path / "broker", 1).change(1)
    return tmp_path / "broker", Path(shutil.copytree(tmp_path / "broker", tmp_path / "copy"))


def test_every_change_and_start_gives_a_mark_of_its_own_and_former_ones_hold(tmp_path: Path) -> None:
    first = Broker(tmp_path, 1)
    marks = [first.marks.current(), first.change(1), first.change(2)]
    second = Broker(tmp_path, 2)
    marks += [second.marks.current(), second.change(3)]
    assert len(set(marks)) == len(marks)
    for mark in marks:
        second.marks.check(mark)
    second.file.change(lambda members: None)
    assert second.marks.current() == marks[-1], "nothing was changed"


def test_an_old_copy_refuses_at_the_first_later_mark_and_at_each_start_then(copied: tuple[Path, Path]) -> None:
    original, copy = copied
    later = Broker(original, 2).change(2)
    restored = Broker(copy, 3)
    with pytest.raises(RefusedError, match="newer list"):
        restored.marks.check(later)
    with pytest.raises(RefusedError, match="newer list"):
        Broker(copy, 4)


def test_of_a_copy_and_the_original_whichever_meets_the_others_mark_refuses(
    copied: tuple[Path, Path],
) -> None:
    original, copy = copied
    beside, first = Broker(copy, 3), Broker(original, 2)
    for own, other in ((beside, first), (first, beside)):
        with pytest.raises(RefusedError, match="newer list"):
            own.marks.check(other.marks.current())


def test_what_a_copy_was_given_before_it_was_copied_is_no_sign(copied: tuple[Path, Path]) -> None:
    original, copy = copied
    mark = ListMarks(MembersFile(original), SECRET).current()
    Broker(copy, 3).marks.check(mark)


@pytest.mark.parametrize("byte", range(32))
def test_nobody_without_the_key_makes_a_mark_that_counts(byte: int, copied: tuple[Path, Path]) -> None:
    original, copy = copied
    later = bytearray(Broker(original, 2).change(2))
    later[byte] ^= 1
    restored = Broker(copy, 3)
    restored.marks.check(bytes(later))
    restored.marks.check(Broker(original, 4, secret=b"o" * 32).marks.current())
    restored.marks.check(None)


def test_a_list_that_was_accepted_is_newer_than_all_that_anybody_was_told_of(copied: tuple[Path, Path]) -> None:
    original, copy = copied
    lost = Broker(original, 2)
    marks = [lost.change(2), lost.change(3), Broker(original, 4).change(5)]
    restored = Broker(copy, 3)
    with pytest.raises(RefusedError):
        restored.marks.check(marks[0])
    MembersFile(copy).accept()
    again = Broker(copy, 5)
    for mark in marks:
        again.marks.check(mark)
    with pytest.raises(RefusedError):
        Broker(original, 6).marks.check(again.marks.current())
