"""Whatever one source does costs that source: its neighbours are stored, and it is named with what was wrong."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from common.errors import NoRoomError, TesseraError, UnreachableError, UnstorableError
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.vault.folder import VaultFolder
from producer import batch, encoding
from producer import run as run_module
from producer import stream as stream_module
from producer.distribution import Distribution
from producer.events import FailedImage, Outcome, StoredImage
from producer.owner import OwnVault
from producer.reading import Reader, changed, read_whole
from producer.sources import Source
from tests.support.clocks import wait_for_another_tick
from tests.support.interrupted_puts import BLOCK, SEGMENT, K, N, make_sizes_small
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

YEARS = {"2600": 19_880_899_200, "1066": -28_500_000_000, "1969": -1}  # Unix seconds


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    make_sizes_small(monkeypatch)


class Home:
    """A machine with a vault beside a cluster in memory."""

    def __init__(self, folder: Path) -> None:
        self.cluster = MemoryCluster(N)
        self.vault = VaultFolder(folder / "home")
        self.requests = 0

    def put(self, *arguments: Path, **options: bool) -> dict[str, Outcome]:
        return run(self._put([str(argument) for argument in arguments], **options))

    async def _put(self, arguments: list[str], **options: Any) -> dict[str, Outcome]:
        outcomes = await put(self.cluster, OwnVault(self.vault, KEY), K, N, arguments, **options)
        return {Path(outcome.shown).name: outcome for outcome in outcomes}

    @property
    def shares(self) -> int:
        return sum(len(device.shares) for device in self.cluster.devices)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Ten small files and two long ones."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(10):
        (folder / f"small-{number}.png").write_bytes(chance(f"small {number}", 100 + number))
    for number in range(2):
        (folder / f"long-{number}.png").write_bytes(chance(f"long {number}", 3 * SEGMENT))
    return folder


def stored(outcomes: dict[str, Outcome]) -> set[str]:
    return {name for name, outcome in outcomes.items() if isinstance(outcome, StoredImage)}


def fault(outcomes: dict[str, Outcome], name: str) -> TesseraError:
    outcome = outcomes[name]
    assert isinstance(outcome, FailedImage)
    return outcome.error


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- times


@pytest.fixture
def odd_times(tmp_path: Path) -> Iterator[Path]:
    """A folder whose file system keeps any time; a disk's may not."""
    for parent in (tmp_path, Path("/dev/shm")):  # noqa: S108
        if not parent.is_dir():
            continue
        with tempfile.TemporaryDirectory(dir=parent) as name:
            probe = Path(name) / "probe"
            probe.touch()
            os.utime(probe, (YEARS["2600"], YEARS["2600"]))
            if probe.stat().st_mtime == YEARS["2600"]:
                probe.unlink()
                yield Path(name)
                return
    pytest.skip("no file system here keeps such times")


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("size", [100, 3 * SEGMENT], ids=["small", "long"])
def test_a_file_of_any_year_is_stored_and_recognised_with_its_neighbours(
    home: Home, odd_times: Path, year: str, size: int
) -> None:
    for name in ("a.png", "odd.png", "z.png"):
        (odd_times / name).write_bytes(chance(name, size))
    os.utime(odd_times / "odd.png", (YEARS[year], YEARS[year]))
    assert stored(home.put(odd_times)) == {"a.png", "odd.png", "z.png"}
    again = home.put(odd_times)
    assert all(isinstance(outcome, StoredImage) and outcome.already_stored for outcome in again.values())


# --- what nobody foresaw


