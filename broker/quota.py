"""How much one vault may have in the whole cluster: bytes of blocks, parity included, in all its sound shares.

Counted from the catalog, and asked before a put gets places and again wherever a share is begun (OPEN, STORE), since
a changed client need not ask for places. What is under way counts only once it is committed: so a vault may end over
its quota by all the puts that it had under way when it reached it. A device that lies about what it holds can use up
somebody's quota.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from broker.catalog import Catalog
from common.errors import ProtocolError
from common.protocol.codec import unpack_header
from common.protocol.device_messages import Open
from common.protocol.envelope import Operation
from common.protocol.messages import Answer, Code


class OwnerQuota:
    def __init__(self, catalog: Catalog, limit: Optional[int]) -> None:
        """`limit`: bytes; None for any number."""
        self._catalog = catalog
        self._limit = limit

    def refusal_of(self, owner: bytes, operation: Operation, frames: Sequence[memoryview]) -> Optional[Answer]:
        """The refusal of a forwarded request (its frames: envelope, header, payload); None where it may pass."""
        if self._limit is None or operation not in (Operation.OPEN, Operation.STORE):
            return None
        if operation is Operation.OPEN:
            try:
                return self.refusal(owner, unpack_header(frames[1], Open).share_bytes)
            except ProtocolError:
                return None  # the device says so
        return self.refusal(owner, frames[2].nbytes if len(frames) == 3 else 0)

    def refusal(self, owner: bytes, more: int) -> Optional[Answer]:
        """The refusal where so many more bytes would be too many."""
        if self._limit is None:
            return None
        used = self._catalog.bytes_of(owner)
        if used < self._limit and used + more <= self._limit:
            return None
        text = f"this vault has {used} bytes of shares here, and its quota is {self._limit}"
        return Answer(Code.NO_ROOM, text)
