"""A client whose index is in step with one broker, and asks it for what changed alone, over that broker's restarts."""

from __future__ import annotations

from collections.abc import Iterable

from common.protocol.codec import unpack
from common.protocol.messages import ChangedObject, Changes, EncodingAt, ListChanges, ListObjects
from common.vault.index_rows import KeptEncoding
from tests.support.sample_broker import SampleBroker

_Kept = list[tuple[bytes, bytes]]  # encoding id and places of each encoding of an object


class Follower:
    def __init__(self, owner: bytes) -> None:
        self._owner = owner
        self._cursor = ListChanges()
        self._objects: dict[bytes, _Kept] = {}
        self.lists = 0  # times that everything was listed

    def catch_up(self, broker: SampleBroker) -> None:
        header, payload = broker.queries.list_changes(self._cursor, self._owner, broker.now)
        assert isinstance(header, Changes)
        assert header.complete, "an answer of the simulation's has all"
        if header.known:
            for each in unpack(payload or b"", list[ChangedObject]):
                self._objects[each.object_id] = _kept(each.encodings)
        else:
            self.lists += 1
            self._objects = _listed(broker, self._owner)
        self._cursor = ListChanges(header.epoch, header.number)

    def wrong_of(self, broker: SampleBroker) -> list[bytes]:
        """Of which objects the broker lists something else."""
        listed = _listed(broker, self._owner)
        return [each for each in {*listed, *self._objects} if listed.get(each, []) != self._objects.get(each, [])]


def _listed(broker: SampleBroker, owner: bytes) -> dict[bytes, _Kept]:
    _, payload = broker.queries.list_objects(ListObjects(), owner, broker.now)
    objects: dict[bytes, list[EncodingAt]] = {}
    for each in unpack(payload or b"", list[EncodingAt]):
        objects.setdefault(each.object_id, []).append(each)
    return {object_id: _kept(encodings) for object_id, encodings in objects.items()}


def _kept(encodings: Iterable[EncodingAt]) -> _Kept:
    return sorted((each.encoding_id, each.places) for each in map(KeptEncoding.of, encodings))