@pytest.mark.parametrize("error", [OverflowError("odd"), RecursionError("deep"), ValueError("odd"), OSError("odd")])
@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (batch, "read_whole", "small-4.png"),
        (stream_module, "Reader", "long-1.png"),
    ],
)
def test_an_error_that_nobody_foresaw_costs_its_source_only(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, module: Any, function: str, name: str
) -> None:
    original: Callable[[Source], Any] = getattr(module, function)

    def failing(source: Source) -> Any:
        if source.name == name:
            raise error
        return original(source)

    monkeypatch.setattr(module, function, failing)
    outcomes = home.put(album)
    assert stored(outcomes) == names(album) - {name}
    assert str(fault(outcomes, name)).startswith(f"{album / name}: ")
    assert fault(outcomes, name).exit_code == 1


def test_a_file_of_which_nobody_can_tell_whether_it_was_seen_is_read(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(source: Source) -> Any:
        raise OverflowError("odd")

    monkeypatch.setattr(run_module, "stamp_of", failing)
    assert stored(home.put(album)) == names(album)


# --- a file that does not hold still


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int, bytes], list[int]]:
    """Have a file be replaced by this at the beginning of each of so many first readings; the readings are counted."""

    def make(path: Path, times: int, content: bytes) -> list[int]:
        opened: list[int] = []

        class Changing(io.FileIO):
            moved = False

            def readinto(self, buffer: Any) -> int:
                count = super().readinto(buffer)
                if len(opened) <= times and not self.moved:
                    self.moved = True
                    path.write_bytes(content)
                    os.utime(path, (len(opened), len(opened)))
                return count or 0

        def opener(other: Path) -> io.FileIO:
            if other != path:
                return io.FileIO(other)
            opened.append(len(opened))
            return Changing(path)

        monkeypatch.setattr("producer.reading.open_regular", opener)
        return opened

    return make


Restless = Callable[[Path, int, bytes], "list[int]"]


@pytest.mark.parametrize("name", ["small-4.png", "long-1.png"])
@pytest.mark.parametrize("size", [100, 3 * SEGMENT], ids=["to a small one", "to a long one"])
@pytest.mark.parametrize("hash_first", [64 << 20, 1], ids=["hashed first", "while it is sent"])
def test_a_file_that_changes_while_it_is_read_is_read_again_and_stored(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch, restless: Restless, name: str, size: int, hash_first: int
) -> None:
    monkeypatch.setattr(stream_module, "HASH_FIRST", hash_first)
    content = chance("changed", size)
    restless(album / name, 1, content)
    outcomes = home.put(album)
    assert stored(outcomes) == names(album)
    outcome = outcomes[name]
    assert isinstance(outcome, StoredImage)
    assert (outcome.sha256, outcome.size) == (hashlib.sha256(content).digest(), size)
    assert home.shares == N * len(names(album)), "of what was broken off nothing is left"


@pytest.mark.parametrize("name", ["small-4.png", "long-1.png"])
def test_a_file_that_changes_whenever_it_is_read_is_read_twice_and_then_said(
    home: Home, album: Path, restless: Restless, name: str
) -> None:
    opened = restless(album / name, 1000, chance("changed", 100))
    outcomes = home.put(album)
    assert stored(outcomes) == names(album) - {name}
    assert str(fault(outcomes, name)) == f"{album / name} changed while it was read; it was not stored"
    assert fault(outcomes, name).exit_code == 4
    assert len(opened) == 2
    assert home.shares == N * (len(names(album)) - 1)


