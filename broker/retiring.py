"""Retiring a device: marked on the list of members, emptied by the steward, and then taken off the list.

The mark is durable, so that a broker that is started anew goes on. Once no other device misses what the retiring one
has, its key is no member's any more: it may be unplugged, and comes back only with a new invite. But not as long as it
holds what was deleted or replaced (decision 32): who has stolen an owner's and an admin's key could delete everything
and have all devices retired. Who wants it sooner revokes it, at the broker's machine.
"""

from __future__ import annotations

import logging
from typing import Callable

from broker.audit import Record, unrecorded
from broker.devices import Devices
from broker.members import Member, MembersFile
from broker.steward.steward import Steward
from common.errors import IntegrityError, NotFoundError
from common.protocol.identifiers import shown_key
from common.protocol.messages import GRANTED, Acknowledged, Answer, Code, Retire
from common.text import printable

log = logging.getLogger(__name__)

_TRY_AGAIN = 30.0  # seconds after the list could not be written


class Retiring:
    def __init__(
        self,
        members: MembersFile,
        devices: Devices,
        steward: Steward,
        today: Callable[[], int],
        record: Record = unrecorded,
    ) -> None:
        """`today` gives Unix seconds."""
        self._members = members
        self._today = today
        self._record = record
        self._devices = devices
        self._steward = steward
        self._next = 0.0
        self._emptied: dict[bytes, float] = {}  # since when nothing that it has is missed

    def retire(self, header: Retire) -> Acknowledged:
        """Begin, or with `cancel` end, to move a device's shares elsewhere."""
        member = self._devices.members().get(header.device_id)
        if member is None:
            return Acknowledged(Answer(Code.NOT_FOUND, "no device of this cluster has that id"))
        key = member.public_key
        try:
            self._members.change(lambda members: members.retire(key, cancel=header.cancel))
        except NotFoundError as error:
            return Acknowledged(Answer(Code.NOT_FOUND, str(error)))
        except (OSError, IntegrityError) as error:
            log.error("cannot retire anything: %s", error)
            return Acknowledged(Answer(Code.FAULT, "the broker cannot write its list of members"))
        if not header.cancel:
            self._steward.try_again(header.device_id)  # who asks waits for it
        log.info("device %s %s", member.name, "stays after all" if header.cancel else "is retiring")
        return Acknowledged(GRANTED)

    def tick(self, now: float) -> None:
        """Take those off the list whose shares are all elsewhere; after the steward's tick."""
        members = self._devices.members()
        retiring = [device for device, member in members.items() if member.retiring]
        self._emptied = {device: self._emptied.get(device, now) for device in retiring if self._steward.emptied(device)}
        for device, since in self._emptied.items() if now >= self._next else ():
            if self._devices.holds_nothing(device, since, now):
                self._take_off(device, members[device], now)

    def _take_off(self, device: bytes, member: Member, now: float) -> None:
        try:
            self._members.change(lambda members: members.revoke(member.public_key, self._today()))
        except NotFoundError:
            return  # somebody else took it off
        except (OSError, IntegrityError) as error:
            log.error("cannot take %s off the list of members: %s", member.name, error)
            self._next = now + _TRY_AGAIN
            return
        self._record("retired", device=printable(member.name), key=shown_key(member.public_key))
        log.info("device %s is retired: all its shares are elsewhere, and it may be unplugged", member.name)
