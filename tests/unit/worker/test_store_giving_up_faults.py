"""The store on a disk that fails while shares are deleted, taken back, given up, found bad, stored anew, amended.

Whatever call fails, nothing that was acknowledged is lost, and what was deleted or amended and acknowledged stays so:
after a restart on a healthy disk, and after a power cut, which takes the index and may bring back every name that was
removed in a folder that was not fsynced since. What was given up is given up while the index is there, else held again.
And whatever fails, the store answers, and no fsync is tried again on a file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.errors import NoRoomError
from common.protocol.messages import Answer, Code
from tests.support.faulty_disk import FaultyDisk, KilledError
from tests.support.sample_shares import OWNER, Sample, damage, declined, held_by, lying, sample, trashed
from worker.refusals import Refusal
from worker.store import ShareStore

pytestmark = pytest.mark.one_python

REFUSALS = {Code.NO_ROOM, Code.FAULT, Code.READ_ONLY, Code.NOT_OPEN, Code.CONFLICT, Code.DAMAGED, Code.NOT_FOUND}
MADE_ANEW = {"commit", "open", "read_at", "database", "entries"}  # the index may be, where these fail
SHARE = 1
Faults = Callable[[FaultyDisk], None]


class Cast(NamedTuple):
    """The encodings of a life, each called after what becomes of it."""

    deleted: Sample
    back: Sample
    surplus: Sample
    bad: Sample
    amended: Sample
    begun: Sample
    bystander: Sample


SMALL = Cast(*(sample(f"a/{label}", segments=2) for label in Cast._fields))
LARGE = Cast(*(sample(f"a/large {label}", segments=2, block_size=300 << 10) for label in Cast._fields))


class Life:
    """What happens in a store; every step is tried so often, and goes on whatever it is answered."""

    def __init__(self, folder: Path, cast: Cast, tries: int = 1) -> None:
        self.folder = folder
        self.cast = cast
        self.disk = FaultyDisk()
        self.calls: list[str] = []
        self.answers: list[Answer] = []
        self.acknowledged: set[str] = set()
        self._tries = tries
        self.store: Optional[ShareStore] = ShareStore(folder, disk=self.disk)
        for encoding in (cast.deleted, cast.back, cast.surplus, cast.bad, cast.amended, cast.bystander):
            encoding.put(self.store, SHARE)
        self.store.open(cast.begun.opening(SHARE, share_bytes=600 << 10), OWNER, 0.0)
        cast.begun.append(self.store, SHARE, 0)
        path, offset, _ = lying(self.store, cast.bad, SHARE)
        at = path.read_bytes().index(cast.bad.blocks[1][SHARE], offset) - offset
        damage(self.store, cast.bad, SHARE, at, b"!")

    def run(self) -> None:
        store, cast = self.store, self.cast
        assert store is not None
        self._attempt("delete", lambda: store.delete(cast.deleted.deletion(), OWNER))
        if self._attempt("hide", lambda: store.delete(cast.back.deletion(), OWNER)):
            self._attempt("back", lambda: store.undelete(cast.back.undeletion(), OWNER))
        self._attempt("discard", lambda: store.discard(cast.surplus.key(SHARE), OWNER))
        self._attempt("amend", lambda: store.amend(cast.amended.encoding_id, cast.amended.signed(revision=2), OWNER))
        self._attempt("find", lambda: store.block(cast.bad.key(SHARE), OWNER, 1))
        self._attempt("mend", lambda: self._put_bad(store))
        self._restart()
        if self.store is not None:
            self._tidy_up(self.store)
            self._attempt("go on", self._go_on)
            self.store.close()

    def _put_bad(self, store: ShareStore) -> None:
        self.cast.bad.stage(store, SHARE)
        self._commit(store)

    def _tidy_up(self, store: ShareStore) -> None:
        """The packs that the worker left before are written anew, where anything in them is dead."""
        for now in range(0, 1000, 100):
            store.compaction.turn(float(now))

    def _commit(self, store: ShareStore) -> None:
        pending = store.prepare_commit(self.cast.bad.key(SHARE), OWNER, self.cast.bad.signed())
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
        store.open(self.cast.begun.opening(SHARE, share_bytes=600 << 10), OWNER, 0.0)
        for segment in range(2):
            self.cast.begun.append(store, SHARE, segment)
        answer = self.cast.begun.commit(store, SHARE)
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


def check_life(folder: Path, cast: Cast, faults: Faults, tries: int = 1) -> Life:
    """A life on a disk with faults, all promises checked."""
    life = Life(folder, cast, tries)
    faults(life.disk)
    life.run()
    life.calls = list(life.disk.calls)
    life.disk.arm()
    assert {answer.code for answer in life.answers} <= REFUSALS
    assert not life.disk.resynced, "an fsync that failed was tried again on the same file"
    shutil.copytree(folder, folder.parent / f"{folder.name} restarted")
    check_after(folder.parent / f"{folder.name} restarted", life, FaultyDisk())
    life.disk.lose_power(folder)
    check_after(folder, life, life.disk, index_lost=True)
    return life


def check_after(folder: Path, life: Life, disk: FaultyDisk, *, index_lost: bool = False) -> None:
    """What was acknowledged holds on a healthy disk, and what was not can be done there."""
    disk.start_anew()
    cast, acknowledged = life.cast, life.acknowledged
    store = ShareStore(folder, disk=disk)
    for _ in range(50):
        store.scrub.turn(0.0, idle=False)  # what could not be read just then is good after all
    cast.bystander.assert_readable(store, SHARE)
    check_deleted(store, cast, acknowledged)
    check_amended(store, cast, acknowledged)
    if "discard" in acknowledged and not index_lost and not MADE_ANEW & life.disk.failed:
        assert cast.surplus.key(SHARE) not in held_by(store), "what was given up came back"
        assert cast.surplus.key(SHARE) in {kept.key for kept in trashed(store)}
    if cast.surplus.key(SHARE) in held_by(store):
        cast.surplus.assert_readable(store, SHARE)
    check_mended(store, cast, acknowledged)
    assert not list((folder / "staging").iterdir())
    check_books(store, cast)
    store.close()
    assert not disk.resynced


def check_deleted(store: ShareStore, cast: Cast, acknowledged: set[str]) -> None:
    if "delete" in acknowledged:
        assert cast.deleted.key(SHARE) not in held_by(store), "what was deleted came back"
        with declined(Code.CONFLICT):
            store.open(cast.deleted.opening(SHARE), OWNER, 0.0)
    store.delete(cast.deleted.deletion(), OWNER)
    store.undelete(cast.deleted.undeletion(), OWNER)
    cast.deleted.assert_readable(store, SHARE)

    if "back" not in acknowledged and cast.back.key(SHARE) not in held_by(store):
        store.undelete(cast.back.undeletion(), OWNER)
    cast.back.assert_readable(store, SHARE)


def check_amended(store: ShareStore, cast: Cast, acknowledged: set[str]) -> None:
    cast.amended.assert_readable(store, SHARE)
    if "amend" in acknowledged:
        assert store.share(cast.amended.key(SHARE), OWNER).commitment.revision == 2, "the superseded is believed again"
        assert held_by(store)[cast.amended.key(SHARE)].revision == 2
    store.amend(cast.amended.encoding_id, cast.amended.signed(revision=3), OWNER)
    assert store.share(cast.amended.key(SHARE), OWNER).commitment.revision == 3


def check_books(store: ShareStore, cast: Cast) -> None:
    """What is said to be used is what shares and amendments take."""
    copies = [copy for encoding in cast for copy in store._index.of_encoding(encoding.encoding_id)]
    assert store.used_bytes == sum(copy.size for copy in copies)
    assert all(len([copy for copy in copies if copy.here and copy.key == e.key(SHARE)]) <= 1 for e in cast)


def check_mended(store: ShareStore, cast: Cast, acknowledged: set[str]) -> None:
    """The share that was bad is good or can be stored anew, and the one that was begun can be gone on with."""
    bad, begun = cast.bad, cast.begun
    if "mend" in acknowledged:
        bad.assert_readable(store, SHARE)
    assert store.block(bad.key(SHARE), OWNER, 0) == bad.blocks[0][SHARE], "of a bad share the good blocks are there"
    with contextlib.suppress(Refusal):
        store.block(bad.key(SHARE), OWNER, 1)  # if nobody has found out yet that it is bad
    if not store.holds(bad.key(SHARE), OWNER):
        bad.put(store, SHARE)
    bad.assert_readable(store, SHARE)

    if "go on" not in acknowledged and not store.holds(begun.key(SHARE), OWNER):
        begun.put(store, SHARE)
    begun.assert_readable(store, SHARE)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[], Path]:
    """A new store's folder each time."""
    numbers = itertools.count()
    return lambda: tmp_path / f"store-{next(numbers)}"


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def cast(request: pytest.FixtureRequest) -> Cast:
    assert isinstance(request.param, Cast)
    return request.param


