"""Small images restored together: each is the image, whole and under its name, or left to whoever restores one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Union

import pytest

from common.erasure import ErasureCode
from common.errors import TesseraError, UnreachableError
from common.link.replies import DeclinedError
from common.protocol.device_messages import BlockName
from common.protocol.messages import Answer, Code, EncodingAt, ShareAt
from consumer import batch, output
from consumer.batch import MAX_SIZE, BatchRestorer, Damaged, SmallImage, fits
from consumer.output import Output
from tests.support.memory_cluster import run
from tests.support.sample_images import OTHER_KEY, EncodedImage, chance, device_of, encode

K, N = 3, 6
UNITS = 4 * MAX_SIZE // (K * 32)
IMAGES = [encode(chance(f"image {size}", size), K, N, UNITS) for size in (0, 1, 79, 80, 81, 10_000, MAX_SIZE)]
TOO_LARGE = encode(chance("large", MAX_SIZE + 1), K, N, UNITS)
TWO_SEGMENTS = encode(chance("two", 200), K, N)

Change = Callable[[BlockName, bytes], Union[bytes, TesseraError]]


class FakeDevices:
    """In place of `Devices`: answers with the blocks as they are, or as `change` has them; `silent` ones never do."""

    def __init__(self, change: Change = lambda _, block: block) -> None:
        self.change = change
        self.silent: set[bytes] = set()
        self.late: set[bytes] = set()
        self.asked: Counter[bytes] = Counter()  # messages

    def late_after(self, device: bytes) -> float:
        return 0.05 if self.silent else 30.0

    def slow(self) -> set[bytes]:
        return self.late

    def blocks(self, device: bytes, names: Sequence[BlockName], lengths: Sequence[int]) -> asyncio.Future[list[Any]]:
        self.asked[device] += 1
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if device not in self.silent:
            answer.set_result([self._answer(name, length) for name, length in zip(names, lengths)])
        return answer

    def _answer(self, name: BlockName, length: int) -> Union[memoryview, TesseraError]:
        (image,) = [image for image in IMAGES if image.encoding_id == name.encoding_id]
        block = image.blocks[name.segment][name.share]
        assert len(block) == length
        answer = self.change(name, block)
        return answer if isinstance(answer, TesseraError) else memoryview(answer)


def output_for(folder: Path, number: int) -> Callable[[], Output]:
    return lambda: Output(folder / f"{number}.jpg", replace=False)


def small(folder: Path, images: Sequence[EncodedImage] = IMAGES, **located: Any) -> list[SmallImage]:
    return [
        SmallImage(image.located(**located), image.trusted().mapping, output_for(folder, number))
        for number, image in enumerate(images)
    ]


def restore(
    devices: FakeDevices,
    images: Sequence[SmallImage],
    avoided: Sequence[bytes] = (),
    damaged: Damaged = lambda *_: None,
) -> list[bool]:
    async def restored() -> list[bool]:
        given: Any = devices
        paths = await BatchRestorer(given, ErasureCode, set(avoided)).restore(images, damaged)
        assert [path for path in paths if path is not None and not path.is_file()] == []
        return [path is not None for path in paths]

    return run(restored())


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expected(*numbers: int) -> dict[str, bytes]:
    return {f"{number}.jpg": IMAGES[number].content for number in numbers}


ALL = range(len(IMAGES))


def test_all_come_back_with_one_question_to_each_of_k_devices(tmp_path: Path) -> None:
    devices = FakeDevices()
    assert restore(devices, small(tmp_path)) == [True] * len(IMAGES)
    assert there(tmp_path) == expected(*ALL)
    assert devices.asked == {device_of(share): 1 for share in range(K)}


@pytest.mark.parametrize("missing", [{0}, {1, 2}, {0, 4, 5}, {0, 1, 2}])
def test_any_k_shares_do(tmp_path: Path, missing: set[int]) -> None:
    left = [share for share in IMAGES[0].located().shares if share.share not in missing]
    assert restore(FakeDevices(), small(tmp_path, shares=left)) == [True] * len(IMAGES)
    assert there(tmp_path) == expected(*ALL)


def test_each_share_of_which_its_device_says_that_it_is_damaged_is_told_of(tmp_path: Path) -> None:
    """Whoever restores the image by itself then may well ask other devices."""
    codes = {1: Code.DAMAGED, 2: Code.BUSY}

    def change(name: BlockName, block: bytes) -> Union[bytes, TesseraError]:
        is_changed = name.encoding_id == IMAGES[5].encoding_id and name.share in codes
        return DeclinedError(Answer(codes[name.share]), device_of(name.share)) if is_changed else block

    told: list[tuple[bytes, int, bytes]] = []
    restored = restore(
        FakeDevices(change),
        small(tmp_path),
        damaged=lambda image, share, error: told.append((image.encoding.encoding_id, share, error.device)),
    )
    assert restored == [number != 5 for number in ALL]
    assert told == [(IMAGES[5].encoding_id, 1, device_of(1))]


def test_slow_devices_and_those_that_gave_bad_blocks_are_not_asked(tmp_path: Path) -> None:
    devices = FakeDevices()
    devices.late = {device_of(0)}
    assert all(restore(devices, small(tmp_path), [device_of(2)]))
    assert devices.asked.keys() == {device_of(share) for share in (1, 3, 4)}
    devices.late = {device_of(share) for share in range(4)}
    assert restore(devices, small(tmp_path / "other")) == [False] * len(IMAGES)


def of(number: int, share: int, change: Change) -> Change:
    """The change of one block, all others as they are."""

    def changed(name: BlockName, block: bytes) -> Union[bytes, TesseraError]:
        mine = name.encoding_id == IMAGES[number].encoding_id and name.share == share
        return change(name, block) if mine else block

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda _, block: bytes([block[0] ^ 1]) + block[1:],
        lambda _, block: block[:-1],
        lambda _, block: block + b"\0",
        lambda _, block: b"",
        lambda name, _: IMAGES[5].blocks[0][(name.share + 1) % K],
        lambda *_: DeclinedError(Answer(Code.DAMAGED), device_of(1)),
        lambda *_: UnreachableError("gone"),
    ],
)
def test_a_bad_or_missing_block_costs_its_image_only_and_leaves_no_file_of_it(tmp_path: Path, change: Change) -> None:
    restored = restore(FakeDevices(of(5, 1, change)), small(tmp_path))
    assert restored == [number != 5 for number in ALL]
    assert there(tmp_path) == expected(*(number for number in ALL if number != 5))


def test_a_device_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    devices = FakeDevices()
    devices.silent = {device_of(1)}
    assert restore(devices, small(tmp_path)) == [False] * len(IMAGES)
    assert there(tmp_path) == {}


def test_what_is_not_the_image_that_its_mapping_names_gets_no_name(tmp_path: Path) -> None:
    images = small(tmp_path)
    others = IMAGES[5].with_mapping(image_sha256=bytes(32)).mapping
    images[5] = SmallImage(images[5].encoding, others, images[5].open)
    assert restore(FakeDevices(), images) == [number != 5 for number in ALL]
    assert there(tmp_path) == expected(*(number for number in ALL if number != 5))


def test_a_file_that_came_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    images = small(tmp_path)
    (tmp_path / "3.jpg").write_bytes(b"another's")
    assert restore(FakeDevices(), images) == [number != 3 for number in ALL]
    assert there(tmp_path) == {**expected(*ALL), "3.jpg": b"another's"}


@pytest.mark.parametrize("fails", ["write", "sync"])
def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    if fails == "write":
        monkeypatch.setattr(batch, "_opened", lambda *_: Refused())
    else:
        monkeypatch.setattr(output, "sync_files", lambda files: [OSError(5, "Input/output error")] * len(files))
    assert restore(FakeDevices(), small(tmp_path)) == [False] * len(IMAGES)
    assert there(tmp_path) == {}


class Refused:
    """Content that no disk takes."""

    def __bool__(self) -> bool:
        raise OSError(28, "No space left on device")


def test_a_restore_that_is_cancelled_leaves_nothing_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, goes_on = threading.Event(), threading.Event()
    opened = batch._opened

    def slowly(*arguments: Any) -> memoryview:
        began.set()
        assert goes_on.wait(20)
        return opened(*arguments)

    monkeypatch.setattr(batch, "_opened", slowly)

    async def cancelled() -> None:
        devices: Any = FakeDevices()
        task = asyncio.ensure_future(
            BatchRestorer(devices, ErasureCode, set()).restore(small(tmp_path), lambda *_: None)
        )
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, goes_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert there(tmp_path) == expected(*ALL)  # nothing between


def test_what_is_longer_or_damaged_or_not_as_the_catalog_says_is_not_for_a_batch() -> None:
    def is_for(image: EncodedImage, encoding: EncodingAt) -> bool:
        return fits(encoding, image.trusted().mapping)

    assert all(is_for(image, image.located()) for image in IMAGES)
    assert not is_for(TOO_LARGE, TOO_LARGE.located())
    assert not is_for(TWO_SEGMENTS, TWO_SEGMENTS.located())
    damaged = [ShareAt(share, device_of(share), share != 4, True) for share in range(N)]
    assert not is_for(IMAGES[5], IMAGES[5].located(shares=damaged))
    assert not is_for(IMAGES[5], IMAGES[5].located(k=K - 1))
    assert not is_for(IMAGES[5], IMAGES[5].located(n=N + 1))


def test_blocks_of_a_stranger_s_encoding_give_nothing(tmp_path: Path) -> None:
    content = IMAGES[5].content
    strangers = encode(content, K, N, UNITS, key=OTHER_KEY).blocks[0]
    devices = FakeDevices(lambda name, block: strangers[name.share] if len(block) == len(strangers[0]) else block)
    assert restore(devices, small(tmp_path)) == [number != 5 for number in ALL]
