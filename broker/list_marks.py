"""Marks of the list of members: a broker gives them to its peers, who show them to it at their next greeting.

A mark names a generation of the list, which every change raises, and the run of the broker that gave it: each start is
a change and a run of its own. Only the broker's key makes one, so no member invents any. One of a later generation, or
of another run since this one began, was given by a list that this one is not: an old copy of the broker's folder was
put back, or a copy runs elsewhere. What such a list says of revoked members and retired owners must not be believed.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import struct
from typing import Optional

from broker.members import MembersFile, newer_list
from common.errors import IntegrityError

log = logging.getLogger(__name__)

_LABEL = b"tessera/v1/list-mark"
_CONTENT = struct.Struct(">Q8s")  # generation, run
_TAG_SIZE = 16


class ListMarks:
    def __init__(self, members: MembersFile, secret: bytes) -> None:
        """`secret`: of the broker's key pair."""
        self._members = members
        self._key = hashlib.sha256(_LABEL + secret).digest()

    def current(self) -> bytes:
        """The mark of the list as it is now."""
        history = self._members.history
        content = _CONTENT.pack(history.generation, bytes.fromhex(history.run))
        return content + self._tag(content)

    def check(self, mark: Optional[bytes]) -> None:
        """RefusedError, noted for later starts too, where this broker's key gave a mark that this list never had."""
        if mark is None or not hmac.compare_digest(mark[_CONTENT.size :], self._tag(mark[: _CONTENT.size])):
            return
        generation, run = _CONTENT.unpack(mark[: _CONTENT.size])
        history = self._members.history
        if generation <= history.before_run or (run.hex() == history.run and generation <= history.generation):
            return
        try:
            self._members.note_newer(generation)
        except (OSError, IntegrityError) as error:
            log.error("it cannot be noted that there is a newer list of members: %s", error)
        raise newer_list()

    def _tag(self, content: bytes) -> bytes:
        return hmac.new(self._key, content, hashlib.sha256).digest()[:_TAG_SIZE]
