"""A put that was interrupted goes on where it stopped: over a cluster in memory, stopped at any message."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Callable, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import IntegrityError, NotEnoughError, TesseraError, UnreachableError
from common.progress import ByteProgress
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.slicing import TAG_SIZE, Slicing
from common.vault import journal as journal_module
from common.vault.folder import VaultFolder
from consumer.output import Output
from consumer.session import Session as ConsumerSession
from producer import session as session_module
from producer import stream as stream_module
from producer.outcome import FailedImage, Outcome, StoredImage
from producer.run import store_all
from producer.session import Session
from producer.sources import find_sources
from tests.unit.memory_cluster import MemoryCluster, run
from tests.unit.sample_images import KEY, chance

K, N = 2, 4
BLOCK = 1024
SEGMENT = K * BLOCK - TAG_SIZE
SEGMENTS = 8
CONTENT = chance("content", SEGMENTS * SEGMENT - 100)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of more than one small segment counts as large."""
    monkeypatch.setattr(stream_module, "HASH_FIRST", SEGMENT)
    monkeypatch.setattr(session_module, "block_size_for", lambda n: BLOCK)


class Stop:
    """Stops a put at the n-th message of an operation, before or after the device got it."""

    def __init__(self, cluster: MemoryCluster, operation: Operation, at: int, *, delivered: bool) -> None:
        self._cluster, self._request = cluster, cluster.request
        self._operation, self._left, self._delivered = operation, at, delivered
        self.reached = asyncio.Event()
        cluster.request = self._watch  # type: ignore[method-assign, assignment]

    async def _watch(self, operation: Operation, *arguments: object, **keywords: object) -> object:
        if operation is self._operation:
            self._left -= 1
        if self._left > 0 or operation is not self._operation:
            return await self._request(operation, *arguments, **keywords)  # type: ignore[arg-type]
        if self._delivered and self._left == 0:
            await self._request(operation, *arguments, **keywords)  # type: ignore[arg-type]
        self.reached.set()
        await asyncio.Event().wait()  # until it is cancelled
        raise AssertionError

    def over(self) -> None:
        self._cluster.request = self._request  # type: ignore[method-assign]


