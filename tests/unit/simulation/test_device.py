"""The simulation's device, kept by hand for its speed, answers the steward and the clients as the real service does."""

from __future__ import annotations

import random
from typing import Any, Callable

import pytest
from msgspec import convert
from msgspec.structs import replace

from common.coding.recipe import digest
from common.protocol.codec import pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import (
    Append,
    BlockName,
    Commit,
    Fetch,
    Fetched,
    Inspect,
    Open,
    SegmentRange,
    ShareName,
    SignedCommitment,
)
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import Answer, Code
from tests.support.memory_device import MemoryDevice
from tests.support.sample_shares import OWNER, STRANGER, sign
from tests.unit.simulation.device import Device
from tests.unit.simulation.images import Encoding, encode, make_image

Answered = tuple[Code, bytes]
Ask = Callable[..., Answered]


def simulated() -> Ask:
    rng = random.Random(1)  # noqa: S311 - the same in every run
    device = Device(1, rng, *[lambda *_: None] * 3)

    def ask(
        operation: Operation, header: Any, payload: bytes = b"", *, owner: bytes = OWNER, broker: int = 1
    ) -> Answered:
        envelope = Envelope(Kind.REQUEST, operation, b"r" * 16, owner=owner)
        answered, content = device.handle(broker, envelope, pack_header(header), payload, 0.0)
        return code_of(pack_header(answered)), content or b""

    return ask


def real() -> Ask:
    device = MemoryDevice("real", b"d" * 16)

    def ask(
        operation: Operation, header: Any, payload: bytes = b"", *, owner: bytes = OWNER, broker: int = 1
    ) -> Answered:
        envelope = Envelope(Kind.REQUEST, operation, b"r" * 16, owner=owner)
        answered, content = device.handle(envelope, pack_header(header), payload, broker)
        return code_of(answered), content

    return ask


def code_of(header: bytes) -> Code:
    first, *rest = unpack_header(header, list[Any])
    if rest and isinstance(rest[0], list) and rest[0]:  # Fetched: of its one part
        return unpack_header(header, Fetched).parts[0].answer.code
    return convert(first, Answer).code


@pytest.fixture(params=[real, simulated])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param()  # type: ignore[no-any-return]


@pytest.fixture
def encoding() -> Encoding:
    rng = random.Random(2)  # noqa: S311 - the same in every run
    image = make_image(rng, 2, 3)
    image.data = rng.randbytes(3 * len(image.data))
    return encode(image, rng)


def opening(encoding: Encoding) -> Open:
    recipe = encoding.recipe
    return Open(recipe.encoding_id, 0, recipe.k, recipe.n, recipe.block_size, recipe.share_bytes)


def append(ask: Ask, encoding: Encoding, segment: int, block: bytes = b"", **more: Any) -> Code:
    block = block or encoding.blocks[segment][0]
    return ask(Operation.APPEND, Append(encoding.encoding_id, 0, segment, digest(block)), block, **more)[0]


def stage(ask: Ask, encoding: Encoding, **more: Any) -> None:
    assert ask(Operation.OPEN, opening(encoding), **more)[0] is Code.GRANTED
    for segment in range(encoding.recipe.segment_count):
        assert append(ask, encoding, segment, **more) is Code.GRANTED


def commit(ask: Ask, encoding: Encoding, packed: bytes = b"", **more: Any) -> Code:
    return ask(Operation.COMMIT, Commit(encoding.encoding_id, 0), packed or encoding.packed, **more)[0]


def put(ask: Ask, encoding: Encoding) -> None:
    stage(ask, encoding)
    assert commit(ask, encoding) is Code.GRANTED


def name(encoding: Encoding) -> ShareName:
    return ShareName(encoding.encoding_id, 0)


def fetch(ask: Ask, encoding: Encoding, segment: int = 0, **more: Any) -> Answered:
    return ask(Operation.FETCH, Fetch([BlockName(encoding.encoding_id, 0, segment)]), **more)


def delete(ask: Ask, encoding: Encoding, generation: int = 1, **changed: bytes) -> Code:
    return ask(Operation.DELETE, replace(encoding.tombstone(generation), **changed))[0]


def undelete(ask: Ask, encoding: Encoding, generation: int = 2, **changed: bytes) -> Code:
    return ask(Operation.UNDELETE, replace(encoding.tombstone(generation), **changed))[0]


def test_what_was_stored_is_read_and_inspected_as_it_came(ask: Ask, encoding: Encoding) -> None:
    put(ask, encoding)
    for segment, row in enumerate(encoding.blocks):
        assert fetch(ask, encoding, segment) == (Code.GRANTED, row[0])
    code, packed = ask(Operation.INSPECT, Inspect(encoding.encoding_id, 0, 0))
    assert (code, unpack(packed, SignedCommitment)) == (Code.GRANTED, unpack(encoding.packed, SignedCommitment))


