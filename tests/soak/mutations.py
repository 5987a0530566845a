"""Messages of every kind, right ones and what becomes of them: truncated, flipped, swapped, stretched, nested, huge.

All of it is drawn from the generator that is handed in; nothing is sent here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Callable, NamedTuple

import msgpack

from common.protocol.codec import MAX_PAYLOAD, pack, pack_header
from common.protocol.device_messages import (
    Append,
    BlockName,
    Commit,
    Describe,
    Fetch,
    Open,
    ShareName,
    Store,
    WholeShare,
)
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Empty,
    Hello,
    Join,
    ListChanges,
    ListObjects,
    ListTrash,
    Locate,
    Message,
    OwnerProof,
    Places,
    Register,
    RepairNow,
    Report,
    ReportBad,
    Retire,
    Withdraw,
)

Frames = list[bytes]


class Sample(NamedTuple):
    """A header of the operation's shape, and a payload."""

    header: Message
    payload: bytes = b""


def _sample(drawn: random.Random, operation: Operation) -> Sample:
    """What one may say with an operation; an empty header for those that have none, or are not known here."""
    encoding, share, token = drawn.randbytes(16), drawn.randrange(6), drawn.randbytes(32)
    block = drawn.randbytes(drawn.choice([1, 40, 4096]))
    announced = AnnouncedShare(encoding, share, token, drawn.randbytes(16), 4, 6, len(block))
    samples: dict[Operation, Callable[[], Sample]] = {
        Operation.JOIN: lambda: Sample(Join("fuzz", token)),
        Operation.HELLO: lambda: Sample(Hello(PROTOCOL_VERSION, OwnerProof(token, 2 * token))),
        Operation.PLACES: lambda: Sample(Places(6, 0, [encoding]), pack([encoding])),
        Operation.LOCATE: lambda: Sample(Locate(), pack([token])),
        Operation.LIST: lambda: Sample(ListObjects(token, 10)),
        Operation.CHANGES: lambda: Sample(ListChanges(encoding, 1, 10)),
        Operation.REPAIR: lambda: Sample(RepairNow(), pack([token])),
        Operation.REPORT_BAD: lambda: Sample(ReportBad(), pack([[encoding, share, encoding]])),
        Operation.RETIRE: lambda: Sample(Retire(encoding, False)),
        Operation.REGISTER: lambda: Sample(Register(PROTOCOL_VERSION, 0, 0, 0)),
        Operation.ANNOUNCE: lambda: Sample(Announce(True), pack([announced])),
        Operation.REPORT: lambda: Sample(Report(0, 0)),
        Operation.WITHDRAW: lambda: Sample(Withdraw(), pack([[encoding, share]])),
        Operation.TRASH: lambda: Sample(ListTrash(encoding)),
        Operation.OPEN: lambda: Sample(Open(encoding, share, 4, 6, 1 << 20, 0)),
        Operation.APPEND: lambda: Sample(Append(encoding, share, 0, token), block),
        Operation.COMMIT: lambda: Sample(Commit(encoding, share), block),
        Operation.STORE: lambda: Sample(Store([WholeShare(encoding, share, 4, 6, 1, len(block))]), b"b" + block),
        Operation.ABANDON: lambda: Sample(ShareName(encoding, share)),
        Operation.FETCH: lambda: Sample(Fetch([BlockName(encoding, share, 0)])),
        Operation.DESCRIBE: lambda: Sample(Describe([ShareName(encoding, share)])),
        Operation.PROGRESS: lambda: Sample(ShareName(encoding, share)),
        Operation.CHECK: lambda: Sample(ShareName(encoding, share)),
        Operation.DISCARD: lambda: Sample(ShareName(encoding, share)),
    }
    return samples.get(operation, lambda: Sample(Empty()))()


def message(drawn: random.Random, operation: Operation, kind: Kind, peer: bytes) -> Frames:
    """A message that is right, or nearly: its three frames fit the protocol."""
    sample = _sample(drawn, operation)
    header = pack_header(sample.header if kind is Kind.REQUEST else Acknowledged(GRANTED))
    credit = drawn.choice([0, len(sample.payload), MAX_PAYLOAD])
    owner = drawn.randbytes(16) if drawn.random() < 0.5 else bytes(16)
    frames = [Envelope(kind, operation, drawn.randbytes(16), peer, credit, owner).encode(), header]
    return [*frames, sample.payload] if sample.payload else frames


def mutated(drawn: random.Random, frames: Frames) -> Frames:
    """The same message after one to three harms, or (one in ten) as it was."""
    if drawn.random() < 0.1:
        return frames
    for _ in range(drawn.randint(1, 3)):
        frames = drawn.choice(_HARMS)(drawn, frames)
    return frames


def _in_one_frame(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, Frames], Frames]:
    def harm(drawn: random.Random, frames: Frames) -> Frames:
        if not frames:
            return frames
        index = drawn.randrange(len(frames))
        return [*frames[:index], change(drawn, frames[index]), *frames[index + 1 :]]

    return harm


def _truncate(drawn: random.Random, frame: bytes) -> bytes:
    return frame[: drawn.randint(0, len(frame))]


def _flip(drawn: random.Random, frame: bytes) -> bytes:
    changed = bytearray(frame)
    for _ in range(drawn.randint(1, 8) if changed else 0):
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    return bytes(changed)


def _stretch(drawn: random.Random, frame: bytes) -> bytes:
    return frame + drawn.randbytes(drawn.choice([1, 60, 4096, 1 << 16]))


def _nest(drawn: random.Random, frame: bytes) -> bytes:
    """msgpack as deep as it is long: arrays in arrays, or thousands of empty ones."""
    count = drawn.choice([10, 1000, 4000, 1 << 16])
    return bytes([0x91]) * count if drawn.random() < 0.5 else msgpack.packb([[]] * count)


def _enlarge(drawn: random.Random, frame: bytes) -> bytes:
    """Numbers and lengths that nothing has."""
    huge = [2**64 - 1, -(2**63), 2**32, 1.7e308, None, True, b"", "x" * 1000]
    lengths = [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff"]
    if drawn.random() < 0.3:
        return drawn.choice(lengths) + frame
    return bytes(msgpack.packb([drawn.choice(huge) for _ in range(drawn.randint(1, 8))]))


def _swap(drawn: random.Random, frames: Frames) -> Frames:
    return drawn.sample(frames, len(frames))


def _add(drawn: random.Random, frames: Frames) -> Frames:
    extra = [drawn.randbytes(drawn.choice([0, 5, 60])) for _ in range(drawn.choice([1, 2, 500]))]
    return [*frames, *extra] if drawn.random() < 0.5 else [*extra, *frames]


def _drop(drawn: random.Random, frames: Frames) -> Frames:
    return frames[: drawn.randint(1, len(frames))]


_HARMS: Sequence[Callable[[random.Random, Frames], Frames]] = (
    *(_in_one_frame(change) for change in (_truncate, _flip, _flip, _stretch, _nest, _enlarge)),
    _swap,
    _add,
    _drop,
)
