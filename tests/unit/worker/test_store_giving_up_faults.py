"""The store on a disk that fails while shares are deleted, taken back, given up, found bad, stored anew and recovered.

Whatever call fails, nothing that was acknowledged is lost, and what was deleted or given up and acknowledged does not
come back: after a restart on a healthy disk, and after a power cut, which may bring back every name that was removed in
a folder that was not fsynced since. And whatever fails, the store answers, and no fsync is tried again on a file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
from pathlib import Path
from typing import Callable, Optional

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.errors import NoRoomError
from common.protocol.messages import Answer, Code
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, sample, share_path
from worker.refusals import Refusal
from worker.store import ShareStore

pytestmark = pytest.mark.one_python

REFUSALS = {Code.NO_ROOM, Code.FAULT, Code.READ_ONLY, Code.NOT_OPEN, Code.CONFLICT, Code.DAMAGED, Code.NOT_FOUND}
SHARE = 1
Faults = Callable[[FaultyDisk], None]

DELETED, BACK, SURPLUS, BAD, BEGUN, BYSTANDER = (
    sample(f"a/{label}", segments=2) for label in ("deleted", "back", "surplus", "bad", "begun", "bystander")
)


class Life:
    """What happens in a store; every step is tried so often, and goes on whatever it is answered."""

    def __init__(self, folder: Path, tries: int) -> None:
        self.folder = folder
        self.disk = FaultyDisk()
        self.answers: list[Answer] = []
        self.acknowledged: set[str] = set()
        self._tries = tries
        self.store: Optional[ShareStore] = ShareStore(folder, disk=self.disk)
        for encoding in (DELETED, BACK, SURPLUS, BAD, BYSTANDER):
            encoding.put(self.store, SHARE)
        self.store.open(BEGUN.opening(SHARE), OWNER, 0.0)
        BEGUN.append(self.store, SHARE, 0)
        self._flip()

    def _flip(self) -> None:
        """Flip a bit on the disk, behind the store's back."""
        path = share_path(self.folder, BAD, SHARE)
        content = bytearray(path.read_bytes())
        content[content.index(BAD.blocks[1][SHARE])] ^= 1
        with open(path, "r+b") as file:
            file.write(content)

    def run(self) -> None:
        store = self.store
        assert store is not None
        self._attempt("delete", lambda: store.delete(DELETED.deletion(), OWNER))
        if self._attempt("hide", lambda: store.delete(BACK.deletion(), OWNER)):
            self._attempt("back", lambda: store.undelete(BACK.undeletion(), OWNER))
        self._attempt("discard", lambda: store.discard(SURPLUS.key(SHARE), OWNER))
        self._attempt("find", lambda: store.block(BAD.key(SHARE), OWNER, 1))
        self._attempt("mend", lambda: self._put_bad(store))
        self._restart()
        if self.store is not None:
            self._attempt("go on", self._go_on)
            self.store.close()

    def _put_bad(self, store: ShareStore) -> None:
        BAD.stage(store, SHARE)
        self._commit(store)

    def _commit(self, store: ShareStore) -> None:
        pending = store.prepare_commit(BAD.key(SHARE), OWNER, BAD.signed())
        answers = store.commit_round([pending] if pending is not None else [])
        for answer in answers:
            if not answer.granted:
                raise Refusal(answer.code, answer.text)

    def _restart(self) -> None:
        """The worker ends and is started anew on the same disk, as bad as it is."""
        assert self.store is not None
        self.store.close()
        self.disk.start_anew()
        try:
            self.store = ShareStore(self.folder, disk=self.disk)
        except NoRoomError:
            self.store = None

    def _go_on(self) -> None:
        store = self.store
        assert store is not None
        BEGUN.stage(store, SHARE)
        answer = BEGUN.commit(store, SHARE)
        if not answer.granted:
            raise Refusal(answer.code, answer.text)

    def _attempt(self, name: str, step: Callable[[], object]) -> bool:
        for _ in range(self._tries):
            try:
                step()
            except Refusal as refusal:
                self.answers.append(refusal.answer)
            else:
                self.acknowledged.add(name)
                return True
        return False


def check_life(folder: Path, faults: Faults, tries: int = 1) -> Life:
    """A life on a disk with faults, all promises checked."""
    life = Life(folder, tries)
    faults(life.disk)
    life.run()
    assert {answer.code for answer in life.answers} <= REFUSALS
    assert not life.disk.resynced, "an fsync that failed was tried again on the same file"
    shutil.copytree(folder, folder.parent / f"{folder.name} killed")
    check_after(folder.parent / f"{folder.name} killed", life.acknowledged)
    life.disk.lose_power(folder)
    check_after(folder, life.acknowledged)
    return life