def test_what_is_not_here_is_not_found_and_what_was_not_opened_not_open(ask: Ask, encoding: Encoding) -> None:
    assert fetch(ask, encoding)[0] is Code.NOT_FOUND
    assert ask(Operation.INSPECT, Inspect(encoding.encoding_id, 0, 0))[0] is Code.NOT_FOUND
    assert ask(Operation.CHECK, name(encoding))[0] is Code.NOT_FOUND
    assert ask(Operation.PROGRESS, name(encoding))[0] is Code.NOT_OPEN
    assert append(ask, encoding, 0) is Code.NOT_OPEN
    assert commit(ask, encoding) is Code.NOT_OPEN
    assert delete(ask, encoding) is undelete(ask, encoding) is Code.NOT_FOUND
    assert ask(Operation.ABANDON, name(encoding))[0] is ask(Operation.DISCARD, name(encoding))[0] is Code.GRANTED


def test_blocks_are_checked_when_they_come_and_at_the_commit(ask: Ask, encoding: Encoding) -> None:
    assert ask(Operation.OPEN, opening(encoding))[0] is Code.GRANTED
    wrong = Append(encoding.encoding_id, 0, 0, digest(b"another"))
    assert ask(Operation.APPEND, wrong, encoding.blocks[0][0])[0] is Code.MALFORMED
    assert append(ask, encoding, 0) is append(ask, encoding, 0) is Code.GRANTED
    assert append(ask, encoding, 0, encoding.blocks[0][1]) is Code.CONFLICT
    assert commit(ask, encoding) is Code.CONFLICT
    code, ranges = ask(Operation.PROGRESS, name(encoding))
    assert (code, unpack(ranges, list[SegmentRange])) == (Code.GRANTED, [SegmentRange(0, 1)])


def test_a_share_is_committed_once_and_otherwise_no_more(ask: Ask, encoding: Encoding) -> None:
    put(ask, encoding)
    assert commit(ask, encoding) is Code.GRANTED
    said = unpack(encoding.packed, SignedCommitment).commitment
    said.mapping = b"another"
    assert commit(ask, encoding, pack(sign(said))) is Code.CONFLICT
    assert ask(Operation.OPEN, opening(encoding))[0] is Code.CONFLICT
    assert ask(Operation.PROGRESS, name(encoding)) == (Code.GRANTED, b"")


def test_no_owner_reads_gives_up_or_goes_on_with_what_is_anothers(ask: Ask, encoding: Encoding) -> None:
    stage(ask, encoding)
    assert append(ask, encoding, 0, owner=STRANGER) is Code.NOT_OPEN
    assert commit(ask, encoding, owner=STRANGER) in (Code.NOT_OPEN, Code.NOT_ALLOWED)
    assert ask(Operation.ABANDON, name(encoding), owner=STRANGER)[0] is Code.GRANTED
    assert commit(ask, encoding) is Code.GRANTED
    assert fetch(ask, encoding, owner=STRANGER)[0] is Code.NOT_FOUND
    assert ask(Operation.INSPECT, Inspect(encoding.encoding_id, 0, 0), owner=STRANGER)[0] is Code.NOT_FOUND
    ask(Operation.DISCARD, name(encoding), owner=STRANGER)
    assert fetch(ask, encoding)[0] is Code.GRANTED


def test_what_was_deleted_is_gone_until_it_is_taken_back_by_a_higher_generation(ask: Ask, encoding: Encoding) -> None:
    put(ask, encoding)
    assert delete(ask, encoding, signature=bytes(64)) is Code.NOT_ALLOWED
    assert delete(ask, encoding) is delete(ask, encoding) is Code.GRANTED
    assert fetch(ask, encoding)[0] is Code.NOT_FOUND
    assert ask(Operation.OPEN, opening(encoding))[0] is Code.CONFLICT
    assert undelete(ask, encoding, signature=bytes(64)) is Code.NOT_ALLOWED
    assert undelete(ask, encoding) is undelete(ask, encoding) is Code.GRANTED
    assert fetch(ask, encoding) == (Code.GRANTED, encoding.blocks[0][0])
    assert delete(ask, encoding) is Code.CONFLICT


def test_an_encoding_is_leased_to_one_broker_at_a_time(ask: Ask, encoding: Encoding) -> None:
    put(ask, encoding)
    inspect = Inspect(encoding.encoding_id, 0, 30)
    assert ask(Operation.INSPECT, inspect, broker=1)[0] is ask(Operation.INSPECT, inspect, broker=1)[0] is Code.GRANTED
    assert ask(Operation.INSPECT, inspect, broker=2)[0] is Code.CONFLICT


def test_what_is_discarded_or_abandoned_is_gone(ask: Ask, encoding: Encoding) -> None:
    put(ask, encoding)
    assert ask(Operation.DISCARD, name(encoding))[0] is Code.GRANTED
    assert fetch(ask, encoding)[0] is Code.NOT_FOUND
    stage(ask, encoding)
    assert ask(Operation.ABANDON, name(encoding))[0] is Code.GRANTED
    assert ask(Operation.PROGRESS, name(encoding))[0] is Code.NOT_OPEN
