"""A client that knows all ids of another owner's image changes nothing of it, and learns nothing.

The hostile client is admitted, has a vault of its own and speaks the protocol as it likes. What it is answered about
ids that exist is what it is answered about ids that do not; one thing excepted, which the last test says.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable
from typing import Any, Callable, NamedTuple, TypeVar

import pytest

from cluster.local import LocalCluster
from common.coding.recipe import digest
from common.link.link import Link, run_with_link
from common.link.questions import list_encodings, locate
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair
from common.protocol.codec import MAX_PAYLOAD, pack
from common.protocol.device_messages import (
    Append,
    BlockName,
    Commit,
    Commitment,
    Describe,
    Fetch,
    Inspect,
    Open,
    ShareName,
    Store,
    WholeShare,
)
from common.protocol.messages import BadShare, ListTrash, RepairNow, ReportBad
from common.protocol.operations import (
    ABANDON,
    APPEND,
    CHECK,
    COMMIT,
    DELETE,
    DESCRIBE,
    DISCARD,
    FETCH,
    INSPECT,
    OPEN,
    PROGRESS,
    REPAIR,
    REPORT_BAD,
    STORE,
    TRASH,
    UNDELETE,
    H,
    R,
    Spec,
)
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from tests.cluster.conftest import MakeUser
from tests.support.devices import held_shares
from tests.support.programs import User, random_bytes
from tests.support.sample_shares import sign

T = TypeVar("T")
Ask = Callable[[Link, "Known"], Awaitable[Any]]


class Known(NamedTuple):
    """What the hostile client knows of a share."""

    object_id: bytes
    encoding_id: bytes
    share: int
    device: bytes
    k: int
    n: int

    def absent(self) -> Known:
        """The same of an image that there is not."""
        return self._replace(object_id=os.urandom(32), encoding_id=os.urandom(16))

    @property
    def name(self) -> ShareName:
        return ShareName(self.encoding_id, self.share)


@pytest.fixture
def victim(make_user: MakeUser) -> User:
    user = make_user("victim")
    user.store_bytes(random_bytes(5000))
    return user


def identity(user: User) -> ClientIdentity:
    folder = user.home / "client"
    return ClientIdentity(load_key_pair(folder / "client.key"), load_brokers(folder / "brokers.json"))


def known_of(victim: User) -> Known:
    """Everything that may be known of the victim's image, from the victim itself."""
    key, its = VaultFolder(victim.home).unlock(victim.environment["TESSERA_PASSPHRASE"]), identity(victim)

    async def ask() -> Known:
        async with Link(its, key.owner_proof(its.key_pair.public)) as link:
            (encoding,) = await list_encodings(link)
            place = encoding.shares[0]
            return Known(
                encoding.object_id,
                encoding.encoding_id,
                place.share,
                place.device_id,
                encoding.k,
                encoding.n,
            )

    return run_with_link(ask)


def as_stranger(machine: User, work: Callable[[Link], Awaitable[T]]) -> T:
    """Do something with the link of an admitted client that speaks for another vault."""

    async def run() -> T:
        its = identity(machine)
        async with Link(its, STRANGERS_KEY.owner_proof(its.key_pair.public)) as link:
            return await work(link)

    return run_with_link(run)


async def outcome(asked: Awaitable[Any]) -> Any:
    """What an answer says, in a form that can be compared."""
    try:
        reply = await asked
    except DeclinedError as error:
        return error.code, str(error)
    return reply.header, bytes(reply.payload)


def to_device(operation: Spec[H, R], header: Callable[[Known], H], payload: bytes = b"") -> Ask:
    def ask(link: Link, known: Known) -> Awaitable[Any]:
        sent = payload or None
        return link.request(
            operation,
            header(known),
            payload=sent,
            device=known.device,
            reply_bytes=MAX_PAYLOAD - len(payload),
            timeout=20.0,
        )

    return ask


