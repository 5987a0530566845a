"""How much one vault, and all vaults that one client brought, may have in the whole cluster: bytes of blocks, parity
included, in all sound shares.

Counted from the catalog, and asked before a put gets places and again wherever a share is begun (OPEN, STORE), since
a changed client need not ask for places. What is under way counts only once it is committed: so a vault may end over
its quota by all the puts that it had under way when it reached it. Of one device no more counts than of the one that
has second most, so that none can use up somebody's quota by what it makes up.
"""

from __future__ import annotations

from typing import Optional

from broker.catalog import Catalog
from broker.vault_origins import VaultOrigins
from common.protocol.messages import Answer, Code


class Quota:
    def __init__(self, catalog: Catalog, origins: VaultOrigins, limit: Optional[int]) -> None:
        """`limit`: bytes; None for any number."""
        self._catalog = catalog
        self._origins = origins
        self._limit = limit

    def refusal(self, owner: bytes, more: int) -> Optional[Answer]:
        """The refusal where a vault, or who leaves images for others, would have too much with so many bytes more."""
        used = self._catalog.bytes_of(owner)
        if self._fits(used, more):
            return None
        return Answer(Code.NO_ROOM, f"this vault has {used} bytes of shares here, and its quota is {self._limit}")

    def is_over(self, client: bytes, more: int) -> bool:
        """Whether all vaults that a client (by its public key) brought would have too much with so many bytes more."""
        return self._limit is not None and not self._fits(
            sum(map(self._catalog.bytes_of, self._origins.brought_by(client))), more
        )

    def _fits(self, used: int, more: int) -> bool:
        return self._limit is None or (used < self._limit and used + more <= self._limit)
