"""Which encodings an owner's object has: an index of the catalog's rows, written many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from broker.catalog_rows import CatalogRows


class Objects:
    """By owner and object id; of whom it is granted to as well, under the object ids that these know it by."""

    def __init__(self, rows: CatalogRows) -> None:
        self._rows = rows
        self._changed: dict[tuple[bytes, bytes, bytes], bool] = {}  # what is to be written: whether it is found so
        self._added: Counter[tuple[bytes, bytes]] = Counter()  # of that
        self._counted: dict[tuple[bytes, bytes], int] = {}  # of some objects, how many encodings the rows have
        self.several = set(rows.several())  # owners and object ids that have several encodings

    def hold(self, objects: Iterable[tuple[bytes, bytes]]) -> None:
        """Count the encodings of all of these at once, since they are asked for next."""
        self._counted = dict.fromkeys(objects, 0)
        by_owner: dict[bytes, list[bytes]] = {}
        for owner, object_id in self._counted:
            by_owner.setdefault(owner, []).append(object_id)
        for owner, object_ids in by_owner.items():
            self._counted.update(((owner, object_id), n) for object_id, n in self._rows.counts_of(owner, object_ids))

    def count(self, owner: bytes, object_id: bytes) -> int:
        """How many encodings an object has, by estimate."""
        if (owner, object_id) not in self._counted:
            self.hold([(owner, object_id)])
        return self._counted[owner, object_id] + self._added[owner, object_id]

    def add(self, owner: bytes, object_id: bytes, encoding_id: bytes) -> None:
        self._changed[owner, object_id, encoding_id] = True
        self._added[owner, object_id] += 1

    def remove(self, owner: bytes, object_id: bytes, encoding_id: bytes) -> None:
        self._changed[owner, object_id, encoding_id] = False
        if (owner, object_id) in self.several and len(self.encodings_of(owner, object_id)) < 2:
            self.several.discard((owner, object_id))

    def encodings_of(self, owner: bytes, object_id: bytes) -> list[bytes]:
        self.write()
        return self._rows.encodings_of(owner, object_id)

    def behind(self, owner: bytes, after: bytes, limit: int) -> dict[bytes, list[bytes]]:
        """Up to `limit` of an owner's objects behind `after`, in order, with their encodings."""
        self.write()
        objects: dict[bytes, list[bytes]] = {}
        for object_id, encoding_id in self._rows.objects_behind(owner, after, limit):
            objects.setdefault(object_id, []).append(encoding_id)
        return objects

    def write(self) -> None:
        """For whoever reads the rows."""
        if self._changed:
            added = [found for found, is_found in self._changed.items() if is_found]
            self._rows.change_objects(added, [found for found, is_found in self._changed.items() if not is_found])
            self._changed.clear()
            self._added.clear()
            self._counted.clear()
