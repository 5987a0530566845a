"""From what somebody pasted or typed to an invite: the whole line, or the short code, whose broker is looked for."""

from __future__ import annotations

from typing import Optional

from common.errors import UnreachableError
from common.finding.looking import Interfaces, find
from common.link.joining import require_role
from common.membership.invite import Invite, decode_invite
from common.membership.short_invite import ShortInvite, decode_short_invite
from common.process.events import Emit, ignore, waiting
from common.protocol.operations import Role
from common.text import as_typed

TIMEOUT = 5.0  # seconds for the first announcement of the broker's key
_GRACE = 0.3  # seconds more for others of the same key: an announcement may lie about the address
_ADVICE = (
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
            brokers = find(lambda broker: short.is_of(broker.public_key), TIMEOUT, _GRACE, interfaces)
    except UnreachableError as error:
        raise UnreachableError(str(error), advice=_ADVICE) from None
    if not brokers:
        raise UnreachableError("the broker that made this code was not found on the LAN", advice=_ADVICE)
    return Invite(short.role, brokers, short.one_time(brokers[0].public_key))


def _require_one_of(roles: tuple[Role, ...], invited: Role) -> None:
    if invited not in roles:
        require_role(invited, roles[0])
