"""An image goes in and comes out the same, byte for byte: seal → encode, then decode → open → verify."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from pathlib import Path
from typing import IO, Any, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.coding.slicing import BLOCK_SIZE, TAG_SIZE
from common.errors import NotEnoughError, NotFoundError, TesseraError
from common.protocol.codec import MAX_PAYLOAD, pack_header
from common.protocol.device_messages import Stored
from common.protocol.envelope import Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import GRANTED, BadShare
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.mapping import Mapping
from consumer.events import Event, Missing, NotRestored, Restored
from consumer.output import Output
from consumer.restorer import Restorer, restore_all
from consumer.restoring import Restoring
from producer.events import FailedImage, LeftOut, Outcome, SkippedFile, StoredImage
from producer.owner import OwnVault
from tests.support.memory_cluster import ClusterDevice, Interception, MemoryCluster, run
from tests.support.memory_device import HeldShare
from tests.support.putting import put
from tests.support.sample_images import KEY, OTHER_KEY, EncodedImage, chance, encode, segment_size

SEGMENT = 2 * BLOCK_SIZE - TAG_SIZE  # bytes of the image in a segment of 2 of n


class GoodBlocks:
    """In place of `Gathering`: the blocks of the shares that are left."""

    def __init__(self, image: EncodedImage, left: list[int]) -> None:
        self.recipe = image.recipe
        self._image = image
        self._left = left

    async def segment(self, segment: int, here: Optional[dict[int, memoryview]] = None) -> dict[int, memoryview]:
        await asyncio.sleep(0)
        return {share: memoryview(self._image.blocks[segment][share]) for share in self._left}


class Target:
    """In place of `Output`: a file in memory."""

    place = "memory"

    def __init__(self) -> None:
        self.file: IO[bytes] = io.BytesIO()
        self.discarded = False

    def discard(self) -> None:
        self.discarded = True


def restore(image: EncodedImage, left: list[int]) -> Target:
    """Restore from the shares that are left."""
    target = Target()
    gathering: Any = GoodBlocks(image, left)
    run(Restoring(image.code, gathering, image.proven()).write_to(target, lambda _: None))
    return target


def content_of(target: Target) -> bytes:
    target.file.seek(0)
    return target.file.read()


@st.composite
def _encoded_with_shares_left(draw: st.DrawFn) -> tuple[EncodedImage, list[int]]:
    n = draw(st.integers(2, 20))
    k = draw(st.integers(2, n))
    units = draw(st.integers(1, 3))
    size = draw(st.integers(0, 4)) * segment_size(k, n, units) + draw(st.integers(-20, 20))
    left = draw(st.lists(st.integers(0, n - 1), unique=True, min_size=k, max_size=k))
    return encode(chance(f"{n} {size}", max(0, size)), k, n, units), left


@pytest.mark.one_python
@given(_encoded_with_shares_left())
@settings(max_examples=60)
def test_any_k_of_n_shares_give_the_image_back(encoded: tuple[EncodedImage, list[int]]) -> None:
    image, left = encoded
    target = restore(image, left)
    assert content_of(target) == image.content
    assert not target.discarded


def test_all_ways_to_lose_two_of_six_give_the_image_back() -> None:
    image = encode(chance("image", 3 * segment_size(4, 6) + 50), 4, 6)
    for left in itertools.combinations(range(6), 4):
        assert content_of(restore(image, list(left))) == image.content, left


@given(st.integers(0, 2), st.integers(0, 3), st.integers(0, 63), st.integers(1, 255))
def test_a_block_that_was_changed_unnoticed_leaves_no_file(segment: int, share: int, at: int, change: int) -> None:
    """Even where the digests were right, as they'd be in a recipe that somebody forged."""
    image = encode(chance("image", 3 * segment_size(2, 4)), 2, 4)
    block = bytearray(image.blocks[segment][share])
    block[at] ^= change
    image.blocks[segment][share] = bytes(block)
    target = Target()
    gathering: Any = GoodBlocks(image, [share, (share + 1) % 4])
    with pytest.raises(TesseraError):
        run(Restoring(image.code, gathering, image.proven()).write_to(target, lambda _: None))
    assert target.discarded


# --- a whole put and get, over a cluster in memory


