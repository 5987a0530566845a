"""Whether what a client asks to be stored may go to its device, or it has what one vault, or one client, may have.

Every limit of a vault is one of the client that brought it, too (`vault_origins`): vaults cost nothing to make up. A
client that comes to one is told so, and named to the operator (`overruns`); nobody else notices it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable, Optional, Union

from broker.catalog import Catalog
from broker.overruns import BYTES, MEMORY, ROOM, VAULTS, Overruns
from broker.quota import Quota
from broker.reservations import Opened, Reservations
from broker.sessions import Session
from broker.vault_origins import MAX_VAULTS, VaultOrigins
from common.errors import ProtocolError
from common.protocol.codec import unpack_header
from common.protocol.device_messages import Append, Open, ShareName
from common.protocol.envelope import Envelope, Operation
from common.protocol.messages import Acknowledged, AnnouncedShare, Answer, Code

_COMPLETING = frozenset({Operation.OPEN, Operation.STORE, Operation.COMMIT})
_SHARED = 3, 4  # the part of the memory budget that any client may fill
_KEPT = 15, 16  # the part that all together may, those below their even part of what is shared
_SHAPES: dict[Operation, type[Union[Open, Append, ShareName]]] = {
    Operation.OPEN: Open,
    Operation.APPEND: Append,
    Operation.ABANDON: ShareName,
}


class Storing:
    """`now` is monotonic seconds."""

    def __init__(
        self,
        catalog: Catalog,
        quota: Quota,
        origins: VaultOrigins,
        overruns: Overruns,
        is_client: Callable[[bytes], bool],
        has_retired: Callable[[bytes], bool],
    ) -> None:
        """`is_client`: whether a public key is a client's on the list. `has_retired`: as of `Queries`."""
        self._catalog = catalog
        self._quota = quota
        self._origins = origins
        self._overruns = overruns
        self._is_client = is_client
        self._has_retired = has_retired
        self._reservations = Reservations()
        self._taken: list[dict[bytes, int]] = [{}, {}]  # client → what its vaults took of each budget at the last tick

    def brings(self, session: Session, now: float) -> bool:
        """Note who brought a vault that is stored for, or retired; False where it is one too many of this client's."""
        brought = self._origins.bring(
            session.payer,
            session.public_key,
            is_member=self._is_client,
            in_use=lambda owner: (
                self._has_retired(owner) or self._catalog.memory_of(owner) + self._catalog.room_of(owner) > 0
            ),
        )
        if not brought:
            self._overruns.note(session.public_key, VAULTS, now)
        return brought

    def refusal(
        self,
        session: Session,
        device: bytes,
        operation: Operation,
        frames: Sequence[memoryview],
        free: Optional[int],
        now: float,
    ) -> Optional[Answer]:
        """The refusal of a request to a device; None where it may pass.

        frames: envelope, header, payload. free: bytes of the device that others may want, too; None where nobody may.
        """
        if operation in _COMPLETING and device in self._catalog.cut_off:
            return Answer(Code.NO_ROOM, "this broker remembers no more shares of this device")
        if operation is Operation.STORE:
            return self.refusal_of_more(session, frames[2].nbytes if len(frames) == 3 else 0, now)
        if operation is not Operation.OPEN:
            return None
        try:
            opening = unpack_header(frames[1], Open)
        except ProtocolError:
            return None  # the device says so
        return self.refusal_of_more(session, opening.share_bytes, now) or self._refusal_of_room(
            session, device, opening, free, now
        )

    def passed_on(self, session: Session, envelope: Envelope, header: memoryview, now: float) -> None:
        """A request that was not refused goes to its device."""
        operation, device = envelope.operation, envelope.peer
        if operation not in _SHAPES:
            return
        try:
            name = unpack_header(header, _SHAPES[operation])
        except ProtocolError:
            return
        client, opened = session.public_key, Opened(session.vault, name.encoding_id, name.share)
        if isinstance(name, Open):
            self._reservations.open(client, device, opened, name.share_bytes, envelope.request_id, now)
        elif isinstance(name, Append):
            self._reservations.touch(client, device, opened, now)
        else:
            self._reservations.abandon(client, device, opened)

    def refusal_of_more(self, session: Session, more: int, now: float) -> Optional[Answer]:
        """The refusal where so many more bytes would be too many."""
        client = session.public_key
        if not self.brings(session, now):
            return Answer(Code.NO_ROOM, f"this client stores for {MAX_VAULTS} vaults, and none can do so for more")
        refusal = self._quota.refusal(session.payer, more)
        if refusal is not None:
            return refusal
        if self._quota.is_over(client, more):
            self._overruns.note(client, BYTES, now)
            return Answer(Code.NO_ROOM, "the vaults of this client have all that one client's may have")
        if not self._has_memory(client, now):
            return Answer(Code.NO_ROOM, "this broker has no memory for more images of this client")
        return None

    def answered(self, client: bytes, device: bytes, request_id: bytes, header: memoryview) -> None:
        """A device answers an OPEN."""
        try:
            granted = unpack_header(header, Acknowledged).answer.granted
        except ProtocolError:
            return
        if not granted:
            self._reservations.refused(client, device, request_id)

    def announced(self, device: bytes, shares: Sequence[AnnouncedShare]) -> None:
        """A device has these whole."""
        for share in shares:
            self._reservations.announced(device, Opened(share.owner, share.encoding_id, share.share))

    def tick(self, now: float) -> None:
        """To be called a few times a second."""
        self._reservations.expire(now)
        self._origins.save()
        self._taken = [
            {client: sum(map(taken, self._origins.brought_by(client))) for client in self._origins.clients()}
            for taken in (self._catalog.room_of, self._catalog.memory_of)
        ]

    def _refusal_of_room(
        self, session: Session, device: bytes, opening: Open, free: Optional[int], now: float
    ) -> Optional[Answer]:
        if free is None:
            return None
        opened = Opened(session.vault, opening.encoding_id, opening.share)
        refusal = self._reservations.refusal(session.public_key, device, opened, opening.share_bytes, free)
        if refusal is not None:
            self._overruns.note(session.public_key, ROOM, now)
        return refusal

    def _has_memory(self, client: bytes, now: float) -> bool:
        """Whether more may be stored by a client without taking from others what is theirs of the broker's memory, and
        of the catalog's room.

        What devices made up does not count: it makes way.
        """
        limits = self._catalog.budget.limit, self._catalog.tombstones.budget.limit
        if all(_has_part(client, taken, limit) for taken, limit in zip(self._taken, limits)):
            return True
        self._overruns.note(client, MEMORY, now)
        return False


def _has_part(client: bytes, taken: Mapping[bytes, int], limit: int) -> bool:
    """Whether a client may have more of a budget, of which clients have taken so many bytes."""
    shared, kept = (limit * part // whole for part, whole in (_SHARED, _KEPT))
    total = sum(taken.values())
    return total < shared or (taken.get(client, 0) < shared // len({client, *taken}) and total < kept)
