"""Gathering a segment's blocks from devices that are late, bad or gone: k good ones, or the right error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping as Rules
from typing import Any, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntegrityError, NotEnoughError, TesseraError, UnreachableError
from common.link.replies import DeclinedError
from common.protocol.device_messages import BlockName, ShareName
from common.protocol.messages import Answer, Code, EncodingAt, ShareAt
from common.repository.devices import Description
from consumer.gathering import Gathering
from tests.support.memory_cluster import run
from tests.support.sample_images import KEY, OTHER_KEY, chance, device_of, encode, segment_size

K, N, SEGMENTS = 3, 6, 3
IMAGE = encode(chance("image", SEGMENTS * segment_size(K, N)), K, N)
OTHER = encode(chance("image", SEGMENTS * segment_size(K, N)), K, N)
SMALL = encode(chance("small", 100), K, N)
STRANGERS = encode(IMAGE.content, K, N, key=OTHER_KEY)

GOOD, FLIPPED, SHORT, ANOTHER = "good", "flipped", "short", "another segment's"
DAMAGED, GONE, SILENT, NOT_FOUND = "damaged", "gone", "silent", "not found"
DAMAGE = [FLIPPED, SHORT, ANOTHER, DAMAGED]
ABSENCE = [GONE, SILENT, NOT_FOUND]
_CODES = {DAMAGED: Code.DAMAGED, GONE: Code.GONE, NOT_FOUND: Code.NOT_FOUND}


class FakeDevices:
    """In place of `Devices`: each answers after some turns of the loop, as it is told."""

    def __init__(self, conduct: Rules[int, str], late: Rules[int, int], descriptions: Rules[int, Description]) -> None:
        self._conduct = {device_of(share): what for share, what in conduct.items()}
        self._late = {device_of(share): turns for share, turns in late.items()}
        self._descriptions = {device_of(share): description for share, description in descriptions.items()}
        self.image = IMAGE
        self.patient_for = 60.0  # seconds
        self.asked: Counter[bytes] = Counter()
        self.answered: set[bytes] = set()
        self.under_way = 0
        self.most_under_way = 0

    def late_after(self, device: bytes) -> float:
        return self.patient_for

    def slow(self) -> set[bytes]:
        return set()

    def block(self, device: bytes, name: BlockName, length: int) -> asyncio.Future[memoryview]:
        return asyncio.ensure_future(self._block(device, name, length))

    def description(
        self, device: bytes, name: ShareName, reply_bytes: int, *, with_recipe: bool
    ) -> asyncio.Future[Description]:
        return asyncio.ensure_future(self._description(device, name, reply_bytes, with_recipe))

    async def _block(self, device: bytes, name: BlockName, length: int) -> memoryview:
        self.asked[device] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            for _ in range(self._late.get(device, 0)):
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        self.answered.add(device)
        assert length == self.image.recipe.block_length(name.segment)
        return memoryview(self._answer(device, name))

    def _answer(self, device: bytes, name: BlockName) -> bytes:
        what = self._conduct.get(device, GOOD)
        block = self.image.blocks[name.segment][name.share]
        if what in _CODES:
            raise DeclinedError(Answer(_CODES[what]), device)
        if what == SILENT:
            raise UnreachableError("no answer from a device")
        if what == ANOTHER:
            return IMAGE.blocks[(name.segment + 1) % SEGMENTS][name.share]
        changed = {FLIPPED: bytes([block[0] ^ 1]) + block[1:], SHORT: block[:-1]}
        return changed.get(what, block)

    async def _description(self, device: bytes, name: ShareName, reply_bytes: int, with_recipe: bool) -> Description:
        self.asked[device] += 1
        await asyncio.sleep(0)
        assert with_recipe
        description = self._descriptions.get(device, RIGHT)
        assert len(description.mapping) + len(description.recipe) <= reply_bytes
        self._answer(device, BlockName(name.encoding_id, name.share, 0))
        return description


RIGHT = Description(IMAGE.commitment.mapping, IMAGE.commitment.recipe)


class Scene:
    """A gathering from six devices, and what it tells the user."""

    def __init__(
        self,
        conduct: Optional[Rules[int, str]] = None,
        late: Optional[Rules[int, int]] = None,
        descriptions: Optional[Rules[int, Description]] = None,
        encoding: Optional[EncodingAt] = None,
    ) -> None:
        self.devices = FakeDevices(conduct or {}, late or {}, descriptions or {})
        self.told: list[tuple[bytes, str]] = []
        fake: Any = self.devices
        self.gathering = Gathering(
            fake, encoding or IMAGE.located(), lambda device, text: self.told.append((device, text))
        )

    @property
    def blamed(self) -> set[int]:
        return {share for share in range(N) for device, _ in self.told if device == device_of(share)}

    async def prove(self, kept: bool = True) -> None:
        mapping = IMAGE.trusted().mapping if kept else None
        image = await self.gathering.prove(KEY, mapping, IMAGE.code.block_unit)
        assert image.mapping == IMAGE.trusted().mapping
        assert self.gathering.recipe == IMAGE.recipe
        self.told.clear()
        self.devices.asked.clear()

    async def segments(self) -> list[dict[int, memoryview]]:
        return [await self.gathering.segment(segment) for segment in range(SEGMENTS)]


def proven(*arguments: Any, **keywords: Any) -> Scene:
    """A gathering whose recipe is proven already: only blocks are asked for from here on."""
    scene = Scene(*arguments, **keywords)
    conduct, scene.devices._conduct = scene.devices._conduct, {}
    run(scene.prove())
    scene.devices._conduct = conduct
    return scene


def assert_good(gathered: list[dict[int, memoryview]]) -> None:
    for segment, blocks in enumerate(gathered):
        assert len(blocks) == K
        assert {share: bytes(block) for share, block in blocks.items()} == {
            share: IMAGE.blocks[segment][share] for share in blocks
        }


# --- blocks before the recipe


class SmallScene(Scene):
    """Of an image of one segment, whose blocks are asked for before the recipe is here."""

    def __init__(self, conduct: Optional[Rules[int, str]] = None, late: Optional[Rules[int, int]] = None) -> None:
        right = Description(SMALL.commitment.mapping, SMALL.commitment.recipe)
        super().__init__(conduct, late, dict.fromkeys(range(N), right), SMALL.located())
        self.devices.image = SMALL

    async def gather(self) -> dict[int, memoryview]:
        mapping, unit = SMALL.trusted().mapping, SMALL.code.block_unit
        self.gathering.fetch_early(mapping, unit)
        await self.gathering.prove(KEY, mapping, unit)
        self.early = self.devices.answered.copy()
        return await self.gathering.segment(0)


@pytest.mark.parametrize("bad", [None, *DAMAGE, GONE, SILENT], ids=str)
def test_early_blocks_are_checked_as_others_are(bad: Optional[str]) -> None:
    scene = SmallScene({} if bad is None else {1: bad})
    blocks = run(scene.gather())
    assert {share: bytes(block) for share, block in blocks.items()} == {
        share: SMALL.blocks[0][share] for share in blocks
    }
    assert blocks.keys() == ({0, 1, 2} if bad is None else {0, 2, 3})
    assert scene.blamed == (set() if bad is None else {1})
    assert scene.early >= {device_of(share) for share in (0, 2)}, "before anybody waited for them"
    asked = {share: scene.devices.asked[device_of(share)] for share in range(K)}
    assert asked == {0: 2, 1: 1, 2: 1}, "one also for the recipe, and none twice"


def test_nothing_is_asked_early_of_an_image_of_several_segments() -> None:
    scene = Scene()

    async def begin() -> None:
        scene.gathering.fetch_early(IMAGE.trusted().mapping, IMAGE.code.block_unit)
        await asyncio.sleep(0)

    run(begin())
    assert not scene.devices.asked


# --- blocks


def test_with_all_devices_there_only_the_k_data_shares_are_asked() -> None:
    scene = proven()
    gathered = run(scene.segments())
    assert_good(gathered)
    assert [set(blocks) for blocks in gathered] == [set(range(K))] * SEGMENTS
    assert scene.devices.asked == {device_of(share): SEGMENTS for share in range(K)}
    assert scene.told == []


@pytest.mark.parametrize("conduct", DAMAGE + ABSENCE)
def test_a_share_that_is_bad_or_gone_is_replaced_and_its_device_named(conduct: str) -> None:
    scene = proven({1: conduct})
    gathered = run(scene.segments())
    assert_good(gathered)
    assert scene.blamed == {1}
    assert all(text.startswith("share 1: ") for _, text in scene.told)


@pytest.mark.parametrize("conduct", DAMAGE)
def test_where_only_damage_is_in_the_way_the_image_is_damaged(conduct: str) -> None:
    scene = proven({share: conduct for share in range(N - K + 1)})
    with pytest.raises(IntegrityError, match="2 good blocks of segment 0 are to be had; 3 are needed"):
        run(scene.segments())
    assert scene.blamed == set(range(N - K + 1))


@pytest.mark.parametrize("conduct", ABSENCE)
def test_where_devices_are_gone_there_are_not_enough(conduct: str) -> None:
    scene = proven({share: conduct for share in range(N - K + 1)})
    with pytest.raises(NotEnoughError, match="2 good blocks of segment 0 are to be had; 3 are needed"):
        run(scene.segments())
    assert scene.blamed == set(range(N - K + 1))


def test_a_device_that_is_gone_is_asked_once_for_the_whole_image() -> None:
    scene = proven({0: GONE, 2: SILENT})
    assert_good(run(scene.segments()))
    assert scene.devices.asked[device_of(0)] == 1
    assert scene.devices.asked[device_of(2)] == 1


def test_one_bad_block_does_not_cost_the_rest_of_the_share() -> None:
    scene = proven({0: FLIPPED})

    async def gather() -> None:
        assert_good([await scene.gathering.segment(0)])
        scene.devices._conduct = {device_of(share): GONE for share in (1, 2, 3)}
        blocks = await scene.gathering.segment(1)
        assert set(blocks) == {0, 4, 5}

    run(gather())


def test_an_error_does_not_leave_questions_under_way() -> None:
    scene = proven({share: GONE for share in range(1, N)}, late={0: 1000})

    async def gather() -> None:
        with pytest.raises(NotEnoughError):
            await scene.gathering.segment(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(gather())
    assert scene.devices.under_way == 0


def test_giving_up_a_segment_gives_up_its_questions() -> None:
    scene = proven(late=dict.fromkeys(range(N), 1000))

    async def gather() -> None:
        task = asyncio.ensure_future(scene.gathering.segment(0))
        while scene.devices.under_way < K:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(0)

    run(gather())
    assert scene.devices.under_way == 0


def test_segments_may_be_gathered_at_the_same_time() -> None:
    scene = proven({0: FLIPPED, 4: GONE}, late={1: 3, 2: 9})

    async def gather() -> list[dict[int, memoryview]]:
        return list(await asyncio.gather(*(scene.gathering.segment(segment) for segment in range(SEGMENTS))))

    assert_good(run(gather()))
    assert scene.blamed <= {0, 4}


@given(
    st.lists(st.sampled_from([GOOD] * 4 + DAMAGE + ABSENCE), min_size=N, max_size=N),
    st.lists(st.integers(0, 6), min_size=N, max_size=N),
)
def test_whoever_is_late_bad_or_gone_there_are_k_good_blocks_or_the_right_error(
    conduct: list[str], late: list[int]
) -> None:
    scene = proven(dict(enumerate(conduct)), late=dict(enumerate(late)))
    bad = {share for share in range(N) if conduct[share] != GOOD}
    faults = {conduct[share] for share in bad}
    try:
        assert_good(run(scene.segments()))
        assert N - len(bad) >= K
    except NotEnoughError:
        assert N - len(bad) < K
        assert faults & set(ABSENCE)
    except IntegrityError:
        assert N - len(bad) < K
        assert faults & set(DAMAGE)
    assert scene.blamed == {share for share in bad if device_of(share) in scene.devices.answered}
    assert scene.devices.most_under_way <= K


# --- what the catalog says


def located(*shares: ShareAt) -> EncodingAt:
    return IMAGE.located(shares=list(shares))


def test_shares_that_are_known_to_be_damaged_are_not_asked_but_named() -> None:
    encoding = located(*(ShareAt(share, device_of(share), share != 1, True) for share in range(N)))
    scene = Scene(encoding=encoding)
    assert scene.told == [(device_of(1), "share 1 is damaged")]
    run(scene.prove())
    assert_good(run(scene.segments()))
    assert scene.devices.asked[device_of(1)] == 0


def test_devices_that_are_not_connected_are_neither_asked_nor_blamed() -> None:
    encoding = located(*(ShareAt(share, device_of(share), True, share not in (0, 2)) for share in range(N)))
    scene = proven(encoding=encoding)
    assert_good(run(scene.segments()))
    assert scene.devices.asked[device_of(0)] == scene.devices.asked[device_of(2)] == 0
    assert scene.told == []


@pytest.mark.parametrize("alive", [True, False])
def test_damage_is_told_from_absence_by_whether_a_share_is_missing(alive: bool) -> None:
    """Another device could still bring the share that is missing: then it is not beyond repair."""
    shares = [ShareAt(share, device_of(share), True, share != 5 or alive) for share in range(N)]
    scene = proven(dict.fromkeys(range(5), FLIPPED), encoding=located(*shares))
    with pytest.raises(IntegrityError if alive else NotEnoughError):
        run(scene.segments())


def test_a_share_that_nobody_announced_counts_as_missing() -> None:
    shares = [ShareAt(share, device_of(share), True, True) for share in range(N - 1)]
    scene = proven(dict.fromkeys(range(N), FLIPPED), encoding=located(*shares))
    with pytest.raises(NotEnoughError):
        run(scene.segments())


def test_a_share_on_two_devices_is_taken_from_the_second_when_the_first_is_bad() -> None:
    second = [ShareAt(0, device_of(0), True, True), ShareAt(0, device_of(5), True, True)]
    others = [ShareAt(share, device_of(share), True, True) for share in (1, 2)]
    scene = proven({0: FLIPPED}, encoding=located(*second, *others))
    assert_good(run(scene.segments()))
    assert scene.blamed == {0}


# --- mapping and recipe


@pytest.mark.parametrize("kept", [True, False])
def test_mapping_and_recipe_come_from_the_first_device_that_has_good_ones(kept: bool) -> None:
    scene = Scene()
    run(scene.gathering.prove(KEY, IMAGE.trusted().mapping if kept else None, IMAGE.code.block_unit))
    assert scene.devices.asked == {device_of(0): 1}
    assert scene.told == []


def test_a_late_device_and_the_one_asked_in_its_place_may_answer_in_the_same_moment() -> None:
    scene = Scene()
    scene.devices.patient_for = 0.0
    run(scene.prove())
    assert scene.told == []


BAD_DESCRIPTIONS = {
    "a cut recipe": Description(RIGHT.mapping, RIGHT.recipe[:-1]),
    "no recipe": Description(RIGHT.mapping, b""),
    "another encoding's recipe": Description(RIGHT.mapping, OTHER.commitment.recipe),
    "another encoding's mapping and recipe": Description(OTHER.commitment.mapping, OTHER.commitment.recipe),
}
BAD_MAPPINGS = {
    "a flipped byte": Description(RIGHT.mapping[:-1] + bytes([RIGHT.mapping[-1] ^ 1]), RIGHT.recipe),
    "an empty mapping": Description(b"", RIGHT.recipe),
    "another vault's mapping": Description(STRANGERS.commitment.mapping, RIGHT.recipe),
}


@pytest.mark.parametrize(
    "bad", [*BAD_DESCRIPTIONS.values(), *BAD_MAPPINGS.values()], ids=[*BAD_DESCRIPTIONS, *BAD_MAPPINGS]
)
def test_a_device_with_a_bad_mapping_or_recipe_is_named_and_the_next_one_asked(bad: Description) -> None:
    scene = Scene(descriptions={0: bad, 1: bad})
    run(scene.gathering.prove(KEY, None, IMAGE.code.block_unit))
    assert scene.blamed == {0, 1}
    assert_good(run(scene.segments()))


@pytest.mark.parametrize("bad", BAD_DESCRIPTIONS.values(), ids=list(BAD_DESCRIPTIONS))
def test_a_kept_mapping_does_not_make_a_bad_recipe_good(bad: Description) -> None:
    scene = Scene(descriptions=dict.fromkeys(range(N), bad))
    with pytest.raises(IntegrityError, match="no device has a good recipe"):
        run(scene.prove(kept=True))
    assert scene.blamed == set(range(N))


@pytest.mark.parametrize("bad", BAD_MAPPINGS.values(), ids=list(BAD_MAPPINGS))
def test_a_kept_mapping_needs_none_from_the_devices(bad: Description) -> None:
    scene = Scene(descriptions=dict.fromkeys(range(N), bad))
    run(scene.prove(kept=True))
    assert scene.told == []


@pytest.mark.parametrize(("conduct", "error"), [(GONE, NotEnoughError), (DAMAGED, IntegrityError)])
def test_without_any_good_recipe_the_error_says_whether_devices_are_missing(
    conduct: str, error: type[TesseraError]
) -> None:
    scene = Scene(dict.fromkeys(range(N), conduct))
    with pytest.raises(error, match="no device has a good recipe"):
        run(scene.prove(kept=False))
    assert scene.blamed == set(range(N))


def test_a_catalog_that_gives_a_wrong_length_only_costs_room_in_the_answer() -> None:
    encoding = msgspec.structs.replace(IMAGE.located(), share_bytes=10 << 30)
    scene = Scene(encoding=encoding)
    run(scene.prove(kept=False))
    assert_good(run(scene.segments()))
