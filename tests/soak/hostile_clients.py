"""Clients that were admitted and attack, with everything that a device knows of others' images.

They have no vault's key but such as they made up. What is another's they name, commit, delete, amend, complain of and
replay; they begin what they do not end, and ask more than they read. One thread sends all of it, over bare sockets.
"""

from __future__ import annotations

import contextlib
import enum
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import zmq
from msgspec.structs import replace

from broker.rights import Standing
from cluster.local import LocalCluster
from common.coding.recipe import Recipe, digest
from common.errors import IntegrityError
from common.membership.identity import KeyPair, load_key_pair
from common.protocol.codec import MAX_PAYLOAD, pack
from common.protocol.device_messages import (
    Amend,
    Append,
    BlockName,
    Commit,
    Commitment,
    Describe,
    Fetch,
    Grant,
    Inspect,
    Open,
    ShareName,
    SignedCommitment,
    Store,
    Wanted,
    WholeShare,
)
from common.protocol.envelope import Kind, Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import (
    PROTOCOL_VERSION,
    BadShare,
    Empty,
    Hello,
    ListObjects,
    ListTrash,
    Locate,
    OwnerProof,
    RepairNow,
    ReportBad,
    Retire,
)
from common.vault.keys import VaultKey
from common.vault.signer import depositor, owner_signer
from tests.soak.hostile_peers import Peer, broker_key, enter, request
from tests.soak.mutations import message, mutated
from tests.support.store_folder import held_in

CLIENTS = 8
_PAUSE = 0.02  # seconds between two messages
_REMEMBERED = 60  # commitments, old ones too
_READ = 5  # shares of which a device shows the clients what lies beside them, at a time
_HOUR = 3600


class Attack(enum.Enum):
    OPENS = "opens shares without end, of made-up vaults, each with all the room there is"
    HALF_OPEN = "sends blocks, and never commits"
    JUNK = "stores encodings that mean nothing, granted to whom they are not for"
    OTHERS = "deletes, amends, commits, fetches and gives up what is another's, in its own name"
    REPLAYS = "shows again what others signed, the older too"
    FORGES = "speaks for others' vaults by false signatures"
    DEPOSITS = "leaves for others what competes with what they have"
    COMPLAINS = "calls good shares bad, and asks for repair"
    ASKS = "asks and reads no answer"
    RETIRES = "retires made-up owners, and devices"
    NO_MESSAGES = "sends what is no message"


class Known:
    """What a device that has shares of others shows the attackers."""

    def __init__(self, store: Path) -> None:
        self.commitments: list[tuple[bytes, int, SignedCommitment]] = []  # encoding id, share; old ones stay
        self._store = store

    def look(self, drawn: random.Random) -> None:
        """Read some of what lies there now."""
        records = sorted(held_in(self._store), key=lambda record: record.serial)
        for record in drawn.sample(records, min(_READ, len(records))):
            with contextlib.suppress(IntegrityError, OSError):  # it is being changed
                self.commitments.append((*record.key, record.opened().signed))
        del self.commitments[:-_REMEMBERED]