def clean_calls(folder: Path, cast: Cast) -> list[str]:
    life = check_life(folder, cast, lambda disk: disk.arm())
    assert life.acknowledged == {"delete", "hide", "back", "discard", "amend", "mend", "go on"}
    assert [answer.code for answer in life.answers] == [Code.DAMAGED], "the bad block"
    return life.calls


def test_a_life_makes_the_calls_whose_failures_are_tested(folders: Callable[[], Path], cast: Cast) -> None:
    calls = clean_calls(folders(), cast)
    assert set(calls) >= {
        "append",
        "sync",
        "commit",
        "sync_folder",
        "entries",
        "read_at",
        "reopen",
        "remove",
        "database",
    }
    first = calls.index("append")
    until = calls.index("commit")
    made = ["append", "sync"] if cast is SMALL else ["append", "sync", "sync_folder"]
    assert calls[first:until] == made, "the tombstone is durable first"
    assert cast is SMALL or "rename_new" in calls


@pytest.mark.parametrize(("code", "tries"), [(errno.EIO, 1), (errno.EIO, 2), (errno.ENOSPC, 1)])
def test_each_call_failing_once(folders: Callable[[], Path], cast: Cast, code: int, tries: int) -> None:
    for number in range(len(clean_calls(folders(), cast))):
        check_life(folders(), cast, lambda disk, n=number: disk.arm({n: code}), tries)  # type: ignore[misc]