class Home:
    """One machine with a vault: a producer and a consumer beside a cluster in memory."""

    def __init__(self, folder: Path, cluster: MemoryCluster, k: int = 2, n: int = 4) -> None:
        self.folder = folder
        self.cluster = cluster
        self.vault = VaultFolder(folder / "home")
        self.k, self.n = k, n
        self.bad_shares: list[str] = []
        self.told: list[Union[Restored, NotRestored]] = []

    def put(self, *arguments: Path, images_only: bool = False) -> list[Outcome]:
        owner, sources = OwnVault(self.vault, KEY), [str(argument) for argument in arguments]
        return run(put(self.cluster, owner, self.k, self.n, sources, images_only=images_only))

    def get(self, sha256: bytes, target: Path) -> Restored:
        return run(self._get(sha256, target))

    async def _get(self, sha256: bytes, target: Path) -> Restored:
        repository = self._repository()
        return await self._restorer(repository).restore(
            await repository.locate(sha256), sha256.hex(), lambda _: Output(target, replace=False)
        )

    def get_all(self, folder: Path) -> list[Union[Restored, NotRestored]]:
        return run(self._get_all(folder))

    async def _get_all(self, folder: Path) -> list[Union[Restored, NotRestored]]:
        repository = self._repository()

        def open_output(mapping: Mapping) -> Output:
            return Output(folder / mapping.name, replace=False)

        images = {image.sha256: image.encodings for image in (await repository.holdings()).images}
        await restore_all(self._restorer(repository), images, open_output)
        return self.told

    def _repository(self) -> Repository:
        return Repository(self.cluster.link, self.vault, KEY)

    def _restorer(self, repository: Repository) -> Restorer:
        def take(event: Event) -> None:
            if isinstance(event, Missing):
                self.bad_shares.append(event.device)
            elif isinstance(event, (Restored, NotRestored)):
                self.told.append(event)

        return Restorer(repository, take)


def write(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).digest()


def stored(outcomes: list[Outcome]) -> dict[str, StoredImage]:
    """By file name; all of them have to be stored."""
    assert [outcome for outcome in outcomes if not isinstance(outcome, StoredImage)] == []
    return {Path(o.shown).name: o for o in outcomes if isinstance(o, StoredImage)}


SIZES = [0, 1, 30_000, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 5]