def check_after(folder: Path, acknowledged: set[str]) -> None:
    """What was acknowledged holds on a healthy disk, and what was not can be done there."""
    store = ShareStore(folder, disk=FaultyDisk())
    BYSTANDER.assert_readable(store, SHARE)

    if "delete" in acknowledged:
        assert DELETED.key(SHARE) not in store.held(), "what was deleted came back"
        with pytest.raises(Refusal):
            store.open(DELETED.opening(SHARE), OWNER, 0.0)
    store.delete(DELETED.deletion(), OWNER)
    store.undelete(DELETED.undeletion(), OWNER)
    DELETED.assert_readable(store, SHARE)

    if "back" in acknowledged:
        BACK.assert_readable(store, SHARE)
    elif BACK.key(SHARE) not in store.held():
        store.undelete(BACK.undeletion(), OWNER)
    BACK.assert_readable(store, SHARE)

    if "discard" in acknowledged:
        assert SURPLUS.key(SHARE) not in store.held(), "what was given up came back"
        assert [path for path in (folder / "trash").iterdir() if path.name.startswith(SURPLUS.encoding_id.hex())]
    if SURPLUS.key(SHARE) in store.held():
        SURPLUS.assert_readable(store, SHARE)

    check_mended(store, acknowledged)
    assert not list((folder / "staging").iterdir())
    files = [path for part in ("shares", "quarantine", "trash") for path in (folder / part).rglob("*.*")]
    assert store.used_bytes == sum(path.stat().st_size for path in files)
    store.close()


def check_mended(store: ShareStore, acknowledged: set[str]) -> None:
    """The share that was bad is good or can be stored anew, and the one that was begun can be gone on with."""
    if "mend" in acknowledged:
        BAD.assert_readable(store, SHARE)
    assert store.block(BAD.key(SHARE), OWNER, 0) == BAD.blocks[0][SHARE], "of a bad share the good blocks are there"
    with contextlib.suppress(Refusal):
        store.block(BAD.key(SHARE), OWNER, 1)  # if nobody has found out yet that it is bad
    if not store.holds(BAD.key(SHARE), OWNER):
        BAD.put(store, SHARE)
    BAD.assert_readable(store, SHARE)

    if "go on" in acknowledged:
        BEGUN.assert_readable(store, SHARE)
    elif not store.holds(BEGUN.key(SHARE), OWNER):
        BEGUN.put(store, SHARE)
        BEGUN.assert_readable(store, SHARE)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[], Path]:
    """A new store's folder each time."""
    numbers = itertools.count()
    return lambda: tmp_path / f"store-{next(numbers)}"


def clean_calls(folder: Path) -> list[str]:
    life = check_life(folder, lambda disk: disk.arm())
    assert life.acknowledged == {"delete", "hide", "back", "discard", "mend", "go on"}
    assert [answer.code for answer in life.answers] == [Code.DAMAGED], "the bad block"
    return list(life.disk.calls)


def test_a_life_makes_the_calls_whose_failures_are_tested(folders: Callable[[], Path]) -> None:
    calls = clean_calls(folders())
    assert set(calls) >= {
        "rename_over",
        "sync_folder",
        "sync",
        "entries",
        "read_whole",
        "reopen",
        "remove",
        "rename_new",
    }
    tombstone = calls.index("sync")
    assert calls[tombstone - 2 : tombstone + 4] == ["create", "append", "sync", "close", "rename_over", "sync_folder"]
    moved = calls.index("rename_over", tombstone + 4)
    assert calls[moved : moved + 3] == ["rename_over", "sync_folder", "sync_folder"], "the tombstone came first"


@pytest.mark.parametrize(("code", "tries"), [(errno.EIO, 1), (errno.EIO, 2), (errno.ENOSPC, 1)])
def test_each_call_failing_once(folders: Callable[[], Path], code: int, tries: int) -> None:
    for number in range(len(clean_calls(folders()))):
        check_life(folders(), lambda disk, n=number: disk.arm({n: code}), tries)  # type: ignore[misc]


def test_a_disk_that_dies_at_each_call(folders: Callable[[], Path]) -> None:
    for number in range(len(clean_calls(folders()))):
        check_life(folders(), lambda disk, n=number: disk.arm(rest=(n, errno.EIO)), 2)  # type: ignore[misc]


@pytest.mark.parametrize("second", ["close", "remove", "sync_folder", "rename_over", "truncate"])
def test_a_call_failing_and_then_what_tidies_up(folders: Callable[[], Path], second: str) -> None:
    for number in range(0, len(clean_calls(folders())), 5):
        check_life(
            folders(),
            lambda disk, n=number: disk.arm({n: errno.ENOSPC}, {second: errno.EIO}),  # type: ignore[misc]
            tries=2,
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.integers(0, 200), st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES]), max_size=10),
    st.integers(1, 3),
)
@example({62: errno.EIO, 0: errno.ENOSPC, 5: errno.ENOSPC, 88: errno.ENOSPC}, 3)  # a disk that tells its room only once
@example({50: errno.ENOSPC, 15: errno.ENOSPC, 80: errno.ENOSPC, 103: errno.ENOSPC}, 2)  # the fsyncs of the quarantine
def test_any_calls_failing(folders: Callable[[], Path], at: dict[int, int], tries: int) -> None:
    check_life(folders(), lambda disk: disk.arm(at), tries)