def test_a_disk_that_dies_at_each_call(folders: Callable[[], Path], cast: Cast) -> None:
    for number in range(len(clean_calls(folders(), cast))):
        check_life(folders(), cast, lambda disk, n=number: disk.arm(rest=(n, errno.EIO)), 2)  # type: ignore[misc]


@pytest.mark.parametrize("power_cut", [False, True])
def test_a_worker_that_is_killed_at_each_call(folders: Callable[[], Path], cast: Cast, power_cut: bool) -> None:
    for number in range(len(clean_calls(folders(), cast))):
        life = Life(folders(), cast)
        life.disk.arm(kill=number)
        with pytest.raises(KilledError):
            life.run()
        end(life)
        if power_cut:
            life.disk.lose_power(life.folder)
        check_after(life.folder, life, life.disk, index_lost=power_cut)
        life.disk.lose_power(life.folder)
        store = ShareStore(life.folder)
        for encoding in cast._replace(surplus=cast.bystander):
            encoding.assert_readable(store, SHARE)
        assert store.share(cast.amended.key(SHARE), OWNER).commitment.revision == 3
        store.close()


def end(life: Life) -> None:
    """Let go of what a killed worker held: the kernel closes its files."""
    life.disk.arm()
    if life.store is not None:
        life.store._packs.close()
        life.store._lock.close()
    for database in life.disk.databases:
        database.close()


@pytest.mark.parametrize("second", ["close", "remove", "sync_folder", "truncate", "commit"])
def test_a_call_failing_and_then_what_tidies_up(folders: Callable[[], Path], cast: Cast, second: str) -> None:
    for number in range(0, len(clean_calls(folders(), cast)), 5):
        check_life(
            folders(),
            cast,
            lambda disk, n=number: disk.arm({n: errno.ENOSPC}, {second: errno.EIO}),  # type: ignore[misc]
            tries=2,
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.integers(0, 120), st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES]), max_size=10),
    st.sampled_from(["small", "large"]),
    st.integers(1, 3),
)
@example(at={23: errno.ENOSPC, 40: errno.EIO, 79: errno.ENOSPC}, size="small", tries=3)  # of two copies one is unread
def test_any_calls_failing(folders: Callable[[], Path], at: dict[int, int], size: str, tries: int) -> None:
    check_life(folders(), SMALL if size == "small" else LARGE, lambda disk: disk.arm(at), tries)
