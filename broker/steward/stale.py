"""Gives up shares that were amended elsewhere while their device was away, so that they are rebuilt as the others are.

A steward has no right to amend anything. But where k devices hold a newer commitment, a share can be rebuilt from them
with that one beside it, as if it were damaged. So the device is told to discard the stale share (into its trash), and
the encoding then lacks it. One share of an encoding at a time, only while k shares of the newer commitment are at hand,
and not before whoever amends may have come to it by himself.
"""

from __future__ import annotations

from collections.abc import Collection

from broker.catalog import Catalog, Known
from broker.steward import plan
from broker.steward.assessment import Presence, assign
from broker.steward.requests import Request, Requests
from broker.steward.survey import Survey
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Operation

AMENDING = 30.0  # seconds that an owner is given for amending one encoding on all devices
_AT_ONCE = 50  # encodings in one tick


class Stale:
    """`patience`: seconds before a stale share is given up. `now` is monotonic seconds."""

    def __init__(self, catalog: Catalog, survey: Survey, patience: float, requests: Requests) -> None:
        self._catalog = catalog
        self._survey = survey
        self._patience = patience
        self._requests = requests

    def tick(self, now: float, rooms: plan.Rooms, busy: Collection[bytes]) -> None:
        """Give up what is stale for long enough, of encodings that no job works on."""
        due = [encoding for encoding, since in self._survey.stale.items() if now - since >= self._patience]
        for encoding_id in [encoding for encoding in due if encoding not in busy][:_AT_ONCE]:
            known = self._catalog.known(encoding_id)
            if known is not None and _newer_at_hand(known, rooms) >= known.claim.k:
                self._survey.stale[encoding_id] = now
                self._give_up(known, rooms)

    def _give_up(self, known: Known, rooms: plan.Rooms) -> None:
        presence = plan.presence_in(rooms)
        for owner, place in known.stale:
            if presence(place.device) is Presence.HERE:
                name = ShareName(known.claim.encoding_id, place.share)
                self._requests.add(Request(place.device, owner, Operation.DISCARD, name))
                return


def _newer_at_hand(known: Known, rooms: plan.Rooms) -> int:
    """How many different shares with the newer commitment are at hand."""
    presence = plan.presence_in(rooms)
    stale = {one.place for one in known.stale}
    here = [p for p in known.sound if p not in stale and presence(p.device) in (Presence.HERE, Presence.LEAVING)]
    return len(assign(known.claim.encoding_id, here))
