"""What a worker answers to those who read: clients that restore, clients that go on, and stewards that mend."""

from __future__ import annotations

from common.protocol.codec import MAX_PAYLOAD, pack
from common.protocol.device_messages import (
    Describe,
    Described,
    Fetch,
    Fetched,
    Inspect,
    Part,
    Progress,
    ShareName,
)
from common.protocol.messages import GRANTED, Answer, Code
from worker.declining import DeclineError
from worker.leases import Leases
from worker.requests import Answered, Request, answer, brief, grant, key_of
from worker.share_file import commitment_of, mapping_for
from worker.store import ShareStore


class Answering:
    """`now` is monotonic seconds."""

    def __init__(self, store: ShareStore, leases: Leases) -> None:
        self._store = store
        self._leases = leases

    def fetch(self, request: Request, header: Fetch, now: float) -> Answered:
        """Blocks, one after the other; through the broker that mends an encoding, its lease is renewed."""
        parts: list[Part] = []
        blocks = _Pieces()
        for encoding_id in {name.encoding_id for name in header.blocks}:
            self._leases.renew(encoding_id, request.broker, now)
        for name in header.blocks:
            try:
                blocks.require_room()
                block = self._store.block((name.encoding_id, name.share), request.owner, name.segment)
                blocks.add(block)
            except DeclineError as decline:
                parts.append(Part(brief(decline.answer, len(header.blocks))))
                continue
            parts.append(Part(GRANTED, len(block)))
        return answer(request, Fetched(GRANTED, parts), blocks.payload())

    def describe(self, request: Request, header: Describe, _now: float) -> Answered:
        """What lies beside shares: mappings, and recipes where they were asked for."""
        parts: list[tuple[Answer, int, int]] = []
        pieces = _Pieces()
        for name in header.shares:
            try:
                pieces.require_room()
                trailer = self._store.share(key_of(name), request.owner).information.trailer
                mapping = mapping_for(trailer, request.owner) or b""
                recipe = trailer.recipe if header.with_recipe else b""
                pieces.add(mapping, recipe)
            except DeclineError as decline:
                parts.append((brief(decline.answer, len(header.shares)), 0, 0))
                continue
            parts.append((GRANTED, len(mapping), len(recipe)))
        return answer(request, Described(GRANTED, parts), pieces.payload())

    def progress(self, request: Request, name: ShareName, now: float) -> Answered:
        """How far a share has come."""
        ranges = self._store.progress(key_of(name), request.owner, now)
        if ranges is None:
            return answer(request, Progress(GRANTED, committed=True))
        return answer(request, Progress(GRANTED), pack(ranges))

    def inspect(self, request: Request, header: Inspect, now: float) -> Answered:
        """All that lies beside a share, and the promise that no other broker mends its encoding for a while."""
        trailer = self._store.share((header.encoding_id, header.share), request.owner).information.trailer
        if header.lease and not self._leases.ask(header.encoding_id, request.broker, header.lease, now):
            raise DeclineError(Code.CONFLICT, "another broker mends this encoding")
        return grant(request, pack(commitment_of(trailer)))


class _Pieces:
    """What a reply carries, within a payload's limit: what goes beyond is to be asked for again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._room = MAX_PAYLOAD

    def require_room(self) -> None:
        if self._room <= 0:
            raise DeclineError(Code.BUSY, "the reply is full")

    def add(self, *pieces: bytes) -> None:
        """All of them, or DeclineError(BUSY)."""
        size = sum(len(piece) for piece in pieces)
        if size > self._room:
            raise DeclineError(Code.BUSY, "the reply is full")
        self._room -= size
        self._pieces += pieces

    def payload(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
