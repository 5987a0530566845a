"""Reading an invite, and trading it for a permanent place: what a new worker, client or broker does once.

Of a short code the broker that made it is looked for on the LAN. The joiner connects with the invite's one-time key,
which the broker admits for nothing else, and names the permanent key that it made for itself. The same invite and key
again get the same answer, so that a lost reply does no harm.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple, Optional

import msgspec
import zmq

from common.discovery.addresses import BrokerAddress, is_loopback, with_scopes
from common.discovery.addresses import interfaces as own_interfaces
from common.discovery.search import Interfaces, Search, find
from common.errors import ProtocolError, RefusedError, TesseraError, UnreachableError, UsageError
from common.link.broker_list import MAX_FOUND
from common.link.connection import Change
from common.link.diagnosis import diagnose
from common.link.sockets import ConnectionMonitor, make_dealer
from common.membership.identity import KeyPair
from common.membership.invite import Invite, decode_invite
from common.membership.short_invite import ShortInvite, decode_short_invite
from common.process.events import Emit, ignore, waiting
from common.process.running_time import RunningTime
from common.protocol import messages
from common.protocol.codec import pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import Join, ReachedAt
from common.protocol.operations import Role
from common.text import as_typed

TIMEOUT = 8.0  # seconds for all brokers together
_HEAD_START = 2.0  # seconds for the broker that made the invite
_LOOK_AFTER = 1.0  # seconds without a broker until they are looked for on the LAN
_TICK = 100  # ms


class Joined(NamedTuple):
    """Under which name a joiner was admitted, and the cluster's brokers as far as it knows them now."""

    name: str
    brokers: list[BrokerAddress]


def join(
    invite: Invite,
    role: Role,
    name: str,
    permanent: KeyPair,
    reached_at: Optional[ReachedAt] = None,
    interfaces: Optional[Interfaces] = None,
    emit: Emit = ignore,
) -> Joined:
    """Have the permanent key admitted, by whichever of the invite's brokers answers first, wherever it is by now.

    `reached_at`: where others reach a broker that joins. `interfaces`: where to look for brokers; everywhere if left
    out. `emit` is told what is waited for. UsageError where the invite is for another role, RefusedError where no
    broker accepts it (any longer), UnreachableError where none answers.
    """
    require_role(invite.role, role)
    request = Join(name, permanent.public, reached_at)
    joining = _Joining(invite, request, interfaces)
    try:
        with waiting(emit, "asking the broker to let this machine in"):
            broker, joined = joining.run(TIMEOUT)
    finally:
        joining.close()
    if not joined.answer.granted:
        raise _refusal(joined.answer.text)  # no other is asked: it might not know yet that the invite was used
    return Joined(joined.name, [broker, *_others(invite.brokers, broker)])


def _others(brokers: Sequence[BrokerAddress], reached: BrokerAddress) -> list[BrokerAddress]:
    """The other brokers, each at the first of its addresses."""
    first = {broker.public_key: broker for broker in reversed(brokers)}
    keys = dict.fromkeys(broker.public_key for broker in brokers)
    return [first[key] for key in keys if key != reached.public_key]


def require_role(invited: Role, role: Role) -> None:
    """UsageError where an invite is for another role than the joiner's."""
    if invited is not role:
        raise UsageError(f"this invite is for a {invited.value}, not for a {role.value}")


