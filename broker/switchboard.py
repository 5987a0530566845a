"""Who a message is from, whether it may be, and where it goes.

A message comes with the side it arrived on (clients or workers), its routing id and the CURVE key that ZAP established.
The key alone says who that is; the routing id is only where to answer. Everything is checked before it is believed:
the key's standing now, the envelope, the right to the operation, the session, the credit. For three breaches a key is
banned for a while (`strikes`). What is asked of the broker `queries` answers; what is meant for a device is forwarded
with a new envelope and the same payload frame, unread. What comes once for several devices `coding` takes apart.

The switchboard has no socket and no clock. It returns what is to be sent, and is told when something could not be.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Callable, Optional

from broker.adding import only_adds
from broker.audit import Record, unrecorded
from broker.audit_trail import AuditTrail
from broker.coding import Coding, DeviceRequest
from broker.credit import Forwarded, Ledger
from broker.overruns import REQUESTS
from broker.queries import Answered, Queries, owner_named
from broker.retiring import Retiring
from broker.rights import CLIENT_SIDE, DEPOSIT, FORWARDED, REPLACED, WORKER_SIDE, Standing, may
from broker.sessions import Outgoing, Session, Side, farewell, probe, refuse
from broker.steward import answers
from broker.steward.steward import Steward
from broker.strikes import Bans
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import IDENTIFIER_SIZE, owner_id
from common.protocol.messages import Acknowledged, Answer, Code, Hello, Register, Welcome
from common.protocol.operations import (
    ANNOUNCE,
    APPEND_SEGMENT,
    BROKERS,
    CHANGES,
    HEALTH,
    HELLO,
    JOIN,
    LIST,
    LOCATE,
    OPERATIONS,
    PLACES,
    REBALANCE,
    REGISTER,
    REPAIR,
    REPORT,
    REPORT_BAD,
    REPORT_DELETED,
    RETIRE,
    RETIRE_OWNER,
    STATUS,
    STORE_SEGMENTS,
    SYNC,
    TRASH,
    WITHDRAW,
    H,
    R,
    Spec,
)

log = logging.getLogger(__name__)

_Handler = Callable[[Session, H, memoryview, float], Answered]
_CLIENT_PROBE_PERIOD = 1.0  # seconds; a client that hears nothing for `connection.LIMIT` gives its broker up
_EMPTY_PAYLOAD = memoryview(b"")
_CODED = frozenset({APPEND_SEGMENT.number, STORE_SEGMENTS.number})
_ENDING = frozenset({Operation.HELLO, Operation.RETIRE_OWNER})
_REPLACED = Answer(
    Code.REPLACED, "this vault key was replaced; if by none of you: admin.py vault reclaim, then vault rotate"
)


class Switchboard:
    def __init__(
        self,
        queries: Queries,
        steward: Steward,
        retiring: Retiring,
        record: Record = unrecorded,
        *,
        record_accesses: bool = False,
    ) -> None:
        self.bans = Bans(queries.name_of, record)
        self._handlers: dict[Operation, Callable[[Session, Sequence[memoryview], float], Answered]] = {}
        self._trail = AuditTrail(queries, record, accesses=record_accesses)
        self._queries = queries
        self._steward = steward
        self._retiring = retiring
        self._coding = Coding()
        self._ledger = Ledger()
        self._routes: dict[tuple[Side, bytes], Session] = {}
        self._sessions: dict[bytes, Session] = {}  # by session id
        self._devices: dict[bytes, Session] = {}  # by device id: the registered connection
        self._bind_all()

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
        standing = self._queries.standing_of(public_key)
        if standing is None or standing not in (CLIENT_SIDE if side is Side.CLIENTS else WORKER_SIDE):
            self.bans.stranger(now)
            return []
        if self.bans.banned(public_key, now):
            return []
        self._queries.devices.heard(now)
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
        if self._is_retired(session) and envelope.operation not in self._of_replaced(session):
            return [refuse(session, envelope, _REPLACED.code, _REPLACED.text)]
        if session.depositor is not None and envelope.operation not in DEPOSIT:
            return [refuse(session, envelope, Code.NOT_ALLOWED, "this client may only store for the vault")]
        if envelope.operation in FORWARDED:
            return self._forward(session, standing, envelope, frames, payload, now)
        if envelope.operation in _CODED:
            return self._code(session, standing, envelope, frames, now)
        try:
            header, body = self._answer(session, envelope.operation, frames, now)
        except ProtocolError as error:
            refusal = refuse(session, envelope, Code.MALFORMED, str(error)[:500])
            # What another version says first is no fault of its own.
            greeting = envelope.operation in (Operation.HELLO, Operation.REGISTER, Operation.JOIN)
            return [refusal] if greeting else [refusal, *self._strike(session, str(error), now)]
        reply = Outgoing(session, envelope.reply(), pack_header(header), body)
        if envelope.operation is Operation.REGISTER and session.device in self._devices:
            # Find out whether the connection that is registered still stands; if not, the next try succeeds.
            return [reply, probe(self._devices[session.device])]
        return [reply]

    def _strike(self, session: Session, why: str, now: float) -> list[Outgoing]:
        return self.strike(session.public_key, why, now)

    def strike(self, public_key: bytes, why: str, now: float) -> list[Outgoing]:
        """A peer with this key broke the protocol; where it is banned, all its connections are forgotten."""
        if not self.bans.strike(public_key, why, now):
            return []
        ended = [session for session in self._sessions.values() if session.public_key == public_key]
        return [message for session in ended for message in self.forget(session)]

    def _refuse_malformed(self, session: Session, envelope: Envelope, why: str, now: float) -> list[Outgoing]:
        return [refuse(session, envelope, Code.MALFORMED, why), *self._strike(session, why, now)]

    def _is_admin(self, session: Session) -> bool:
        return self._queries.standing_of(session.public_key) is Standing.ADMIN

    def _is_retired(self, session: Session) -> bool:
        return session.owner is not None and self._queries.has_retired(session.owner)

    def _of_replaced(self, session: Session) -> frozenset[Operation]:
        """What may be asked with a vault key that was replaced."""
        return REPLACED if session.takes_back else _ENDING

    # --- asked of the broker

    def _bind(self, operation: Spec[H, R], handler: _Handler[H]) -> None:
        """Have an operation answered by this: session, header and payload in, header and payload out."""

        def answer(session: Session, frames: Sequence[memoryview], now: float) -> Answered:
            payload = frames[2] if len(frames) == 3 else _EMPTY_PAYLOAD
            if payload.nbytes > operation.payload:
                raise ProtocolError(f"{operation.number.name} has a payload of at most {operation.payload} bytes")
            request = unpack_header(frames[1], operation.header)
            header, body = handler(session, request, payload, now)
            self._trail.answered(session, operation.number, request, header)
            return header, body

        self._handlers[operation.number] = answer

    def _bind_all(self) -> None:
        queries, steward, catalog = self._queries, self._steward, self._queries.catalog
        bind = self._bind
        bind(HELLO, lambda session, header, _, now: self._hello(session, header))
        bind(JOIN, lambda session, header, _, now: queries.join(session.public_key, header))
        bind(SYNC, lambda session, header, payload, now: queries.sync(header, payload))
        bind(BROKERS, lambda session, header, _, now: queries.brokers())
        bind(REGISTER, lambda session, header, _, now: self._register(session, header, now))
        bind(ANNOUNCE, lambda session, header, payload, now: queries.announce(session.device, header, payload, now))
        bind(REPORT, lambda session, header, _, now: queries.report(session.device, header, now))
        bind(WITHDRAW, lambda session, header, payload, now: queries.withdraw(session.device, header, payload))
        bind(REPORT_DELETED, lambda session, header, payload, now: queries.report_deleted(session.device, payload, now))
        bind(STATUS, lambda session, header, _, now: queries.status(steward.left_on, steward.waited_for, now))
        bind(HEALTH, lambda session, header, _, now: self._health(session, now))
        bind(RETIRE, lambda session, header, _, now: (self._retiring.retire(header), None))
        bind(REBALANCE, lambda session, header, _, now: answers.rebalance(steward))
        bind(PLACES, lambda session, header, payload, now: queries.places(header, payload, session, now))
        bind(LOCATE, lambda session, header, payload, now: queries.locate(header, payload, session.vault, now))
        bind(LIST, lambda session, header, _, now: queries.list_objects(header, session.vault, now))
        bind(CHANGES, lambda session, header, _, now: queries.list_changes(header, session.vault, now))
        bind(TRASH, lambda session, header, _, now: queries.trash(header, session.vault, now))
        bind(REPAIR, lambda session, header, payload, now: answers.repair(steward, catalog, payload, session.vault))
        bind(
            REPORT_BAD, lambda session, header, payload, _: answers.report_bad(steward, catalog, payload, session.vault)
        )
        bind(RETIRE_OWNER, lambda session, header, _, now: queries.retire_owner(session, now))

    def _answer(self, session: Session, operation: Operation, frames: Sequence[memoryview], now: float) -> Answered:
        """The broker's answer; ProtocolError where header or payload have not the shape of the operation."""
        spec = OPERATIONS[operation]
        if not spec.first and not self._began(session):
            return Acknowledged(Answer(Code.NO_SESSION)), None
        if spec.vault and session.owner is None:
            return Acknowledged(Answer(Code.NOT_ALLOWED, "this needs a vault")), None
        return self._handlers[operation](session, frames, now)

    def _began(self, session: Session) -> bool:
        """Whether this session said HELLO, or REGISTER."""
        return session.greeted or self._devices.get(session.device) is session

    def _health_of(self, session: Session) -> Optional[bytes]:
        """The owner whose images an answer to HEALTH names; None for all."""
        return None if self._is_admin(session) else session.vault

    def _health(self, session: Session, now: float) -> Answered:
        header, jobs = answers.health(self._steward, self._health_of(session))
        header.over_limits = self._queries.over_limits(session.public_key, now, by_admin=self._is_admin(session))
        return header, jobs

    def _hello(self, session: Session, header: Hello) -> Answered:
        owner = owner_named(header)
        if owner is not None and self._queries.has_retired(owner) and not header.takes_back:
            return Welcome(_REPLACED), None
        welcome, payload = self._queries.hello(header, session.public_key)
        if isinstance(welcome, Welcome) and welcome.answer.granted:
            session.greeted = True
            session.owner = owner
            session.takes_back = header.takes_back
            if header.proof is not None and header.deposit_for is not None:
                session.depositor = owner_id(header.proof.owner_key)
        return welcome, payload

    def _register(self, session: Session, header: Register, now: float) -> Answered:
        registered = self._devices.get(session.device)
        if registered is session or registered is None:
            self._queries.lose(session.device)  # the same connection again: it announces anew
        acknowledged, payload = self._queries.register(session.device, header, now)
        if isinstance(acknowledged, Acknowledged) and acknowledged.answer.granted:
            self._devices[session.device] = session
            self.bans.strikes.registered(session.public_key)
        return acknowledged, payload

    # --- meant for a device

    def _forward(
        self,
        session: Session,
        standing: Standing,
        envelope: Envelope,
        frames: Sequence[memoryview],
        payload: Any,
        now: float,
    ) -> list[Outgoing]:
        if not session.greeted:
            return [refuse(session, envelope, Code.NO_SESSION)]
        if session.owner is None:
            return [refuse(session, envelope, Code.NOT_ALLOWED, "this needs a vault")]
        if standing is Standing.ADD_ONLY and not only_adds(envelope.operation, frames, session.depositor is not None):
            return [refuse(session, envelope, Code.NOT_ALLOWED, "an add-only client changes nothing that is stored")]
        if len(frames) == 3 and frames[2].nbytes > envelope.credit:
            return self._refuse_malformed(session, envelope, "the payload is larger than its credit", now)
        if envelope.credit > MAX_PAYLOAD:
            return self._refuse_malformed(session, envelope, f"the credit is over the limit of {MAX_PAYLOAD}", now)
        under_way = self._ledger.find(session.session_id, envelope.request_id)
        if under_way is not None and (under_way.device, under_way.credit) != (envelope.peer, envelope.credit):
            # Another request by the same id would pass without credit.
            return self._strike(session, "one request id for two requests", now)
        if under_way is not None and not self._ledger.repeat(under_way, now):
            return []
        device = self._devices.get(envelope.peer)
        refusal = self._queries.refusal(session, envelope.peer, envelope.operation, frames, now)
        if refusal is not None:
            return [refuse(session, envelope, refusal.code, refusal.text)]
        if device is None or not self._queries.devices.alive(envelope.peer, now):
            code = Code.BUSY if self._queries.devices.expected(envelope.peer, now) else Code.GONE
            return [refuse(session, envelope, code, "the device is not connected")]
        entry = Forwarded(
            session.public_key,
            session.session_id,
            envelope.request_id,
            envelope.peer,
            envelope.operation,
            envelope.credit,
            now,
            self._queries.devices.reports(envelope.peer),
        )
        if under_way is None and not self._ledger.enter(entry):
            if self._ledger.is_over(entry):
                self._queries.overruns.note(session.public_key, REQUESTS, now)
            flood = self.bans.strikes.over_credit(session.public_key, now)
            struck = self._strike(session, "a flood of requests over the credit", now) if flood else []
            return [refuse(session, envelope, Code.BUSY), *struck]
        self.bans.strikes.asked(device.public_key)
        self._trail.passed_on(session, envelope.operation, envelope.peer, frames, now)
        return [Outgoing(device, self._queries.passed_on(envelope, session), bytes(frames[1]), payload)]

    def _code(
        self, session: Session, standing: Standing, envelope: Envelope, frames: Sequence[memoryview], now: float
    ) -> list[Outgoing]:
        """Forward what a client sent once for several devices; each of them answers for itself."""
        try:
            asked = self._take_apart(envelope.operation, frames)
        except ProtocolError as error:
            return self._refuse_malformed(session, envelope, str(error)[:500], now)
        messages = []
        for each in asked:
            views = [frames[0], memoryview(each.header), memoryview(each.payload)]
            messages += self._forward(session, standing, each.envelope, views, each.payload, now)
            if session.session_id not in self._sessions:
                break  # it broke the protocol
        return messages

    def _take_apart(self, operation: Operation, frames: Sequence[memoryview]) -> list[DeviceRequest]:
        payload = frames[2] if len(frames) == 3 else _EMPTY_PAYLOAD
        if operation is APPEND_SEGMENT.number:
            return self._coding.appends(unpack_header(frames[1], APPEND_SEGMENT.header), payload)
        return self._coding.stores(unpack_header(frames[1], STORE_SEGMENTS.header), payload)

    def _pass_reply(
        self,
        session: Session,
        envelope: Envelope,
        frames: Sequence[memoryview],
        payload: Any,
        now: float,
    ) -> list[Outgoing]:
        if not self.bans.strikes.answered(session.public_key):
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

    def disconnected(self, side: Side, routing_id: bytes) -> list[Outgoing]:
        """The connection of this routing id is over."""
        session = self._routes.get((side, routing_id))
        return [] if session is None else self.forget(session)

    def forget(self, session: Session) -> list[Outgoing]:
        """A connection is gone: answer those who wait for it."""
        self._routes.pop((session.side, session.routing_id), None)
        self._sessions.pop(session.session_id, None)
        self._ledger.leave_session(session.session_id)
        if self._devices.get(session.device) is not session:
            return []
        del self._devices[session.device]
        self._queries.lose(session.device)
        self._steward.requests.lose(session.device)
        return self._refuse_forwarded(self._ledger.leave_device(session.device), Code.GONE)

    def _refuse_forwarded(
        self, entries: list[Forwarded], code: Code, text: str = "the device went away"
    ) -> list[Outgoing]:
        refusals = []
        for entry in entries:
            requester = self._sessions.get(entry.session)
            if requester is not None:
                envelope = Envelope(Kind.REPLY, entry.operation, entry.request_id, entry.device)
                refusals.append(refuse(requester, envelope, code, text if code is Code.GONE else ""))
        return refusals

    def tick(self, now: float) -> list[Outgoing]:
        """To be called a few times a second: finds connections that are gone, forgets requests that are over."""
        self._ledger.expire(now)
        unanswered = self._ledger.unanswered(now, self._queries.devices.reports)
        messages = self._refuse_forwarded(unanswered, Code.GONE, "the device reports, and does not answer")
        for session in list(self._sessions.values()):
            if self._queries.standing_of(session.public_key) is None:
                # Revoked, or an invite that is over. It is told, or it would go on asking and be dropped.
                messages += [farewell(session), *self.forget(session)]
                continue
            if session.side is Side.WORKERS or now - session.probed >= _CLIENT_PROBE_PERIOD:
                session.probed = now
                messages.append(probe(session))
        for device in list(self._devices.values()):
            if not self._queries.devices.alive(device.device, now):
                waiting = self._ledger.leave_device(device.device)
                messages += self._refuse_forwarded(waiting, Code.GONE)
                self._steward.requests.lose(device.device)
        self._queries.tick(now)
        self._trail.tick(now)
        self._steward.tick(now)
        self._retiring.tick(now)
        return messages + self._of_steward(now)

    def _of_steward(self, now: float) -> list[Outgoing]:
        """What the steward has to send to devices now."""
        messages = []
        for request_id, ours in self._steward.sendings(now, self._devices.__contains__):
            envelope = Envelope(Kind.REQUEST, ours.operation, request_id, self._steward.peer, ours.credit, ours.owner)
            device = self._devices[ours.device]
            self.bans.strikes.asked(device.public_key)
            messages.append(Outgoing(device, envelope, pack_header(ours.header), ours.payload))
        return messages
