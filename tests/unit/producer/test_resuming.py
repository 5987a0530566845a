"""A put that was interrupted goes on where it stopped: over a cluster in memory, stopped at any message."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.protocol.codec import unpack_header
from common.protocol.device_messages import Append
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.vault import stamp as stamp_module
from producer.events import StoredImage
from tests.support.interrupted_puts import (
    CONTENT,
    SEGMENT,
    SEGMENTS,
    K,
    Machine,
    N,
    appended,
    make_sizes_small,
)
from tests.support.memory_cluster import ClusterDevice, run

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    make_sizes_small(monkeypatch)


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


@pytest.mark.one_python
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
    machine.cluster.devices[1].lose_all()
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
        device.lose_all()
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
def test_a_changed_file_that_looks_the_same_is_never_sealed_under_the_old_key(
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
    monkeypatch.setattr(stamp_module.Stamp, "__ne__", lambda self, other: False)  # and its times and inode, too
    sent: list[tuple[int, int, bytes]] = []
    for device in machine.cluster.devices:
        watch_appends(device, before, sent)
    machine.stored()
    assert all(old.get((share, segment), block) == block for share, segment, block in sent), "one nonce, two texts"
    assert before not in machine.encodings()
    machine.check_restored(content)


def watch_appends(device: ClusterDevice, encoding_id: bytes, sent: list[tuple[int, int, bytes]]) -> None:
    """Note the blocks of an encoding that a device gets."""

    def append(header: bytes, payload: bytes) -> None:
        name = unpack_header(header, Append)
        if name.encoding_id == encoding_id:
            sent.append((name.share, name.segment, payload))

    device.intercept(Operation.APPEND, append)


@pytest.mark.one_python
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
        patch.setattr(stamp_module.Stamp, "__ne__", lambda self, other: False)
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


@pytest.mark.parametrize("required", [(3, None), (None, 5), (2, 3)])
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