def test_a_file_that_changes_and_then_is_gone_is_said_to_have_changed(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read_whole

    def gone(source: Source) -> Any:
        if source.name != "small-4.png":
            return real(source)
        (album / source.name).unlink()
        raise changed(source)

    monkeypatch.setattr(batch, "read_whole", gone)
    outcomes = home.put(album)
    assert "changed while it was read" in str(fault(outcomes, "small-4.png"))
    assert stored(outcomes) == names(album)


# --- too large


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """An image may have as many bytes as two segments."""
    monkeypatch.setattr(encoding, "_MAX_DIGESTS", 2 * N * 32)
    return 2 * SEGMENT


def test_a_file_that_is_too_large_is_refused_before_anything_of_it_is_sent(
    home: Home, album: Path, small_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (album / "long-1.png").write_bytes(chance("fits", small_limit))
    read: list[str] = []
    original = Reader.read_into

    def noting(self: Any, buffer: memoryview) -> int:
        read.append(self._source.name)
        return original(self, buffer)

    monkeypatch.setattr(stream_module, "HASH_FIRST", 0)
    monkeypatch.setattr(Reader, "read_into", noting)
    outcomes = home.put(album)
    assert stored(outcomes) == names(album) - {"long-0.png"}
    assert "long-0.png" not in read
    error = fault(outcomes, "long-0.png")
    assert isinstance(error, UnstorableError)
    assert str(error) == (
        f"{album / 'long-0.png'}: {3 * SEGMENT:,} bytes are too large: with {K} of {N} at most {small_limit:,}"
    )
    assert error.advice == (
        f"-k {N - 1} -n {N} allows {2 * ((N - 1) * BLOCK - 16):,} bytes, and one share may be lost; "
        "or cut it into pieces and store these"
    )
    assert home.shares == N * (len(names(album)) - 1)


def test_what_comes_from_stdin_is_refused_with_the_limit_where_it_is_reached(
    home: Home, small_limit: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(chance("too long", small_limit + 1))
    with (tmp_path / "in").open("rb") as file:
        monkeypatch.setattr("sys.stdin", file_as_stdin(file))
        error = fault(home.put(Path("-")), "-")
    assert isinstance(error, UnstorableError)
    assert str(error) == f"-: what comes from stdin is too large: with {K} of {N} at most {small_limit:,}"
    assert home.shares == 0


def file_as_stdin(file: Any) -> Any:
    class Stdin:
        buffer = file

    return Stdin()


# --- nothing on stdin


def test_a_stdin_that_gives_nothing_is_refused_and_stored_where_that_is_wanted(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, "rb") as nothing:
        monkeypatch.setattr("sys.stdin", file_as_stdin(nothing))
        error = fault(home.put(Path("-")), "-")
        assert isinstance(error, UnstorableError)
        assert "--allow-empty" in (error.advice or "")
        assert home.shares == 0
        assert stored(home.put(Path("-"), allow_empty=True)) == {"-"}


def test_an_empty_file_is_a_file_like_any_other(home: Home, album: Path) -> None:
    (album / "empty.txt").touch()
    assert stored(home.put(album / "empty.txt")) == {"empty.txt"}
    assert stored(home.put(album)) == names(album)


# --- recognised, or read again


def age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were just written count as long at rest."""
    monkeypatch.setattr("common.vault.stamp._YOUNG", -60_000_000_000)


def edit_in_secret(path: Path) -> bytes:
    before = path.stat()
    wait_for_another_tick(path.parent)
    content = bytes(before.st_size)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return content


@pytest.mark.parametrize("name", ["small-4.png", "long-1.png"])
@pytest.mark.parametrize("rested", [True, False])
def test_an_edit_that_keeps_size_and_time_of_modification_is_stored(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch, name: str, rested: bool
) -> None:
    if rested:
        age(monkeypatch)
    first = home.put(album)[name]
    edit_in_secret(album / name)
    second = home.put(album)[name]
    assert isinstance(first, StoredImage) and isinstance(second, StoredImage)
    assert second.sha256 != first.sha256
    assert not second.already_stored


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened: list[str] = []
    original = Reader.__init__

    def noting(self: Any, source: Source) -> None:
        opened.append(source.name)
        original(self, source)

    monkeypatch.setattr(Reader, "__init__", noting)
    return opened


def test_the_cluster_is_asked_of_unchanged_files_of_any_length_all_at_once(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    home.put(album)
    home.cluster.messages.clear()
    again = home.put(album)
    assert all(isinstance(outcome, StoredImage) and outcome.already_stored for outcome in again.values())
    assert [operation for _, operation in home.cluster.messages] == [Operation.LOCATE]


def test_of_unchanged_files_those_are_stored_that_are_there_no_more(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    home.put(album / "long-0.png", album / "small-3.png")
    home.cluster.devices = MemoryCluster(N).devices
    assert stored(home.put(album)) == names(album)
    assert home.shares == N * len(names(album))


def test_a_file_at_rest_is_not_read_a_second_time_unless_that_is_wanted(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    home.put(album)
    opened = count_reads(monkeypatch)
    home.put(album)
    assert opened == []
    again = home.put(album, reread=True)
    assert set(opened) == names(album)
    assert all(isinstance(outcome, StoredImage) and outcome.already_stored for outcome in again.values())


def test_a_file_that_is_given_twice_is_told_of_twice_also_once_it_is_recognised(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    twice = [str(album / "small-0.png")] * 2
    for already in ([False, True], [True, True]):
        outcomes = run(put(home.cluster, OwnVault(home.vault, KEY), K, N, twice))
        assert [isinstance(outcome, StoredImage) and outcome.already_stored for outcome in outcomes] == already


def test_a_large_file_whose_stamp_is_in_doubt_is_read_and_not_sent_again(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of rights, or on a file system whose inodes are others each time."""
    monkeypatch.setattr(stream_module, "HASH_FIRST", 0)
    home.put(album)
    (album / "long-1.png").chmod(0o400)
    before = home.shares
    sent = Distribution.open

    async def never(self: Any, *arguments: object) -> None:
        raise AssertionError("it is sent")

    monkeypatch.setattr(Distribution, "open", never)
    again = home.put(album)
    monkeypatch.setattr(Distribution, "open", sent)
    assert all(isinstance(outcome, StoredImage) and outcome.already_stored for outcome in again.values())
    assert home.shares == before


# --- room


def test_what_found_no_room_beside_a_larger_one_is_tried_once_more(home: Home, tmp_path: Path) -> None:
    sizes = {"small": 100, "smaller": 10, "large": 3 * SEGMENT}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(chance(name, size))
    for device in home.cluster.devices:
        device.decline(Operation.OPEN, Code.NO_ROOM)
        device.decline(Operation.STORE, Code.NO_ROOM)
    outcomes = home.put(*(tmp_path / name for name in sizes))
    assert isinstance(outcomes["small"], StoredImage) and isinstance(outcomes["smaller"], StoredImage)
    assert isinstance(failed := outcomes["large"], FailedImage) and isinstance(failed.error, NoRoomError)
    assert all(device.asked[Operation.OPEN] == 1 for device in home.cluster.devices), "it cannot fit when all others do"


def test_where_the_smallest_does_not_fit_no_other_is_tried_again(home: Home, tmp_path: Path) -> None:
    paths = [tmp_path / f"{size}" for size in (300, 100, 200)]
    for path in paths:
        path.write_bytes(chance(path.name, int(path.name)))
    for device in home.cluster.devices:
        device.full = True
    outcomes = home.put(*paths)
    assert len(outcomes) == 3
    assert all(isinstance(o, FailedImage) and isinstance(o.error, NoRoomError) for o in outcomes.values())
    assert all(device.asked[Operation.STORE] == 2 for device in home.cluster.devices)


@pytest.mark.parametrize("size", [100, 3 * SEGMENT])
def test_where_no_broker_is_left_that_and_not_lost_shares_is_why_an_image_failed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "image").write_bytes(chance("image", size))
    for device in home.cluster.devices:
        device.die(Operation.STORE if size == 100 else Operation.APPEND)
    monkeypatch.setattr(home.cluster, "cause", lambda _, of: UnreachableError(f"{of}: no broker was reached for 120 s"))
    failed = home.put(tmp_path / "image")["image"]
    assert isinstance(failed, FailedImage) and isinstance(failed.error, UnreachableError)
    assert str(failed.error) == f"{tmp_path / 'image'}: no broker was reached for 120 s"
