"""Which client brought which vault: an owner costs nothing to make up, so what its vaults take counts for the client.

The client that first stores as an owner brought it, and the next takes it from one that is no member any more. A client
brings few vaults; those that have nothing stored make way. What was retired counts for ever.

Kept in `vaults.json` of the broker's folder, so that a restart forgives nobody. Lost, it is made anew by and by.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Callable, Optional

import msgspec

from common.files import read_limited, write_private

MAX_VAULTS = 64  # that one client brings, those that were retired among them
_MAX_FILE = 64 << 20  # bytes
log = logging.getLogger(__name__)

_Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]  # a client's public key
_Owner = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class VaultOrigins:
    def __init__(self, path: Optional[Path] = None) -> None:
        """`path`: where they are kept; None for in memory only."""
        self._path = path
        self._origins: dict[bytes, bytes] = {} if path is None else _read(path)
        self._brought: dict[bytes, set[bytes]] = {}  # client → owners
        for owner, client in self._origins.items():
            self._brought.setdefault(client, set()).add(owner)
        self._changed = False

    def clients(self) -> list[bytes]:
        """Who brought any."""
        return list(self._brought)

    def brought_by(self, client: bytes) -> set[bytes]:
        """The owners of the vaults that a client (by its public key) brought."""
        return self._brought.get(client, set())

    def client_of(self, owner: bytes) -> Optional[bytes]:
        """The client that brought a vault."""
        return self._origins.get(owner)

    def bring(
        self,
        owner: bytes,
        client: bytes,
        *,
        is_member: Callable[[bytes], bool],
        in_use: Callable[[bytes], bool],
    ) -> bool:
        """A client stores as an owner; False where it would be one vault too many of this client's.

        in_use: whether an owner has anything stored, or was retired.
        """
        former = self._origins.get(owner)
        if former is not None and (former == client or is_member(former)):
            return True
        mine = self._brought.get(client, set())
        if len(mine) >= MAX_VAULTS and owner not in mine:
            for unused in [other for other in mine if not in_use(other)]:
                self._forget(unused)
            if len(self._brought.get(client, ())) >= MAX_VAULTS:
                return False
        self._forget(owner)
        self._origins[owner] = client
        self._brought.setdefault(client, set()).add(owner)
        self._changed = True
        return True

    def save(self) -> None:
        """Write what changed; a disk that refuses is asked again at the next change."""
        if not self._changed or self._path is None:
            return
        self._changed = False
        vaults = {owner.hex(): client.hex() for owner, client in self._origins.items()}
        try:
            write_private(self._path, json.dumps(vaults, indent=1).encode())
        except OSError as error:
            log.error(
                "%s cannot be written: %s; after a restart clients may bring as many vaults again", self._path, error
            )

    def _forget(self, owner: bytes) -> None:
        client = self._origins.pop(owner, None)
        if client is not None:
            self._brought[client].discard(owner)
            if not self._brought[client]:
                del self._brought[client]


def _read(path: Path) -> dict[bytes, bytes]:
    try:
        vaults = msgspec.json.decode(read_limited(path, _MAX_FILE), type=dict[_Owner, _Key])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.error("%s cannot be read: %s; which client brought which vault is found out anew", path, error)
        return {}
    return {bytes.fromhex(owner): bytes.fromhex(client) for owner, client in vaults.items()}
