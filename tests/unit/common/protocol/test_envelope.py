"""The envelope: its bytes are those of the layout, and what is not an envelope is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.protocol.envelope import ENVELOPE_SIZE, MAX_MEMBERS, Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import NO_ACCOUNT

identifiers = st.binary(min_size=16, max_size=16)
envelopes = st.builds(
    Envelope,
    st.sampled_from(Kind),
    st.sampled_from(Operation),
    identifiers,
    identifiers,
    st.integers(0, 2**32 - 1),
    identifiers,
    account=st.just(NO_ACCOUNT),
    members=st.just(0),
)
accounts = st.builds(
    lambda envelope, account, members: envelope._replace(account=account, members=members),
    envelopes,
    identifiers.filter(lambda account: account != NO_ACCOUNT),
    st.integers(1, MAX_MEMBERS),
)
SAMPLE = Envelope(Kind.REQUEST, Operation.FETCH, b"r" * 16, b"p" * 16, 0x01020304, b"o" * 16)
SAMPLE_BYTES = b"TSR1\x01\x23\x00\x00\x01\x02\x03\x04" + b"p" * 16 + b"r" * 16 + b"o" * 16


def changed(offset: int, value: int) -> bytes:
    frame = bytearray(SAMPLE_BYTES)
    frame[offset] = value
    return bytes(frame)


def test_the_layout_is_the_one_of_the_protocol_page() -> None:
    assert SAMPLE.encode() == SAMPLE_BYTES
    assert decode_envelope(SAMPLE_BYTES) == SAMPLE
    assert len(SAMPLE_BYTES) == ENVELOPE_SIZE == 60


@given(envelopes | accounts)
def test_what_is_encoded_is_read_back(envelope: Envelope) -> None:
    assert decode_envelope(envelope.encode()) == envelope
    assert decode_envelope(memoryview(envelope.encode())) == envelope


@given(envelopes | accounts, identifiers)
def test_a_reply_goes_to_where_the_request_came_from_and_carries_no_credit(envelope: Envelope, owner: bytes) -> None:
    reply = envelope._replace(owner=owner).reply()
    assert reply == Envelope(Kind.REPLY, envelope.operation, envelope.request_id, envelope.peer)
    assert (reply.credit, reply.owner, reply.account, reply.members) == (0, bytes(16), bytes(16), 0)


@given(st.binary(max_size=130).filter(lambda frame: len(frame) not in (ENVELOPE_SIZE, ENVELOPE_SIZE + 16)))
def test_a_frame_of_another_length_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="60 bytes"):
        decode_envelope(frame)


@pytest.mark.parametrize("offset", range(4))
def test_another_magic_or_version_is_refused(offset: int) -> None:
    with pytest.raises(ProtocolError, match="no envelope of this protocol"):
        decode_envelope(changed(offset, ord("2")))


@pytest.mark.parametrize("offset", [6, 7])
def test_without_an_account_there_are_no_members(offset: int) -> None:
    with pytest.raises(ProtocolError, match="no envelope of this protocol"):
        decode_envelope(changed(offset, 1))


@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(Kind)))
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match="unknown kind"):
        decode_envelope(changed(4, kind))


@pytest.mark.parametrize("operation", sorted(set(range(256)) - set(Operation)))
def test_an_unknown_operation_is_refused(operation: int) -> None:
    with pytest.raises(ProtocolError, match="unknown kind or operation"):
        decode_envelope(changed(5, operation))


@given(st.binary(min_size=52, max_size=52), st.binary(min_size=4, max_size=4))
def test_of_sixty_bytes_every_one_is_read_or_they_are_refused(rest: bytes, start: bytes) -> None:
    frame = b"TSR1" + start + rest
    try:
        envelope = decode_envelope(frame)
    except ProtocolError:
        return
    assert envelope.encode() == frame