def test_images_of_every_kind_of_size_come_back_from_any_two_devices(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    hashes = {size: write(tmp_path / "in" / str(size), chance("content", size)) for size in SIZES}
    outcomes = stored(home.put(tmp_path / "in"))
    assert {name: outcome.sha256 for name, outcome in outcomes.items()} == {str(s): h for s, h in hashes.items()}
    for dead in (0, 3):
        home.cluster.devices[dead].alive = False
    for size, sha256 in hashes.items():
        restored = home.get(sha256, tmp_path / f"{size}.out")
        assert (restored.size, restored.name) == (size, str(size))
        assert (tmp_path / f"{size}.out").read_bytes() == chance("content", size)


def test_no_device_ever_sees_the_image_its_name_or_its_hash(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    content = b"a very private picture " * 5000
    sha256 = write(tmp_path / "wedding.png", content)
    home.put(tmp_path / "wedding.png")
    seen = b"".join(
        block
        for holders in home.cluster.holdings().values()
        for _, held in holders
        if held.commitment is not None
        for block in (*held.blocks.values(), held.commitment.mapping, held.commitment.recipe, held.commitment.object_id)
    )
    assert seen
    for secret in (b"private", b"wedding", sha256, sha256.hex().encode()):
        assert secret not in seen


def test_a_device_never_holds_two_shares_of_an_encoding(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(6))
    write(tmp_path / "in" / "small", chance("small", 100))
    write(tmp_path / "in" / "large", chance("large", SEGMENT + 100))
    home.put(tmp_path / "in")
    for device in home.cluster.devices:
        encodings = [encoding_id for encoding_id, _ in device.shares]
        assert len(set(encodings)) == len(encodings)


def test_the_same_image_again_is_recognised_and_sent_nowhere(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    write(tmp_path / "small", chance("small", 100))
    write(tmp_path / "large", chance("large", SEGMENT + 100))
    write(tmp_path / "renamed", chance("small", 100))
    home.put(tmp_path / "small", tmp_path / "large")
    home.cluster.messages.clear()
    outcomes = stored(home.put(tmp_path / "small", tmp_path / "large", tmp_path / "renamed"))
    assert all(outcome.already_stored for outcome in outcomes.values())
    to_devices = {Operation.OPEN, Operation.APPEND, Operation.STORE, Operation.COMMIT}
    assert not to_devices & {operation for _, operation in home.cluster.messages}


@pytest.mark.parametrize("size", [1000, SEGMENT + 100])
def test_what_is_no_image_is_skipped_without_a_word_to_any_device(size: int, tmp_path: Path) -> None:
    cluster = MemoryCluster(4)
    path = tmp_path / "notes.txt"
    write(path, bytes(size))
    assert Home(tmp_path, cluster).put(path, images_only=True) == [SkippedFile(str(path), LeftOut.NO_IMAGE)]
    assert not any(device.asked for device in cluster.devices)


def test_twins_in_one_run_are_stored_once(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    for name in ("one", "two", "three"):
        write(tmp_path / "in" / name, chance("same", 5000))
    outcomes = stored(home.put(tmp_path / "in"))
    assert sorted(outcome.already_stored for outcome in outcomes.values()) == [False, True, True]
    assert len(home.cluster.encodings()) == 1


def test_a_file_that_vanished_costs_itself_and_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    write(tmp_path / "there", b"there")
    outcomes = home.put(tmp_path / "gone", tmp_path / "there")
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedImage)]
    assert [(type(f.error), Path(f.shown).name) for f in failed] == [(NotFoundError, "gone")]
    assert stored([outcome for outcome in outcomes if outcome not in failed]).keys() == {"there"}


def test_a_name_that_is_not_unicode_is_stored_and_recognised_like_any_other(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    path = tmp_path / "caf\udce9.png"  # Latin-1, as many an old disk has it
    try:
        sha256 = write(path, b"old")
    except OSError:
        pytest.skip("this file system holds Unicode names only")
    (first,) = stored(home.put(path)).values()
    (again,) = stored(home.put(path)).values()
    assert (first.already_stored, again.already_stored) == (False, True)
    assert home.get(sha256, tmp_path / "out").name == "caf?.png"


def test_many_small_images_travel_in_few_messages(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    for number in range(100):
        write(tmp_path / "in" / str(number), chance(f"small {number}", 3000 + number))
    stored(home.put(tmp_path / "in"))
    stores = [device for device, operation in home.cluster.messages if operation is Operation.STORE]
    assert len(stores) == 4 * 2, "two batches to four devices"
    home.cluster.messages.clear()
    (tmp_path / "out").mkdir()
    restored = home.get_all(tmp_path / "out")
    assert [outcome for outcome in restored if isinstance(outcome, NotRestored)] == []
    fetches = [device for device, operation in home.cluster.messages if operation is Operation.FETCH]
    assert len(fetches) <= 16, "two data shares, each once or a few times"
    for number in range(100):
        assert (tmp_path / "out" / str(number)).read_bytes() == chance(f"small {number}", 3000 + number)


@pytest.mark.parametrize("size", [3000, SEGMENT + 3000])
def test_a_device_without_room_costs_its_share_and_there_is_a_spare(size: int, tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(5))
    home.cluster.devices[1].full = True
    sha256 = write(tmp_path / "image", chance("content", size))
    (outcome,) = stored(home.put(tmp_path / "image")).values()
    assert sorted(str(name) for name in outcome.devices) == ["device-1", "device-3", "device-4", "device-5"]
    assert home.get(sha256, tmp_path / "out").troubles == []


@pytest.mark.parametrize("size", [3000, SEGMENT + 3000])
def test_without_a_spare_it_is_stored_degraded_and_says_so(size: int, tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    home.cluster.devices[1].full = True
    sha256 = write(tmp_path / "image", chance("content", size))
    (outcome,) = stored(home.put(tmp_path / "image")).values()
    assert outcome.degraded
    assert outcome.devices == ["device-1", None, "device-3", "device-4"]
    home.get(sha256, tmp_path / "out")


@pytest.mark.parametrize("size", [3000, SEGMENT + 3000])
def test_with_too_few_devices_left_nothing_is_stored(size: int, tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    for device in home.cluster.devices[:2]:
        device.die(Operation.OPEN if size > SEGMENT else Operation.STORE)
    write(tmp_path / "image", chance("content", size))
    (outcome,) = home.put(tmp_path / "image")
    assert isinstance(outcome, FailedImage)
    assert isinstance(outcome.error, NotEnoughError)
    assert "2 of the at least 3" in str(outcome.error)


def test_a_device_that_answers_nonsense_costs_its_share_only(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(5))
    fewer = pack_header(Stored(GRANTED, []))  # shares than were sent
    home.cluster.devices[1].intercept(Operation.STORE, lambda header, payload: (fewer, b""))
    sha256 = write(tmp_path / "image", b"content")
    (outcome,) = stored(home.put(tmp_path / "image")).values()
    assert "device-5" in outcome.devices
    assert "device-2" not in outcome.devices
    home.get(sha256, tmp_path / "out")


def test_with_one_share_too_few_the_image_does_not_come_back_and_no_file_is_left(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    sha256 = write(tmp_path / "image", chance("content", SEGMENT + 3000))
    home.put(tmp_path / "image")
    for device in home.cluster.devices[:3]:
        device.alive = False
    with pytest.raises(NotEnoughError, match="1 of its shares are at hand and 2 are needed"):
        home.get(sha256, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize("size", [3000, SEGMENT + 3000])
def test_a_share_with_a_flipped_byte_is_replaced_and_its_device_named(size: int, tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    sha256 = write(tmp_path / "image", chance("content", size))
    home.put(tmp_path / "image")
    (key,) = home.cluster.devices[1].shares
    home.cluster.devices[1].damage(key)
    restored = home.get(sha256, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == chance("content", size)
    assert [trouble.split(":")[0] for trouble in restored.troubles] == ["device-2"]
    assert any("device-2" in bad for bad in home.bad_shares)


@pytest.mark.parametrize("takes_reports", [True, False])
@pytest.mark.parametrize("size", [3000, SEGMENT + 3000])
def test_a_bad_share_is_reported_to_the_broker_whatever_it_makes_of_that(
    size: int, takes_reports: bool, tmp_path: Path
) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    home.cluster.takes_reports = takes_reports
    sha256 = write(tmp_path / "image", chance("content", size))
    home.put(tmp_path / "image")
    device = home.cluster.devices[1]
    ((encoding_id, share),) = device.shares
    device.lies = True
    home.get(sha256, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == chance("content", size)
    expected = [BadShare(encoding_id, share, device.device_id)]
    assert home.cluster.bad_shares == (expected if takes_reports else [])


def test_with_good_shares_nothing_is_reported(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    sha256 = write(tmp_path / "image", chance("content", 3000))
    home.put(tmp_path / "image")
    home.cluster.devices[1].die(Operation.FETCH)
    home.get(sha256, tmp_path / "out")
    assert (BROKER, Operation.REPORT_BAD) not in home.cluster.messages


def test_shares_of_another_encoding_in_place_of_ones_own_are_replaced(tmp_path: Path) -> None:
    """As when an older copy of a device's disk was put back."""
    home = Home(tmp_path, MemoryCluster(4))
    sha256 = write(tmp_path / "image", chance("content", SEGMENT + 3000))
    home.put(tmp_path / "image")
    device = home.cluster.devices[0]
    ((encoding_id, share),) = device.shares
    older = encode(chance("content", SEGMENT + 3000), 2, 4, units=BLOCK_SIZE // 32)
    device.hold(share, HeldShare(KEY.owner_id(), {s: row[share] for s, row in enumerate(older.blocks)}, older.signed))
    for operation in (Operation.FETCH, Operation.DESCRIBE):
        device.intercept(operation, substitute(device, operation, encoding_id, older.encoding_id))
    restored = home.get(sha256, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == chance("content", SEGMENT + 3000)
    assert {trouble.split(":")[0] for trouble in restored.troubles} == {"device-1"}


def substitute(device: ClusterDevice, operation: Operation, asked: bytes, instead: bytes) -> Interception:
    return lambda header, payload: device.ask(operation, header.replace(asked, instead), payload, owner=KEY.owner_id())


def test_another_vault_finds_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(4))
    sha256 = write(tmp_path / "image", b"content")
    home.put(tmp_path / "image")
    stranger = Repository(home.cluster.link, VaultFolder(tmp_path / "stranger"), OTHER_KEY)
    with pytest.raises(NotFoundError):
        run(stranger.locate(sha256))


def test_no_message_is_larger_than_the_protocol_allows_with_the_largest_n(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryCluster(20), k=10, n=20)
    content = chance("content", 3 * MAX_PAYLOAD)
    sha256 = write(tmp_path / "image", content)
    stored(home.put(tmp_path / "image"))
    home.get(sha256, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