class Machine:
    """A machine with a vault and one large file beside a cluster in memory."""

    def __init__(self, folder: Path, devices: int = N, content: bytes = CONTENT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster = MemoryCluster(devices)
        self.vault = VaultFolder(folder / "home")
        self.file = folder / "large"
        self.file.write_bytes(content)
        self.folder = folder

    @property
    def journals(self) -> list[Path]:
        folder = self.vault.folder / "journal"
        return list(folder.iterdir()) if folder.exists() else []

    async def put(
        self, required: tuple[Optional[int], Optional[int]] = (None, None), coding: tuple[int, int] = (K, N)
    ) -> Outcome:
        devices = self.cluster.as_devices()
        session = Session(
            self.cluster.link,
            self.vault,
            KEY,
            *coding,
            devices,
            images_only=False,
            progress=lambda _: None,
            required=required,
        )
        try:
            (outcome,) = [each async for each in store_all(session, find_sources([str(self.file)], "stdin"))]
            return outcome
        finally:
            session.close()

    def stored(self, **keywords: tuple[int, int]) -> StoredImage:
        outcome = run(self.put(**keywords))
        assert isinstance(outcome, StoredImage), outcome
        return outcome

    def interrupt(self, operation: Operation, at: int, *, delivered: bool = True, kill: bool = False) -> bool:
        """One run that ends at this message; false where it was done before. `kill`: it says goodbye to nobody."""

        async def interrupted() -> bool:
            stop = Stop(self.cluster, operation, at, delivered=delivered)
            task = asyncio.ensure_future(self.put())
            reaching = asyncio.ensure_future(stop.reached.wait())
            await asyncio.wait([task, reaching], return_when=asyncio.FIRST_COMPLETED)
            shares = {device: dict(device.shares) for device in self.cluster.devices}
            stop.over()
            reached = stop.reached.is_set()
            task.cancel()
            await asyncio.wait([task])
            if kill:
                for device, held in shares.items():
                    device.shares = held
            reaching.cancel()
            return reached

        return run(interrupted())

    def encodings(self) -> set[bytes]:
        return {encoding for device in self.cluster.devices for encoding, _ in device.shares}

    def check_restored(self, content: bytes = CONTENT) -> None:
        out = self.folder / "out"
        out.unlink(missing_ok=True)

        async def get() -> None:
            session = ConsumerSession(
                self.cluster.link, self.vault, KEY, complain=lambda _: None, progress=ByteProgress("", None)
            )
            (encoding,) = self.cluster.encodings()
            await session.restore([encoding], "image", lambda _: Output(out, replace=False))

        run(get())
        assert out.read_bytes() == content


def appended(cluster: MemoryCluster) -> Counter[bytes]:
    return Counter(device for device, operation in cluster.messages if operation is Operation.APPEND)


def test_a_put_that_was_interrupted_sends_again_only_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    assert machine.interrupt(Operation.APPEND, 5 * N)
    assert "large: interrupted; run the same command again to go on where it stopped" in capsys.readouterr().err
    assert len(machine.journals) == 1
    (before,) = machine.encodings()
    had = sum(len(held.blocks) for device in machine.cluster.devices for held in device.shares.values())
    assert had >= 4 * N
    machine.cluster.messages.clear()
    stored = machine.stored()
    assert not stored.degraded
    assert machine.encodings() == {before}
    assert sum(appended(machine.cluster).values()) == N * SEGMENTS - had
    assert f"large: goes on at {had / (N * SEGMENTS):.0%}".replace("%", " %") in capsys.readouterr().err
    assert machine.journals == []
    machine.check_restored()


_OPERATIONS = st.sampled_from(
    [Operation.PLACES, Operation.OPEN, Operation.APPEND, Operation.LOCATE, Operation.COMMIT, Operation.PROGRESS]
)


@given(st.lists(st.tuples(_OPERATIONS, st.integers(1, N * SEGMENTS), st.booleans()), min_size=1, max_size=4))
@in_one_folder
def test_wherever_it_is_interrupted_and_however_often_it_ends_stored_once_and_right(
    tmp_path: Path, stops: list[tuple[Operation, int, bool]]
) -> None:
    machine = Machine(tmp_path / os.urandom(4).hex())
    for operation, at, delivered in stops:
        machine.interrupt(operation, at, delivered=delivered)
    stored = machine.stored()
    assert not stored.degraded
    assert machine.journals == []
    assert len(machine.cluster.encodings()) == 1
    assert len(machine.encodings()) == 1, "something was left behind"
    machine.check_restored()


@pytest.mark.parametrize("committed", range(1, N))
def test_what_was_interrupted_while_it_committed_is_committed_alike_everywhere(committed: int, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.interrupt(Operation.COMMIT, committed)
    machine.cluster.messages.clear()
    assert not machine.stored().degraded
    assert appended(machine.cluster) == {}
    mappings = {
        held.commitment.mapping
        for device in machine.cluster.devices
        for held in device.shares.values()
        if held.commitment is not None
    }
    assert len(mappings) == 1
    machine.check_restored()


def test_a_device_that_lost_its_share_gets_all_of_it_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.interrupt(Operation.APPEND, 5 * N)
    machine.cluster.devices[1].shares.clear()
    machine.cluster.messages.clear()
    assert not machine.stored().degraded
    assert appended(machine.cluster)[machine.cluster.ids[1]] == SEGMENTS
    assert appended(machine.cluster)[machine.cluster.ids[0]] <= SEGMENTS - 4
    machine.check_restored()


def test_the_share_of_a_device_that_is_gone_moves_to_another(tmp_path: Path) -> None:
    machine = Machine(tmp_path, devices=N + 1)
    machine.interrupt(Operation.APPEND, 5 * N)
    machine.cluster.devices[1].alive = False
    stored = machine.stored()
    assert stored.devices == ["device-1", "device-5", "device-3", "device-4"]
    machine.check_restored()


def test_a_share_that_had_moved_is_found_where_it_went(tmp_path: Path) -> None:
    machine = Machine(tmp_path, devices=N + 2)
    machine.cluster.devices[1].decline(Operation.APPEND, Code.NO_ROOM, 3)
    assert machine.interrupt(Operation.COMMIT, 2)
    machine.cluster.messages.clear()
    stored = machine.stored()
    assert stored.devices == ["device-1", "device-5", "device-3", "device-4"]
    assert appended(machine.cluster) == {}


@pytest.mark.parametrize("gone", [2, 3, 4])
def test_with_too_few_shares_left_it_begins_anew_elsewhere(
    gone: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path, devices=2 * N)
    machine.interrupt(Operation.APPEND, 5 * N)
    (before,) = machine.encodings()
    for device in machine.cluster.devices[:gone]:
        device.alive = False
    assert not machine.stored().degraded
    assert "too few of its devices are here with what was sent before" in capsys.readouterr().err
    assert before not in {encoding for device in machine.cluster.devices[gone:] for encoding, _ in device.shares}
    assert machine.journals == []


def test_where_all_devices_forgot_it_it_begins_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.interrupt(Operation.APPEND, 5 * N)
    (before,) = machine.encodings()
    for device in machine.cluster.devices:
        device.shares.clear()
    machine.stored()
    assert before not in machine.encodings()
    machine.check_restored()


def changed_in_place(file: Path, *, at: int) -> bytes:
    """Change a byte and have the file look as before, as far as a program can."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    return bytes(content)


def test_a_file_that_changed_begins_anew_and_the_old_shares_are_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    machine.interrupt(Operation.APPEND, 5 * N)
    (before,) = machine.encodings()
    content = changed_in_place(machine.file, at=3)
    machine.stored()
    assert (
        "large: the file changed since it was interrupted; it is stored from its beginning" in capsys.readouterr().err
    )
    assert before not in machine.encodings()
    machine.check_restored(content)


@pytest.mark.parametrize("at", [3, 2 * SEGMENT, 4 * SEGMENT])
def test_a_file_that_changed_and_looks_the_same_to_the_last_is_never_sealed_under_the_old_key(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    machine.interrupt(Operation.APPEND, 5 * N)
    (before,) = machine.encodings()
    old = {
        (share, segment): block
        for device in machine.cluster.devices
        for (_, share), held in device.shares.items()
        for segment, block in held.blocks.items()
    }
    content = changed_in_place(machine.file, at=at)
    monkeypatch.setattr(journal_module.Origin, "__ne__", lambda self, other: False)  # and its times and inode, too
    sent: list[tuple[int, int, bytes]] = []
    for device in machine.cluster.devices:
        watch_appends(device, before, sent)
    machine.stored()
    assert all(old.get((share, segment), block) == block for share, segment, block in sent), "one nonce, two texts"
    assert before not in machine.encodings()
    machine.check_restored(content)


def watch_appends(device: object, encoding_id: bytes, sent: list[tuple[int, int, bytes]]) -> None:
    """Note the blocks of an encoding that a device gets."""
    from common.protocol.codec import unpack_header
    from common.protocol.device_messages import Append

    operations: dict[Operation, Callable[[bytes, bytes], object]] = device._operations  # type: ignore[attr-defined]
    original = operations[Operation.APPEND]

    def append(header: bytes, payload: bytes) -> object:
        name = unpack_header(header, Append)
        if name.encoding_id == encoding_id:
            sent.append((name.share, name.segment, payload))
        return original(header, payload)

    operations[Operation.APPEND] = append


@given(st.integers(1, N * SEGMENTS), st.integers(0, len(CONTENT) - 1))
@in_one_folder
def test_no_segment_ever_leaves_under_the_old_key_with_other_content(tmp_path: Path, at: int, changed: int) -> None:
    machine = Machine(tmp_path / os.urandom(4).hex())
    machine.interrupt(Operation.APPEND, at, kill=True)
    (before,) = machine.encodings()
    sent: list[tuple[int, int, bytes]] = []
    for device in machine.cluster.devices:
        for (encoding, share), held in device.shares.items():
            assert encoding == before
            sent += [(share, segment, block) for segment, block in held.blocks.items()]
        watch_appends(device, before, sent)
    content = changed_in_place(machine.file, at=changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module.Origin, "__ne__", lambda self, other: False)
        machine.stored()
    blocks: dict[tuple[int, int], set[bytes]] = {}
    for share, segment, block in sent:
        blocks.setdefault((share, segment), set()).add(block)
    assert all(len(each) == 1 for each in blocks.values())
    machine.check_restored(content)


# --- k and n


def test_without_k_and_n_from_the_user_it_keeps_to_those_it_had(tmp_path: Path) -> None:
    machine = Machine(tmp_path, devices=N)
    machine.interrupt(Operation.APPEND, 5 * N)
    machine.cluster.devices[3].alive = False
    stored = machine.stored(coding=(2, 3))  # what three devices would have
    assert (stored.k, stored.n, stored.degraded) == (K, N, True)
    machine.check_restored()


@pytest.mark.parametrize("required", [(3, None), (None, 5), (1, 3)])
def test_with_others_from_the_user_it_begins_anew(
    required: tuple[Optional[int], Optional[int]], tmp_path: Path
) -> None:
    machine = Machine(tmp_path, devices=5)
    machine.interrupt(Operation.APPEND, 5 * N)
    (before,) = machine.encodings()
    coding = (required[0] or 2, required[1] or 4)
    outcome = run(machine.put(required, coding))
    assert isinstance(outcome, StoredImage)
    assert (outcome.k, outcome.n) == coding
    assert before not in machine.encodings()


# --- what is kept, and what is given up


@pytest.mark.parametrize("size", [SEGMENT - 5, SEGMENT])
def test_a_small_file_keeps_no_journal(size: int, tmp_path: Path) -> None:
    machine = Machine(tmp_path, content=chance("small", size))
    machine.stored()
    assert not (machine.vault.folder / "journal").exists()


def test_where_devices_are_gone_the_rest_stays_for_another_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for device in machine.cluster.devices[:3]:
        device.die(Operation.APPEND, 5)
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert isinstance(failed.error, NotEnoughError)
    assert "run the same command again to go on where it stopped" in (failed.error.advice or "")
    for device in machine.cluster.devices:
        device.alive = True
    (before,) = machine.encodings()
    assert not machine.stored().degraded
    assert machine.encodings() == {before}
    machine.check_restored()


def test_where_there_is_no_room_all_is_given_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for device in machine.cluster.devices[:3]:
        device.decline(Operation.APPEND, Code.NO_ROOM, 5)
    assert isinstance(run(machine.put()), FailedImage)
    assert machine.encodings() == set()
    assert machine.journals == []


def test_a_file_that_changes_while_it_is_read_is_given_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    original = machine.cluster.devices[0]._operations[Operation.OPEN]

    def grow(header: bytes, payload: bytes) -> object:
        with machine.file.open("ab") as file:
            file.write(b"more")
        return original(header, payload)

    machine.cluster.devices[0]._operations[Operation.OPEN] = grow  # type: ignore[assignment]
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert isinstance(failed.error, IntegrityError)
    assert (machine.encodings(), machine.journals) == (set(), [])


def test_a_file_that_turns_out_to_be_stored_leaves_no_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.stored()
    machine.file = machine.file.rename(machine.file.with_name("renamed"))
    assert machine.stored().already_stored
    assert machine.journals == []
    assert len(machine.encodings()) == 1


def test_a_second_producer_of_the_file_does_without_a_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async def both() -> list[Outcome]:
        return list(await asyncio.gather(machine.put(), machine.put()))

    assert all(isinstance(outcome, StoredImage) for outcome in run(both()))
    assert machine.journals == []


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_journal_that_cannot_be_kept_is_removed_and_the_put_goes_on(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    original: Callable[..., None] = getattr(journal_module.Journal, what)
    calls = 0

    def fail(self: object, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise OSError(28, "No space left on device")
        original(self, *arguments)

    monkeypatch.setattr(journal_module.Journal, what, fail)
    assert not machine.stored().degraded
    told = capsys.readouterr().err
    assert told.count("no journal can be kept: No space left on device; interrupted, it would begin anew") == 1
    assert machine.journals == []
    machine.check_restored()


def test_a_journal_that_can_neither_be_kept_nor_removed_ends_the_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left behind, it would tell less than what has been sealed."""
    machine = Machine(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal_module, "sync_file", refuse)
    monkeypatch.setattr(journal_module.Journal, "remove", refuse)
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert type(failed.error) is TesseraError
    assert "cannot be removed" in str(failed.error)
    assert not appended(machine.cluster)


def test_nothing_of_a_segment_leaves_before_its_journal_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    durable = [-1]
    written = [-1]
    write, sync = journal_module.Journal.write, journal_module.Journal.sync

    def note_write(self: journal_module.Journal, chunk: object) -> None:
        write(self, chunk)  # type: ignore[arg-type]
        if isinstance(chunk, journal_module.Segment):
            written.append(chunk.segment)

    def note_sync(self: journal_module.Journal) -> None:
        reached = written[-1]
        sync(self)
        durable.append(max(reached, durable[-1]))

    monkeypatch.setattr(journal_module.Journal, "write", note_write)
    monkeypatch.setattr(journal_module.Journal, "sync", note_sync)
    from common.protocol.codec import unpack_header
    from common.protocol.device_messages import Append

    for device in machine.cluster.devices:
        original = device._operations[Operation.APPEND]

        def append(header: bytes, payload: bytes, original: Callable[..., object] = original) -> object:
            assert unpack_header(header, Append).segment <= durable[-1]
            return original(header, payload)

        device._operations[Operation.APPEND] = append  # type: ignore[assignment]
    machine.stored()
    assert durable[-1] == SEGMENTS - 1


def test_a_broker_that_is_gone_leaves_all_for_another_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for device in machine.cluster.devices:
        device.fail(Operation.APPEND, lambda: UnreachableError("no answer from a device"), 5)
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert len(machine.journals) == 1
    assert not machine.stored().degraded


def test_slices_are_as_small_here_as_these_tests_think() -> None:
    assert Slicing(K, 32, BLOCK).segment_count(len(CONTENT)) == SEGMENTS
