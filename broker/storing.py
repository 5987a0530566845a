"""Whether what a client asks to be stored may go to its device, or it has what one vault, or one client, may have.

Every limit of a vault is one of the client that brought it, too (`vault_origins`): vaults cost nothing to make up. A
client that comes to one is told so, and named to the operator (`overruns`); nobody else notices it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Callable, Optional

from broker.catalog import Catalog
from broker.overruns import BYTES, MEMORY, VAULTS, Overruns, room_on
from broker.quota import Quota
from broker.sessions import Session
from broker.vault_origins import MAX_VAULTS, VaultOrigins
from common.errors import ProtocolError
from common.protocol.codec import unpack_header
from common.protocol.device_messages import Open
from common.protocol.envelope import Operation
from common.protocol.identifiers import account_id
from common.protocol.messages import Answer, Code

_COMPLETING = frozenset({Operation.OPEN, Operation.STORE, Operation.COMMIT})
_SHARED = 3, 4  # the part of the memory budget that any client may fill
_KEPT = 15, 16  # the part that all together may, those below their even part of what is shared
BEGINNING = frozenset({Operation.OPEN, Operation.STORE, Operation.PROGRESS})  # devices learn whom a share counts for


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
        now: float,
    ) -> Optional[Answer]:
        """The refusal of a request to a device; None where it may pass. frames: envelope, header, payload."""
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
        return self.refusal_of_more(session, opening.share_bytes, now)

    def account(self, session: Session, device: bytes) -> bytes:
        """As whom a device counts what this session stores."""
        return account_id(self._origins.client_of(session.payer) or session.public_key, device)

    def over(
        self, device: bytes, accounts: Collection[bytes], clients: Iterable[bytes], named: str, now: float
    ) -> None:
        """A device says that these accounts wanted more than their part there. `named`: the device's name."""
        for client in clients:
            if account_id(client, device) in accounts:
                self._overruns.note(client, room_on(named), now)

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

    def tick(self, now: float) -> None:
        """To be called a few times a second."""
        self._origins.save()
        self._taken = [
            {client: sum(map(taken, self._origins.brought_by(client))) for client in self._origins.clients()}
            for taken in (self._catalog.room_of, self._catalog.memory_of)
        ]

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