class _Attacker:
    """One client's session; each call of `step` sends one message."""

    def __init__(
        self, attack: Attack, peer: Peer, pair: KeyPair, drawn: random.Random, known: Known, devices: Sequence[bytes]
    ) -> None:
        self._peer, self._drawn, self._known, self._devices = peer, drawn, known, devices
        self._key = VaultKey(drawn.randbytes(32))
        self._pair = pair
        self._signer = owner_signer(self._key)
        self._opened = drawn.randbytes(16)
        self._reads = attack is not Attack.ASKS
        self._sends: Callable[[], list[Any]] = getattr(self, f"_{attack.name.lower()}")
        if attack is Attack.DEPOSITS and known.commitments:
            self._deposits_for(drawn.choice(known.commitments)[2])
        elif attack is Attack.FORGES and known.commitments:
            victims = drawn.choice(known.commitments)[2].signature.key
            self._say(Operation.HELLO, Hello(PROTOCOL_VERSION, OwnerProof(victims, drawn.randbytes(64))))
        else:
            self._say(Operation.HELLO, Hello(PROTOCOL_VERSION, self._key.owner_proof(pair.public)))

    def step(self) -> None:
        self._send(self._sends())
        while self._reads and self._peer.socket.poll(0):
            self._peer.socket.recv_multipart()

    def _send(self, frames: Sequence[Any]) -> None:
        with contextlib.suppress(zmq.Again):  # nobody reads it any more, as of who is not heard for a while
            self._peer.socket.send_multipart(frames, zmq.NOBLOCK)

    def _say(self, operation: Operation, header: Any) -> None:
        self._send(request(operation, header))

    def _device(self) -> bytes:
        return self._drawn.choice(self._devices)

    def _other(self) -> tuple[bytes, int, SignedCommitment]:
        """What is another's, or was."""
        if self._known.commitments:
            return self._drawn.choice(self._known.commitments)
        return self._drawn.randbytes(16), 0, self._signed(2)[1]

    # --- attacks

    def _opens(self) -> list[Any]:
        if self._drawn.random() < 0.2:  # another vault
            self._key = VaultKey(self._drawn.randbytes(32))
            return request(Operation.HELLO, Hello(PROTOCOL_VERSION, self._key.owner_proof(self._pair.public)))
        header = Open(self._drawn.randbytes(16), 0, 2, 3, 1 << 22, 1 << self._drawn.randint(20, 44))
        return request(Operation.OPEN, header, self._device())

    def _half_open(self) -> list[Any]:
        if self._drawn.random() < 0.3:
            self._opened = self._drawn.randbytes(16)
            return request(Operation.OPEN, Open(self._opened, 0, 2, 3, 1 << 20, 0), self._device())
        block = self._drawn.randbytes(4096)
        header = Append(self._opened, 0, self._drawn.randrange(9), digest(block))
        return [*request(Operation.APPEND, header, self._device(), len(block)), block]

    def _junk(self) -> list[Any]:
        _, _, theirs = self._other()
        c = theirs.commitment
        grants = [
            Grant(c.owner, c.object_id, self._drawn.randbytes(100)) for _ in range(self._drawn.choice([0, 1, 16]))
        ]
        return self._stored(*self._signed(self._drawn.randint(2, 6), grants=grants))

    def _others(self) -> list[Any]:
        encoding, share, theirs = self._other()
        object_id, name = theirs.commitment.object_id, ShareName(encoding, share)
        mine = replace(theirs.commitment, owner=self._signer.owner, revision=self._drawn.choice([1, 2**53 - 1]))
        (signed,) = self._signer.key.commit([mine])
        block = self._drawn.randbytes(64)
        packed, device = pack(signed), self._device()
        whole = WholeShare(encoding, share, 2, 4, len(block), len(packed))
        return self._drawn.choice(
            [
                request(Operation.DELETE, self._key.tombstone(object_id, encoding, 1, _HOUR), device),
                request(Operation.UNDELETE, self._key.tombstone(object_id, encoding, 2), device),
                [*request(Operation.AMEND, Amend(encoding), device, len(packed)), packed],
                [*request(Operation.COMMIT, Commit(encoding, share), device, len(packed)), packed],
                [*request(Operation.STORE, Store([whole]), device, 8192), block + packed],
                request(Operation.OPEN, Open(encoding, share, 2, 4, 1 << 20, 0), device),
                request(Operation.ABANDON, name, device),
                request(Operation.DISCARD, name, device),
                request(Operation.INSPECT, Inspect(encoding, share, _HOUR), device),
                request(Operation.FETCH, Fetch([BlockName(encoding, share, 0)]), device, MAX_PAYLOAD),
                request(Operation.DESCRIBE, Describe([name], Wanted.COMMITMENT), device, MAX_PAYLOAD),
            ]
        )

    def _replays(self) -> list[Any]:
        encoding, share, theirs = self._other()
        packed, device = pack(theirs), self._device()
        tombstone = self._key.tombstone(theirs.commitment.object_id, encoding, 1, 0)
        return self._drawn.choice(
            [
                [*request(Operation.AMEND, Amend(encoding), device, len(packed)), packed],
                [*request(Operation.COMMIT, Commit(encoding, share), device, len(packed)), packed],
                request(Operation.DELETE, replace(tombstone, owner_key=theirs.signature.key), device),
            ]
        )

    def _forges(self) -> list[Any]:
        """In the session of a vault whose owner did not let it speak."""
        ways: list[Callable[[], list[Any]]] = [
            self._replays,
            self._others,
            lambda: request(Operation.LIST, ListObjects(), BROKER, MAX_PAYLOAD),
        ]
        return self._drawn.choice(ways)()

    def _deposits_for(self, theirs: SignedCommitment) -> None:
        self._signer = depositor(self._pair.secret, theirs.commitment.owner)
        proof = self._signer.key.proof(self._pair.public)
        self._say(Operation.HELLO, Hello(PROTOCOL_VERSION, proof, theirs.signature.key))

    def _deposits(self) -> list[Any]:
        _, _, theirs = self._other()
        object_id = theirs.commitment.object_id if self._drawn.random() < 0.5 else self._drawn.randbytes(32)
        return self._stored(*self._signed(self._drawn.randint(2, 6), object_id))

    def _complains(self) -> list[Any]:
        encoding, share, theirs = self._other()
        bad = [BadShare(encoding, share, device) for device in self._devices]
        if self._drawn.random() < 0.5:
            return [*request(Operation.REPORT_BAD, ReportBad(), BROKER, MAX_PAYLOAD), pack(bad)]
        return [*request(Operation.REPAIR, RepairNow(), BROKER, MAX_PAYLOAD), pack([theirs.commitment.object_id])]

    def _asks(self) -> list[Any]:
        objects = pack([self._drawn.randbytes(32) for _ in range(1000)])
        return self._drawn.choice(
            [
                request(Operation.LIST, ListObjects(), BROKER, MAX_PAYLOAD),
                request(Operation.STATUS, Empty(), BROKER, MAX_PAYLOAD),
                request(Operation.HEALTH, Empty(), BROKER, MAX_PAYLOAD),
                request(Operation.TRASH, ListTrash(), BROKER, MAX_PAYLOAD),
                [*request(Operation.LOCATE, Locate(), BROKER, MAX_PAYLOAD), objects],
            ]
        )

    def _retires(self) -> list[Any]:
        if self._drawn.random() < 0.3:
            return request(Operation.RETIRE, Retire(self._device()))
        if self._drawn.random() < 0.5:
            return request(Operation.RETIRE_OWNER, Empty())
        self._key = VaultKey(self._drawn.randbytes(32))
        return request(Operation.HELLO, Hello(PROTOCOL_VERSION, self._key.owner_proof(self._pair.public)))

    def _no_messages(self) -> list[Any]:
        operation = self._drawn.choice([each for each in Operation if each is not Operation.PROBE])
        return mutated(self._drawn, message(self._drawn, operation, Kind.REQUEST, self._device()))

    # --- what it stores

    def _signed(
        self, n: int, object_id: Optional[bytes] = None, grants: Sequence[Grant] = ()
    ) -> tuple[bytes, SignedCommitment, bytes]:
        """An encoding of one segment, all of whose blocks are the same: its id, commitment, and that block."""
        nonce, encoding = self._signer.new_encoding()
        block = self._drawn.randbytes(64)
        recipe = Recipe(encoding, 2, n, len(block), len(block), digest(block) * n)
        commitment = Commitment(
            object_id or self._drawn.randbytes(32),
            self._signer.owner,
            recipe.encode(),
            self._drawn.randbytes(100),
            nonce,
            transfers=self._signer.transfers(encoding),
            grants=list(grants),
        )
        (signed,) = self._signer.key.commit([commitment])
        return encoding, signed, block

    def _stored(self, encoding: bytes, signed: SignedCommitment, block: bytes) -> list[Any]:
        packed = pack(signed)
        n = len(signed.commitment.recipe) // 32  # or less: only some shares are sent
        whole = WholeShare(encoding, self._drawn.randrange(2), 2, max(2, min(n, 6)), len(block), len(packed))
        payload = block + packed
        return [*request(Operation.STORE, Store([whole]), self._device(), len(payload)), payload]


