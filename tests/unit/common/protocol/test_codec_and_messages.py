"""Messages: every structure survives the way; what has another shape is refused, and does nothing worse."""

from __future__ import annotations

import base64
import functools
import struct
import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from common.errors import ProtocolError
from common.protocol import device_messages, messages
from common.protocol.codec import MAX_HEADER, MAX_PAYLOAD, pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import (
    MAX_GRANTED_MAPPING,
    Append,
    BlockName,
    Commitment,
    Describe,
    Described,
    Fetch,
    Fetched,
    Grant,
    Open,
    Part,
    ShareName,
    Store,
    Stored,
    WholeShare,
)
from common.protocol.messages import (
    GRANTED,
    MAX_ANNOUNCED,
    MAX_BATCH,
    MAX_GRANTS,
    MAX_SHARES,
    Acknowledged,
    AnnouncedShare,
    Answer,
    Code,
    GrantedTo,
    Hello,
    Holdings,
    Identifier,
    Join,
    Joined,
    Message,
    Placed,
    Places,
    Status,
    Welcome,
)
from common.vault.mapping import MAX_SEALED_MAPPING

OBJECT = b"o" * 32
STRUCTURES = sorted(
    (
        value
        for value in {**vars(messages), **vars(device_messages)}.values()
        if isinstance(value, type) and issubclass(value, Message) and value is not Message
    ),
    key=lambda structure: structure.__name__,
)
REPLIES = [Acknowledged, Described, Fetched, Holdings, Joined, Placed, Status, Stored, Welcome]
IDENTIFIER = b"i" * 16


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Every value that a type, as msgspec understands it, allows (lists kept short)."""
    if isinstance(kind, inspect.StructType):
        return st.builds(kind.cls, *[values_of(field.type) for field in kind.fields])
    if isinstance(kind, inspect.IntType):
        return st.integers(-(2**63) if kind.ge is None else kind.ge, _largest(kind))
    if isinstance(kind, inspect.BytesType):
        return st.binary(min_size=kind.min_length or 0, max_size=min(kind.max_length or 80, 80))
    if isinstance(kind, inspect.StrType):
        return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 80, 80))
    if isinstance(kind, inspect.EnumType):
        return st.sampled_from(list(kind.cls))
    if isinstance(kind, inspect.UnionType):
        return st.one_of([values_of(one) for one in kind.types])
    if isinstance(kind, inspect.ListType):
        return st.lists(values_of(kind.item_type), max_size=3)
    if isinstance(kind, inspect.TupleType):
        return st.tuples(*[values_of(one) for one in kind.item_types])
    return {inspect.BoolType: st.booleans(), inspect.NoneType: st.none()}[type(kind)]


def _largest(kind: inspect.IntType) -> int:
    if kind.lt is not None:
        return kind.lt - 1
    return 2**63 - 1 if kind.le is None else kind.le


@functools.cache
def any_message(structure: type[Message]) -> st.SearchStrategy[Any]:
    return values_of(inspect.type_info(structure))


any_structure = st.sampled_from(STRUCTURES)
structure_and_message = any_structure.flatmap(lambda s: st.tuples(st.just(s), any_message(s)))
msgpack_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


def believed_or_refused(data: bytes, shape: Any) -> None:
    """Reading gives a value of the shape or a ProtocolError; any other exception fails the test."""
    try:
        value = unpack(data, shape)
    except ProtocolError:
        return
    assert msgspec.convert(msgspec.to_builtins(value, builtin_types=(bytes,)), shape, builtin_types=(bytes,)) == value


# --- what is sent arrives


@settings(max_examples=400)
@given(structure_and_message)
def test_every_message_is_read_back_as_it_was_sent(drawn: tuple[type[Message], Message]) -> None:
    structure, message = drawn
    assert unpack(pack(message), structure) == message
    assert unpack(memoryview(pack([message, message])), list[structure]) == [message, message]  # type: ignore[valid-type]


@given(structure_and_message)
def test_a_header_within_the_limit_is_read_back_and_a_larger_one_is_not_sent(
    drawn: tuple[type[Message], Message],
) -> None:
    structure, message = drawn
    if len(pack(message)) <= MAX_HEADER:
        assert unpack_header(pack_header(message), structure) == message
    else:
        with pytest.raises(ProtocolError, match="over the limit"):
            pack_header(message)


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("code", [code for code in Code if code is not Code.GRANTED])
def test_the_answer_no_reads_as_a_reply_of_any_kind(reply: Any, code: Code) -> None:
    header = unpack_header(pack_header(Acknowledged(Answer(code, "why"))), reply)
    assert header.answer == Answer(code, "why")
    assert not header.answer.granted


@pytest.mark.parametrize(
    "largest",
    [
        Store([WholeShare(IDENTIFIER, MAX_SHARES - 1, MAX_SHARES, MAX_SHARES, 2**22, 2**22)] * MAX_BATCH),
        Stored(GRANTED, [GRANTED] * MAX_BATCH),
        Fetch([BlockName(IDENTIFIER, MAX_SHARES - 1, 2**32 - 1)] * MAX_BATCH),
        Fetched(GRANTED, [Part(GRANTED, 2**22)] * MAX_BATCH),
        Describe([ShareName(IDENTIFIER, MAX_SHARES - 1)] * MAX_BATCH),
        Described(GRANTED, [(GRANTED, 2**22, 2**22)] * MAX_BATCH),
        Places(MAX_SHARES, 2**53 - 1, [IDENTIFIER] * MAX_SHARES),
        Join("写" * 64, b"k" * 32),
        Acknowledged(Answer(Code.FAULT, "写" * 500)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_largest_batch_fits_a_header(largest: Message) -> None:
    assert unpack_header(pack_header(largest), type(largest)) == largest


# --- what is not of the shape is refused


@settings(max_examples=300)
@given(st.binary(max_size=200), any_structure)
def test_junk_is_refused_and_nothing_worse(junk: bytes, structure: type[Message]) -> None:
    believed_or_refused(junk, structure)


@pytest.mark.one_python
@settings(max_examples=300)
@given(msgpack_values, any_structure)
def test_any_msgpack_is_believed_only_in_the_shape(value: Any, structure: type[Message]) -> None:
    believed_or_refused(msgpack.packb(value), structure)


@given(structure_and_message, st.data())
def test_a_message_with_one_byte_changed_is_believed_only_in_the_shape(
    drawn: tuple[type[Message], Message], data: st.DataObject
) -> None:
    structure, message = drawn
    packed = bytearray(pack(message))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    believed_or_refused(bytes(packed), structure)


@given(structure_and_message, st.data())
def test_a_message_cut_short_or_with_junk_behind_is_refused(
    drawn: tuple[type[Message], Message], data: st.DataObject
) -> None:
    structure, message = drawn
    packed = pack(message)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    for wrong in (cut, packed + data.draw(st.binary(min_size=1, max_size=8))):
        with pytest.raises(ProtocolError):
            unpack(wrong, structure)


@given(structure_and_message, msgpack_values)
def test_a_field_too_many_is_refused(drawn: tuple[type[Message], Message], extra: Any) -> None:
    structure, message = drawn
    fields = [*msgpack.unpackb(pack(message)), extra]
    with pytest.raises(ProtocolError):
        unpack(msgpack.packb(fields), structure)


@given(structure_and_message)
def test_a_field_of_another_type_is_refused(drawn: tuple[type[Message], Message]) -> None:
    structure, message = drawn
    fields = msgpack.unpackb(pack(message))
    for place in range(len(fields)):
        wrong = [*fields[:place], {"a": "map"}, *fields[place + 1 :]]  # no message has a map in it
        with pytest.raises(ProtocolError):
            unpack(msgpack.packb(wrong), structure)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_required_field_left_out_is_refused(structure: Any) -> None:
    required = [field for field in inspect.type_info(structure).fields if field.required]  # type: ignore[attr-defined]
    if not required:
        assert unpack(b"\x90", structure) == structure()
        return
    with pytest.raises(ProtocolError):
        unpack(b"\x90", structure)


OPEN = [IDENTIFIER, 0, 4, 6, 1 << 20, 0]


def opening(place: int, value: Any) -> list[Any]:
    return [*OPEN[:place], value, *OPEN[place + 1 :]]


@pytest.mark.parametrize(
    ("structure", "fields"),
    [
        pytest.param(Open, opening(0, b"i" * 15), id="identifier too short"),
        pytest.param(Open, opening(0, b"i" * 17), id="identifier too long"),
        pytest.param(Open, opening(0, base64.b64encode(IDENTIFIER).decode()), id="base64 text for bytes"),
        pytest.param(Open, opening(1, -1), id="share below 0"),
        pytest.param(Open, opening(1, MAX_SHARES), id="share over the last"),
        pytest.param(Open, opening(1, True), id="bool for a number"),
        pytest.param(Open, opening(1, 1.0), id="float for a number"),
        pytest.param(Open, opening(1, "1"), id="text for a number"),
        pytest.param(Open, opening(2, 0), id="k of 0"),
        pytest.param(Open, opening(3, MAX_SHARES + 1), id="n over the largest"),
        pytest.param(Open, opening(4, 0), id="block of 0 bytes"),
        pytest.param(Open, opening(4, MAX_PAYLOAD + 1), id="block larger than a payload"),
        pytest.param(Open, opening(5, 2**53), id="count that a float could not hold"),
        pytest.param(Append, [IDENTIFIER, 0, 2**32, b"d" * 32], id="segment over 32 bits"),
        pytest.param(Append, [IDENTIFIER, 0, 0, b"d" * 31], id="digest too short"),
        pytest.param(Hello, [1, b"t" * 31], id="token too short"),
        pytest.param(Join, ["", b"k" * 32], id="empty name"),
        pytest.param(Join, ["n" * 65, b"k" * 32], id="name too long"),
        pytest.param(Join, [b"name", b"k" * 32], id="bytes for text"),
        pytest.param(Acknowledged, [["maybe"]], id="unknown code"),
        pytest.param(Acknowledged, [["granted", "x" * 501]], id="text too long"),
        pytest.param(Fetch, [[[IDENTIFIER, 0, 0]] * (MAX_BATCH + 1)], id="batch too large"),
        pytest.param(Commitment, {"object_id": b"o" * 32}, id="map for an array"),
    ],
)
def test_a_value_out_of_bounds_is_refused(structure: type[Message], fields: Any) -> None:
    with pytest.raises(ProtocolError, match=structure.__name__):
        unpack(msgpack.packb(fields), structure)


@pytest.mark.parametrize("extension", [msgpack.ExtType(5, b""), msgpack.ExtType(5, b"abc"), msgpack.Timestamp(1, 2)])
def test_extension_types_are_refused(extension: Any) -> None:
    with pytest.raises(ProtocolError):
        unpack(msgpack.packb([extension]), Acknowledged)


# --- limits


def test_a_header_of_the_largest_size_is_read_and_one_byte_more_is_not() -> None:
    fitting = msgpack.packb([b"x" * (MAX_HEADER - 4)])
    assert len(fitting) == MAX_HEADER
    assert unpack_header(fitting, list[bytes]) == [b"x" * (MAX_HEADER - 4)]
    with pytest.raises(ProtocolError, match="over the limit"):
        unpack_header(msgpack.packb([b"x" * (MAX_HEADER - 3)]), list[bytes])


def test_a_payload_over_its_limit_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        unpack(b"\x90" * (MAX_PAYLOAD + 1), list[Identifier])


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"\x91" * MAX_HEADER, id="arrays within arrays"),
        pytest.param(b"\x81\xa1a" * 1365, id="maps within maps"),
        pytest.param((b"\xdc\x01\x00" * 1365), id="arrays within arrays, each said to have 256"),
        pytest.param(
            (b"\xdd" + struct.pack(">I", 2**20)) * 819, id="arrays within arrays, each said to have a million"
        ),
        pytest.param((b"\xdd" + struct.pack(">I", 2**32 - 1)) * 819, id="arrays said to have four billion"),
        pytest.param(b"\xdf" + struct.pack(">I", 2**32 - 1), id="map said to have four billion"),
        pytest.param(b"\xc6" + struct.pack(">I", 2**32 - 1), id="bytes said to be four gigabytes"),
        pytest.param(b"\xdb" + struct.pack(">I", 2**32 - 1), id="text said to be four gigabytes"),
        pytest.param(b"\xdc\x0f\xfd" + b"\x90" * 4093, id="four thousand empty arrays"),
    ],
)
def test_a_bomb_in_a_header_is_refused_and_costs_little_memory(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            unpack_header(bomb, Acknowledged)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("revision", "grants"),
    [
        (0, []),
        (2**53, []),
        (2, [Grant(IDENTIFIER, OBJECT, b"m")] * (MAX_GRANTS + 1)),
        (2, [Grant(IDENTIFIER, OBJECT, bytes(MAX_GRANTED_MAPPING + 1))]),
        (2, [Grant(IDENTIFIER, OBJECT[:31], b"m")]),
        (2, [Grant(IDENTIFIER[:15], OBJECT, b"m")]),
    ],
)
def test_a_commitment_is_bounded_in_revision_and_grants(revision: int, grants: list[Grant]) -> None:
    with pytest.raises(ProtocolError):
        unpack(
            pack(Commitment(OBJECT, IDENTIFIER, b"recipe", b"mapping", IDENTIFIER, [], revision, grants)), Commitment
        )


def test_a_mapping_for_another_owner_may_be_as_long_as_any_sealed_mapping() -> None:
    assert MAX_GRANTED_MAPPING == MAX_SEALED_MAPPING


def test_the_largest_page_of_announced_shares_fits_into_a_payload() -> None:
    grants = [GrantedTo(IDENTIFIER, OBJECT)] * MAX_GRANTS
    share = AnnouncedShare(IDENTIFIER, 63, OBJECT, IDENTIFIER, 64, 64, 2**53 - 1, True, 2**53 - 1, grants)
    assert len(pack([share] * MAX_ANNOUNCED)) <= MAX_PAYLOAD
