"""Who a message is from, whether it may be, and where it goes.

A message comes with the side it arrived on (clients or workers), its routing id and the CURVE key that ZAP established.
The key alone says who that is; the routing id is only where to answer. Everything is checked before it is believed:
the key's standing now, the envelope, the right to the operation, the session, the credit. Three breaches close the
door for a while (`door`). What is asked of the broker
goes to the desk; what is meant for a device is forwarded with a new envelope and the same payload frame, unread.

The switchboard has no socket and no clock. It returns what is to be sent, and is told when something could not be.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Callable, TypeVar

from broker.audit import Record, unrecorded
from broker.audit_trail import AuditTrail
from broker.credit import Forwarded, Ledger
from broker.desk import Answered, Desk, owner_shown
from broker.door import Door
from broker.retiring import Retiring
from broker.rights import CLIENT_SIDE, DEPOSIT, FORWARDED, WORKER_SIDE, Standing, may
from broker.sessions import Outgoing, Session, Side, farewell, probe, refuse
from broker.steward import answers
from broker.steward.steward import Steward
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import (
    Acknowledged,
    Announce,
    Answer,
    Bury,
    Code,
    Complain,
    Empty,
    Hello,
    Join,
    ListObjects,
    ListTrash,
    Locate,
    Mend,
    Message,
    Places,
    Register,
    Report,
    Retire,
    Sync,
    Welcome,
    Withdraw,
)

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
_CLIENT_PROBE_PERIOD = 1.0  # seconds; a client that hears nothing for `silence.LIMIT` gives its broker up
_EMPTY_PAYLOAD = memoryview(b"")
_REPLACED = Answer(Code.REPLACED, "this vault key was replaced")


class Switchboard:
    def __init__(
        self,
        desk: Desk,
        steward: Steward,
        retiring: Retiring,
        record: Record = unrecorded,
        *,
        record_accesses: bool = False,
    ) -> None:
        self.door = Door(desk.name_of, record)
        self._trail = AuditTrail(desk, record, accesses=record_accesses)
        self._desk = desk
        self._steward = steward
        self._retiring = retiring
        self._ledger = Ledger()
        self._routes: dict[tuple[Side, bytes], Session] = {}
        self._sessions: dict[bytes, Session] = {}  # by session id
        self._devices: dict[bytes, Session] = {}  # by device id: the registered connection

    # --- messages in

    def receive(
        self,
        side: Side,
        routing_id: bytes,
        public_key: bytes,
        frames: Sequence[memoryview],
        payload: Any,
        now: float,
    ) -> list[Outgoing]:
        """Handle one message: frames are envelope, header and perhaps payload; `payload` is the frame to pass on."""
        standing = self._desk.standing_of(public_key)
        if standing is None or standing not in (CLIENT_SIDE if side is Side.CLIENTS else WORKER_SIDE):
            self.door.stranger(now)
            return []
        if self.door.closed(public_key, now):
            return []
        self._desk.devices.heard(now)
        refusals = self._forget_former(side, routing_id, public_key)
        session = self._session(side, routing_id, public_key)
        try:
            if len(frames) not in (2, 3):
                raise ProtocolError(f"a message of {len(frames)} frames")
            envelope = decode_envelope(frames[0])
        except ProtocolError as error:
            return refusals + self._strike(session, str(error), now)
        if envelope.kind is Kind.REPLY and standing is Standing.WORKER:
            return refusals + self._pass_reply(session, envelope, frames, payload, now)
        if envelope.kind is not Kind.REQUEST:
            return refusals
        return refusals + self._request(session, standing, envelope, frames, payload, now)

    def _forget_former(self, side: Side, routing_id: bytes, public_key: bytes) -> list[Outgoing]:
        """Where libzmq gave a routing id to another peer, nothing that was known of the first holds for it."""
        former = self._routes.get((side, routing_id))
        return self.forget(former) if former is not None and former.public_key != public_key else []

    def _session(self, side: Side, routing_id: bytes, public_key: bytes) -> Session:
        session = self._routes.get((side, routing_id))
        if session is None:
            session = Session(side, routing_id, public_key, secrets.token_bytes(IDENTIFIER_SIZE))
            self._routes[(side, routing_id)] = session
            self._sessions[session.session_id] = session
        return session

    def _request(
        self,
        session: Session,
        standing: Standing,
        envelope: Envelope,
        frames: Sequence[memoryview],
        payload: Any,
        now: float,
    ) -> list[Outgoing]:
        if not may(standing, envelope.operation):
            text = f"{envelope.operation.name} is not for a {standing.value}"
            return [refuse(session, envelope, Code.NOT_ALLOWED, text)]
        if self._is_retired(session) and envelope.operation not in (Operation.HELLO, Operation.RETIRE_OWNER):
            return [refuse(session, envelope, _REPLACED.code, _REPLACED.text)]
        if session.deposits and envelope.operation not in DEPOSIT:
            return [refuse(session, envelope, Code.NOT_ALLOWED, "this client may only store for the vault")]
        if envelope.operation in FORWARDED:
            return self._forward(session, envelope, frames, payload, now)
        try:
            header, body = self._answer(session, envelope.operation, frames, now)
        except ProtocolError as error:
            refusal = refuse(session, envelope, Code.MALFORMED, str(error)[:500])
            # What another version says first is no fault of its own.
            first = envelope.operation in (Operation.HELLO, Operation.REGISTER, Operation.JOIN)
            return [refusal] if first else [refusal, *self._strike(session, str(error), now)]
        reply = Outgoing(session, envelope.reply(), pack_header(header), body)
        if envelope.operation is Operation.REGISTER and session.device in self._devices:
            # Find out whether the connection that holds the place still stands; if not, the next try succeeds.
            return [reply, probe(self._devices[session.device])]
        return [reply]

    def _strike(self, session: Session, why: str, now: float) -> list[Outgoing]:
        """The peer broke the protocol; where its door closes, all its connections are forgotten."""
        if not self.door.strike(session.public_key, why, now):
            return []
        ended = [other for other in self._sessions.values() if other.public_key == session.public_key]
        return [message for other in ended for message in self.forget(other)]

    def _refuse_credit(self, session: Session, envelope: Envelope, why: str, now: float) -> list[Outgoing]:
        return [refuse(session, envelope, Code.MALFORMED, why), *self._strike(session, why, now)]

    def _is_admin(self, session: Session) -> bool:
        return self._desk.standing_of(session.public_key) is Standing.ADMIN

    def _is_retired(self, session: Session) -> bool:
        return session.owner is not None and self._desk.has_retired(session.owner)

    # --- asked of the broker

    def _answer(self, session: Session, operation: Operation, frames: Sequence[memoryview], now: float) -> Answered:
        """The desk's answer; ProtocolError where header or payload have not the shape of the operation."""
        desk = self._desk
        payload = frames[2] if len(frames) == 3 else _EMPTY_PAYLOAD

        def read(shape: type[M]) -> M:
            return unpack_header(frames[1], shape)

        if operation is Operation.HELLO:
            return self._hello(session, read(Hello))
        if operation is Operation.JOIN:
            return desk.join(session.public_key, read(Join))
        if operation is Operation.SYNC:
            return desk.sync(read(Sync), payload)
        if operation is Operation.BROKERS and (session.greeted or self._devices.get(session.device) is session):
            return desk.brokers()
        if operation is Operation.REGISTER:
            return self._register(session, read(Register), now)
        of_device: dict[Operation, Callable[[], Answered]] = {
            Operation.ANNOUNCE: lambda: desk.announce(session.device, read(Announce), payload, now),
            Operation.REPORT: lambda: desk.report(session.device, read(Report), now),
            Operation.WITHDRAW: lambda: desk.withdraw(session.device, (read(Withdraw), payload)[1]),
            Operation.BURY: lambda: desk.bury(session.device, (read(Bury), payload)[1], now),
        }
        if operation in of_device:
            if self._devices.get(session.device) is not session:
                return Acknowledged(Answer(Code.NO_SESSION)), None
            return of_device[operation]()
        if not session.greeted:
            return Acknowledged(Answer(Code.NO_SESSION)), None
        return self._answer_client(session, operation, read, payload, now)

    def _answer_client(
        self, session: Session, operation: Operation, read: Callable[[Any], Any], payload: memoryview, now: float
    ) -> Answered:
        """The answer to a client that said hello."""
        desk, steward, owner = self._desk, self._steward, session.owner or b""
        for_all: dict[Operation, tuple[type[Message], Callable[[Any], Answered]]] = {
            Operation.STATUS: (Empty, lambda _: desk.status(steward.left_on, steward.waited_for, now)),
            Operation.HEALTH: (Empty, lambda _: answers.health(steward, None if self._is_admin(session) else owner)),
            Operation.RETIRE: (Retire, lambda header: (self._retiring.retire(header), None)),
            Operation.REBALANCE: (Empty, lambda _: answers.rebalance(steward)),
        }
        for_owner: dict[Operation, tuple[type[Message], Callable[[Any], Answered]]] = {
            Operation.PLACES: (Places, lambda header: desk.places(header, payload, owner, now)),
            Operation.LOCATE: (Locate, lambda header: desk.locate(header, payload, owner, now)),
            Operation.LIST: (ListObjects, lambda header: desk.list(header, owner, now)),
            Operation.MEND: (Mend, lambda _: answers.mend(steward, desk.catalog, payload, owner)),
            Operation.COMPLAIN: (Complain, lambda _: answers.complain(steward, desk.catalog, payload, owner)),
            Operation.RETIRE_OWNER: (Empty, lambda _: desk.retire_owner(owner)),
            Operation.TRASH: (ListTrash, lambda header: desk.trash(header, owner, now)),
        }
        if operation in for_owner and session.owner is None:
            return Acknowledged(Answer(Code.NOT_ALLOWED, "this needs a vault")), None
        asked = {**for_all, **for_owner}.get(operation)
        if asked is None:
            raise ProtocolError("this broker does not know the operation yet")
        shape, answer = asked
        request = read(shape)
        header, body = answer(request)
        self._trail.answered(session, operation, request, header)
        return header, body

    def _hello(self, session: Session, header: Hello) -> Answered:
        owner = owner_shown(header)
        if owner is not None and self._desk.has_retired(owner):
            return Welcome(_REPLACED), None
        welcome, payload = self._desk.hello(header)
        if isinstance(welcome, Welcome) and welcome.answer.granted:
            session.greeted = True
            session.owner = owner
            session.deposits = header.deposit_token is not None
        return welcome, payload

    def _register(self, session: Session, header: Register, now: float) -> Answered:
        registered = self._devices.get(session.device)
        if registered is session or registered is None:
            self._desk.lose(session.device)  # the same connection again: it announces anew
        acknowledged, payload = self._desk.register(session.device, header, now)
        if isinstance(acknowledged, Acknowledged) and acknowledged.answer.granted:
            self._devices[session.device] = session
            self.door.strikes.registered(session.public_key)
        return acknowledged, payload

    # --- meant for a device

    def _forward(
        self,
        session: Session,
        envelope: Envelope,
        frames: Sequence[memoryview],
        payload: Any,
        now: float,
    ) -> list[Outgoing]:
        if not session.greeted:
            return [refuse(session, envelope, Code.NO_SESSION)]
        if session.owner is None:
            return [refuse(session, envelope, Code.NOT_ALLOWED, "this needs a vault")]
        if len(frames) == 3 and frames[2].nbytes > envelope.credit:
            return self._refuse_credit(session, envelope, "the payload is larger than its credit", now)
        if envelope.credit > MAX_PAYLOAD:
            return self._refuse_credit(session, envelope, f"the credit is over the limit of {MAX_PAYLOAD}", now)
        under_way = self._ledger.find(session.session_id, envelope.request_id)
        if under_way is not None and (under_way.device, under_way.credit) != (envelope.peer, envelope.credit):
            # Another request by the same id would pass without credit.
            return self._strike(session, "one request id for two requests", now)
        if under_way is not None and not self._ledger.repeat(under_way, now):
            return []
        device = self._devices.get(envelope.peer)
        refusal = self._desk.over_quota(session.owner, envelope.operation, frames)
        if refusal is not None:
            return [refuse(session, envelope, refusal.code, refusal.text)]
        if device is None or not self._desk.devices.alive(envelope.peer, now):
            code = Code.BUSY if self._desk.devices.expected(envelope.peer, now) else Code.GONE
            return [refuse(session, envelope, code, "the device is not connected")]
        entry = Forwarded(
            session.session_id, envelope.request_id, envelope.peer, envelope.operation, envelope.credit, now
        )
        if under_way is None and not self._ledger.enter(entry):
            flood = self.door.strikes.over_credit(session.public_key, now)
            struck = self._strike(session, "a flood of requests over the credit", now) if flood else []
            return [refuse(session, envelope, Code.BUSY), *struck]
        self.door.strikes.asked(device.public_key)
        self._trail.passed_on(session, envelope.operation, envelope.peer, frames, now)
        onward = envelope._replace(peer=session.session_id, owner=session.owner)
        return [Outgoing(device, onward, bytes(frames[1]), payload)]

    def _pass_reply(
        self,
        session: Session,
        envelope: Envelope,
        frames: Sequence[memoryview],
        payload: Any,
        now: float,
    ) -> list[Outgoing]:
        if not self.door.strikes.answered(session.public_key):
            return self._strike(session, "it answers what it was not asked", now)
        if envelope.peer == self._steward.peer:
            self._steward.answered(session.device, envelope.request_id, list(frames[1:]), now)
            return self._of_steward(now)
        entry = self._ledger.find(envelope.peer, envelope.request_id)
        requester = self._sessions.get(envelope.peer)
        if entry is None or requester is None:
            return []  # late: nobody waits for it any more
        if entry.device != session.device:
            # A device can guess what its client asks of others; it must not end those requests.
            log.warning("dropped a reply of a device that was not asked")
            return []
        self._ledger.leave(envelope.peer, envelope.request_id)
        onward = Envelope(Kind.REPLY, entry.operation, entry.request_id, entry.device)
        if len(frames) == 3 and frames[2].nbytes > entry.credit:
            return [refuse(requester, onward, Code.FAULT, "the reply is larger than its credit")]
        return [Outgoing(requester, onward, bytes(frames[1]), payload)]

    # --- what could not be sent, and who is gone

    def undelivered(self, message: Outgoing, *, gone: bool) -> list[Outgoing]:
        """A message could not be sent: its peer is gone, or (`gone` false) has no room for more right now."""
        answers: list[Outgoing] = []
        if not gone and message.envelope.peer == self._steward.peer:
            self._steward.requests.full(message.envelope.request_id)
        elif not gone and message.envelope.kind is Kind.REQUEST:
            entry = self._ledger.leave(message.envelope.peer, message.envelope.request_id)
            answers = self._refuse_forwarded([entry] if entry else [], Code.BUSY)
        return self.forget(message.session) if gone else answers

    def forget(self, session: Session) -> list[Outgoing]:
        """A connection is gone: answer those who wait for it."""
        self._routes.pop((session.side, session.routing_id), None)
        self._sessions.pop(session.session_id, None)
        self._ledger.leave_session(session.session_id)
        if self._devices.get(session.device) is not session:
            return []
        del self._devices[session.device]
        self._desk.lose(session.device)
        self._steward.requests.lose(session.device)
        return self._refuse_forwarded(self._ledger.leave_device(session.device), Code.GONE)

    def _refuse_forwarded(self, entries: list[Forwarded], code: Code) -> list[Outgoing]:
        refusals = []
        for entry in entries:
            requester = self._sessions.get(entry.session)
            if requester is not None:
                envelope = Envelope(Kind.REPLY, entry.operation, entry.request_id, entry.device)
                text = "the device went away" if code is Code.GONE else ""
                refusals.append(refuse(requester, envelope, code, text))
        return refusals

    def tick(self, now: float) -> list[Outgoing]:
        """To be called a few times a second: finds connections that are gone, forgets requests that are over."""
        self._ledger.expire(now)
        messages: list[Outgoing] = []
        for session in list(self._sessions.values()):
            if self._desk.standing_of(session.public_key) is None:
                # Revoked, or an invite that is over. It is told, or it would go on asking and be dropped.
                messages += [farewell(session), *self.forget(session)]
                continue
            if session.side is Side.WORKERS or now - session.probed >= _CLIENT_PROBE_PERIOD:
                session.probed = now
                messages.append(probe(session))
        for device in list(self._devices.values()):
            if not self._desk.devices.alive(device.device, now):
                waiting = self._ledger.leave_device(device.device)
                messages += self._refuse_forwarded(waiting, Code.GONE)
                self._steward.requests.lose(device.device)
        self._desk.tick(now)
        self._trail.tick(now)
        self._steward.tick(now)
        self._retiring.tick(now)
        return messages + self._of_steward(now)

    def _of_steward(self, now: float) -> list[Outgoing]:
        """What the steward has to send to devices now."""
        messages = []
        for request_id, ask in self._steward.sendings(now, self._devices.__contains__):
            envelope = Envelope(Kind.REQUEST, ask.operation, request_id, self._steward.peer, ask.credit, ask.owner)
            device = self._devices[ask.device]
            self.door.strikes.asked(device.public_key)
            messages.append(Outgoing(device, envelope, pack_header(ask.header), ask.payload))
        return messages