class HostileClients:
    """They know what the device with this store knows."""

    def __init__(self, cluster: LocalCluster, store: Path) -> None:
        self._pairs = enter(cluster, Standing.CLIENT, CLIENTS)
        self._server, self._port = broker_key(cluster), cluster.base_port
        folders = [cluster.directory / name for name in cluster.devices]
        self._devices = [load_key_pair(folder / "device.key").device_id for folder in folders]
        self._known = Known(store)

    @contextlib.contextmanager
    def attacking(self, attacks: Sequence[Attack], drawn: random.Random) -> Iterator[None]:
        """Attack as long as the block lasts, each way by another client; raises what the thread itself met."""
        self._known.look(drawn)
        over, faults = threading.Event(), []

        def attack() -> None:
            context: zmq.Context[Any] = zmq.Context()
            try:
                attackers = []
                for each, pair in zip(attacks, drawn.sample(self._pairs, len(attacks))):
                    peer = Peer(context, pair, self._server, self._port)
                    peer.socket.immediate = 0  # what is sent before the connection stands waits for it
                    attackers.append(_Attacker(each, peer, pair, drawn, self._known, self._devices))
                while not over.wait(_PAUSE):
                    drawn.choice(attackers).step()
            except BaseException as fault:  # told by the thread that waits
                faults.append(fault)
            finally:
                context.destroy(linger=0)

        thread = threading.Thread(target=attack, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if faults:
            raise faults[0]