STRANGERS_KEY = VaultKey(b"s" * 32)
ASKED: dict[str, Ask] = {
    "FETCH": to_device(FETCH, lambda o: Fetch([BlockName(o.encoding_id, o.share, 0)])),
    "DESCRIBE": to_device(DESCRIBE, lambda o: Describe([o.name])),
    "PROGRESS": to_device(PROGRESS, lambda o: o.name),
    "APPEND": to_device(
        APPEND,
        lambda o: Append(o.encoding_id, o.share, 0, digest(b"x")),
        b"x",
    ),
    "COMMIT": to_device(
        COMMIT,
        lambda o: Commit(o.encoding_id, o.share),
        pack(sign(Commitment(b"o" * 32, STRANGERS_KEY.owner_id(), b"r", b"m", bytes(16)), STRANGERS_KEY)),
    ),
    "OPEN": to_device(OPEN, lambda o: Open(o.encoding_id, o.share, o.k, o.n, 1024, 100)),
    "ABANDON": to_device(ABANDON, lambda o: o.name),
    "DELETE": to_device(DELETE, lambda o: STRANGERS_KEY.tombstone(o.object_id, o.encoding_id, 1, 3600)),
    "UNDELETE": to_device(UNDELETE, lambda o: STRANGERS_KEY.tombstone(o.object_id, o.encoding_id, 2)),
    "INSPECT": to_device(INSPECT, lambda o: Inspect(o.encoding_id, o.share, 0)),
    "CHECK": to_device(CHECK, lambda o: o.name),
    "DISCARD": to_device(DISCARD, lambda o: o.name),
    "REPAIR": lambda link, o: link.request(REPAIR, RepairNow(), payload=pack([o.object_id])),
    "REPORT_BAD": lambda link, o: link.request(
        REPORT_BAD, ReportBad(), payload=pack([BadShare(o.encoding_id, o.share, o.device)])
    ),
    "TRASH": lambda link, o: link.request(TRASH, ListTrash(), reply_bytes=MAX_PAYLOAD),
}


@pytest.mark.parametrize("operation", ASKED)
def test_what_is_anothers_is_answered_like_what_does_not_exist(
    cluster: LocalCluster, owner: User, victim: User, operation: str
) -> None:
    known = known_of(victim)
    before = {record: record.read() for record in held_shares(cluster)}

    async def compare(link: Link) -> None:
        there, absent = known, known.absent()
        assert await outcome(ASKED[operation](link, there)) == await outcome(ASKED[operation](link, absent))
        for opened in (there, absent):
            await outcome(ASKED["ABANDON"](link, opened))

    as_stranger(owner, compare)
    assert {record: record.read() for record in held_shares(cluster)} == before
    (image,) = victim.listed()
    assert victim.restore(image["sha256"], output=victim.folder / "out").exit_code == 0


def test_anothers_images_are_neither_listed_nor_located(owner: User, victim: User) -> None:
    known = known_of(victim)

    async def look(link: Link) -> None:
        assert await list_encodings(link) == []
        found, _ = await locate(link, [known.object_id])
        assert found == {known.object_id: []}

    as_stranger(owner, look)


def test_anothers_image_and_none_take_equally_long_to_be_denied(owner: User, victim: User) -> None:
    """By medians of many questions in turn: a disk that is read shows at once."""
    known = known_of(victim)

    async def measure(link: Link) -> None:
        for operation in ("FETCH", "DESCRIBE", "DELETE"):
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(150):
                for there in seconds:
                    asked = known if there else known.absent()
                    started = time.perf_counter()
                    await outcome(ASKED[operation](link, asked))
                    seconds[there].append(time.perf_counter() - started)
            ratio = statistics.median(seconds[True]) / statistics.median(seconds[False])
            assert 0.5 < ratio < 2.0, operation

    as_stranger(owner, measure)


def test_anothers_share_is_not_overwritten(cluster: LocalCluster, owner: User, victim: User) -> None:
    """That it is there shows here, to whoever knows its ids and sends a whole share in its place."""
    known = known_of(victim)
    before = {record: record.read() for record in held_shares(cluster)}

    async def overwrite(link: Link) -> None:
        whole = WholeShare(known.encoding_id, known.share, known.k, known.n, 4, 4)
        header, _ = await outcome(link.request(STORE, Store([whole]), payload=b"x" * 8, device=known.device))
        assert not header.shares[0].granted

    as_stranger(owner, overwrite)
    assert {record: record.read() for record in held_shares(cluster)} == before
