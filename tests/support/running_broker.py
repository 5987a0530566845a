"""A broker as it is, with real sockets and its files in a folder, served by a thread of the test."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Optional

from broker.audit import AuditLog
from broker.lanes import Lanes
from broker.listening import Listening
from broker.members import Address, Member, MembersFile
from broker.own_entry import enter_self, join_cluster
from broker.rights import Standing
from broker.server import Server
from broker.steward.steward import Settings
from common.discovery.addresses import BrokerAddress
from common.errors import TesseraError
from common.membership.identity import KeyPair
from common.membership.invite import Invite
from common.protocol.operations import Role
from tests.support.ports import own_base_port

PATIENCE = 30  # seconds: whatever takes so long does not come


class RunningBroker:
    has_lanes = False

    def __init__(self, folder: Path, invite: Optional[Invite] = None, audit: Optional[AuditLog] = None) -> None:
        self._audit = audit or AuditLog(folder)
        self.pair = KeyPair.generate()
        self.members = MembersFile(folder)
        port = own_base_port()
        self.address = BrokerAddress("127.0.0.1", port, port + 1, self.pair.public)
        self.ended_by: Optional[TesseraError] = None
        self._folder = folder
        self.start(invite)

    def start(self, invite: Optional[Invite] = None) -> None:
        """Serve, as one of the cluster that the invite comes from."""
        reached_at = Address("127.0.0.1", self.address.client_port, self.address.worker_port)
        if invite is not None:
            join_cluster(self.members, self.pair, reached_at, invite, int(time.time()))
        enter_self(self.members, self.pair, reached_at, int(time.time()))
        self._server = self.make_server()
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def make_server(self) -> Server:
        """A server that is bound to this broker's ports, and not yet served."""
        listening = Listening(
            "127.0.0.1", self.address.client_port, self.address.worker_port, lane_port=0 if self.has_lanes else None
        )
        return Server(listening, self.pair, MembersFile(self._folder), Settings(), self._audit)

    def _serve(self) -> None:
        try:
            self._server.serve(self._stopping)
        except TesseraError as error:
            self.ended_by = error
        finally:
            self._server.close()

    def stop(self) -> None:
        self._stopping.set()
        self.thread.join()

    def alive(self, device: bytes) -> bool:
        """Whether a device has registered and announced all that it holds."""
        return self._server._queries.devices.alive(device, self._server._time())

    def bans(self, public_key: bytes) -> bool:
        """Whether who has this key is not heard now."""
        return self._server._switchboard.bans.banned(public_key, self._server._time())

    @property
    def lanes(self) -> Lanes:
        """Those that it has granted."""
        return self._server._lanes

    def admit(self, standing: Standing) -> KeyPair:
        """The keys of a new member."""
        pair, now = KeyPair.generate(), int(time.time())
        member = Member(pair.public.hex(), standing, pair.public.hex()[:8], now)
        self.members.change(lambda members: members.merge([member], now))
        return pair

    def invite(self, role: Role, age: int = 0) -> Invite:
        one_time = KeyPair.generate()
        self.members.change(lambda members: members.invite(one_time.public, role, int(time.time()) - age))
        return Invite(role, [self.address], one_time)

    def revoke(self, name: str) -> None:
        self.members.change(lambda members: members.revoke(name, int(time.time())))

    def standing(self, key: bytes) -> Optional[Standing]:
        self.members.refresh()
        member = self.members.members.find(key, int(time.time()))
        return None if member is None else member.standing


class WithLanes(RunningBroker):
    """One that grants lanes, at a port that the system chooses."""

    has_lanes = True