class _Attempt:
    """One address: a socket, and what became of its connection."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], invite: Invite, broker: BrokerAddress) -> None:
        self.broker = broker
        self.seen: Optional[Change] = None  # the last that is no DOWN
        self.up = False
        self.socket = make_dealer(context, invite.one_time, broker.public_key)
        self.monitor = ConnectionMonitor(self.socket)
        try:
            self.socket.connect(broker.endpoint(invite.role))
        except zmq.ZMQError:
            return  # no address at all: then nothing ever comes, as from one where nobody is

    def follow(self) -> None:
        for change in self.monitor.changes():
            self.up = change is Change.UP
            self.seen = self.seen if change is Change.DOWN else change

    def close(self) -> None:
        self.monitor.close()
        self.socket.close(linger=0)


class _Joining:
    """Tries all addresses at a time, and asks one broker: whichever lets the one-time key in first.

    Where none does, the brokers are looked for on the LAN by their keys. Who turns us away at an address that was only
    found so has refused nothing: he need not have the key.
    """

    def __init__(self, invite: Invite, request: Join, interfaces: Optional[Interfaces]) -> None:
        self._invite = invite
        self._interfaces = interfaces
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._id = secrets.token_bytes(IDENTIFIER_SIZE)
        self._frames = [Envelope(Kind.REQUEST, Operation.JOIN, self._id).encode(), pack_header(request)]
        self._asked: Optional[_Attempt] = None
        self._search: Optional[Search] = None
        self._found = 0
        self._attempts: list[_Attempt] = []
        own = own_interfaces()
        for broker in invite.brokers:
            for host in with_scopes(broker.host, own):
                self._try(msgspec.structs.replace(broker, host=host))
        self._named = list(self._attempts)
        self._time = RunningTime()
        self._others_at = self._time() + _HEAD_START

    def run(self, timeout: float) -> tuple[BrokerAddress, messages.Joined]:
        """The answer, and who gave it; RefusedError where all refuse the key, UnreachableError where nobody answers.

        `timeout`: seconds.
        """
        end, look_at = self._time() + timeout, self._time() + _LOOK_AFTER
        while (now := self._time()) < end:
            self._wait()
            for attempt in self._attempts:
                attempt.follow()
                answer = self._answer_of(attempt)
                if answer is not None:
                    return attempt.broker, answer
            self._ask_one(now)
            if self._asked is None and self._all_refused():
                break
            if now >= look_at and self._asked is None:
                self._look(end - now)
        raise self._failure()

    def close(self) -> None:
        if self._search is not None:
            self._search.close()
        for attempt in self._attempts:
            attempt.close()
        self._context.destroy(linger=0)

    def _try(self, broker: BrokerAddress) -> None:
        self._attempts.append(_Attempt(self._context, self._invite, broker))

    def _wait(self) -> None:
        poller = zmq.Poller()
        for attempt in self._attempts:
            poller.register(attempt.socket, zmq.POLLIN)
            poller.register(attempt.monitor.socket, zmq.POLLIN)
        poller.poll(_TICK)

    def _ask_one(self, now: float) -> None:
        """Ask a broker that admits the key; where the connection to the one that was asked is lost, it or another.

        The one that made the invite comes first: others may not know yet that it was used.
        """
        if self._asked is not None and self._asked.up:
            return
        up = [attempt for attempt in self._attempts if attempt.up]
        if now < self._others_at and any(attempt.seen in (None, Change.UP) for attempt in self._attempts_at_maker()):
            up = [attempt for attempt in self._attempts_at_maker() if attempt.up]
        self._asked = up[0] if up else None
        if self._asked is not None:
            self._asked.socket.send_multipart(self._frames)

    def _attempts_at_maker(self) -> list[_Attempt]:
        maker = self._invite.brokers[0].public_key
        return [attempt for attempt in self._attempts if attempt.broker.public_key == maker]

    def _answer_of(self, attempt: _Attempt) -> Optional[messages.Joined]:
        while attempt.socket.poll(0):
            reply = attempt.socket.recv_multipart()
            envelope = decode_envelope(reply[0])
            if envelope.kind is Kind.REPLY and envelope.request_id == self._id:
                if len(reply) != 2:
                    raise ProtocolError(f"a reply of {len(reply)} frames to JOIN")
                return unpack_header(reply[1], messages.Joined)
        return None

    def _all_refused(self) -> bool:
        return all(attempt.seen is Change.NOT_ADMITTED for attempt in self._named)

    def _look(self, seconds: float) -> None:
        """Look for the brokers on the LAN, unless they are on this machine, and try where they are announced."""
        brokers = self._invite.brokers
        if self._search is None:
            if all(is_loopback(broker.host) for broker in brokers) and self._interfaces is None:
                return
            self._search = Search(seconds, {broker.public_key for broker in brokers}, self._interfaces)
        while (broker := self._search.next()) is not None:
            if self._found < MAX_FOUND and all(broker != attempt.broker for attempt in self._attempts):
                self._found += 1
                self._try(broker)

    def _failure(self) -> TesseraError:
        if any(attempt.seen is Change.NOT_ADMITTED for attempt in self._named):
            return _refusal("it is over or was withdrawn")
        seen = {a.broker.endpoint(self._invite.role): a.seen for a in self._attempts if a.seen is not None}
        return diagnose([attempt.broker for attempt in self._attempts], self._invite.role, seen)


def _refusal(why: str) -> RefusedError:
    return RefusedError(
        f"the broker does not accept this invite: {why}",
        advice="invites work once, within an hour: get a new one with `python broker/broker.py invite`",
    )


FIND_TIMEOUT = 5.0  # seconds for the first announcement of the broker's key
_FIND_GRACE = 0.3  # seconds more for others of the same key: an announcement may lie about the address
_WHOLE_LINE = (
    "paste the whole line that `broker.py invite` printed: the short code works on the broker's LAN only, where UDP "
    "port 5353 is open and the broker announces itself"
)


def read_invite(text: str, *roles: Role, interfaces: Optional[Interfaces] = None, emit: Emit = ignore) -> Invite:
    """The invite for one of these roles, in either form.

    UsageError (which never repeats it) where it has a fault or is for another role, both told before any search;
    UnreachableError where the broker of a short code does not announce itself on this LAN. `emit` is told of
    the search.
    """
    text = as_typed(text)
    if text.strip().lower().startswith("tessera"):
        invite = decode_invite(text)
        _require_one_of(roles, invite.role)
        return invite
    short = decode_short_invite(text)
    _require_one_of(roles, short.role)
    return _find_inviter(short, interfaces, emit)


def _find_inviter(short: ShortInvite, interfaces: Optional[Interfaces], emit: Emit) -> Invite:
    try:
        with waiting(emit, "looking for the broker on the LAN"):
            brokers = find(lambda broker: short.is_of(broker.public_key), FIND_TIMEOUT, _FIND_GRACE, interfaces)
    except UnreachableError as error:
        raise UnreachableError(str(error), advice=_WHOLE_LINE) from None
    if not brokers:
        raise UnreachableError("the broker that made this code was not found on the LAN", advice=_WHOLE_LINE)
    return Invite(short.role, brokers, short.one_time(brokers[0].public_key))


def _require_one_of(roles: tuple[Role, ...], invited: Role) -> None:
    if invited not in roles:
        require_role(invited, roles[0])
