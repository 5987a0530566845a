"""Amending on real devices: for a new owner, for a friend, through a kill, and on a device that was away.

The requests are made over the clients' link itself. A cluster of its own, whose broker waits two seconds for a device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional, TypeVar

import msgspec
import numpy as np
import pytest

from cluster.local import LocalCluster
from common.coding.recipe import Recipe, digest
from common.erasure import ErasureCode
from common.errors import TesseraError
from common.link.link import Link, run_with_link
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair
from common.protocol.codec import pack, unpack
from common.protocol.device_messages import (
    Amend,
    BlockName,
    Commitment,
    Describe,
    Fetch,
    Grant,
    ShareName,
    Store,
    Wanted,
    WholeShare,
)
from common.protocol.identifiers import encoding_id
from common.protocol.messages import Acknowledged, EncodingAt, ListObjects, Locate
from common.protocol.operations import AMEND, DELETE, DESCRIBE, FETCH, LIST, LOCATE, STORE, H, Spec
from common.vault.keys import VaultKey
from tests.cluster.conftest import home_of, running_cluster
from tests.support.devices import number_of, revive, wait_lost
from tests.support.programs import random_bytes, wait_until
from tests.support.sample_shares import sign

T = TypeVar("T")
K, N = 2, 4
PATIENCE = 20.0
TRASH = 3600  # seconds


@dataclass(frozen=True)
class Vault:
    """An owner, as far as the network knows one."""

    key: VaultKey

    @property
    def owner(self) -> bytes:
        return self.key.owner_id()


class Image:
    """An encoding of one segment of chance."""

    def __init__(self, owner: Vault) -> None:
        self.nonce = random_bytes(16)
        code = ErasureCode(K, N)
        arrays = [np.frombuffer(random_bytes(code.block_unit), np.uint8) for _ in range(K)]
        parity = [np.empty(code.block_unit, np.uint8) for _ in range(N - K)]
        code.encode(arrays, parity)
        self.blocks = [array.tobytes() for array in arrays + parity]
        digests = b"".join(digest(block) for block in self.blocks)
        self.encoding_id = encoding_id(owner.key.owner_key(), self.nonce)
        self.recipe = Recipe(self.encoding_id, K, N, code.block_unit, code.block_unit, digests)
        self.object_id, self.owner = random_bytes(32), owner.owner

    def commitment(self, revision: int = 1, *grants: Grant) -> Commitment:
        """As its first owner says it."""
        recipe, mapping = self.recipe.encode(), b"the mapping"
        return Commitment(self.object_id, self.owner, recipe, mapping, self.nonce, [], revision, list(grants))


class Client:
    """One machine that speaks for one vault at a time."""

    def __init__(self, cluster: LocalCluster) -> None:
        folder = home_of(cluster) / "client"
        self._identity = ClientIdentity(load_key_pair(folder / "client.key"), load_brokers(folder / "brokers.json"))

    def over(self, vault: Vault, work: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
        async def whole() -> T:
            async with Link(self._identity, vault.key.owner_proof(self._identity.key_pair.public)) as link:
                return await asyncio.wait_for(work(link), 60)

        return run_with_link(whole)

    def store(self, vault: Vault, image: Image, devices: list[bytes]) -> None:
        packed = pack(sign(image.commitment(), vault.key))

        async def work(link: Link) -> None:
            for share, device in enumerate(devices):
                whole = WholeShare(image.encoding_id, share, K, N, len(image.blocks[share]), len(packed))
                payload = image.blocks[share] + packed
                stored = await link.request(STORE, Store([whole]), payload=payload, device=device, timeout=PATIENCE)
                assert [answer.granted for answer in stored.header.shares] == [True]

        self.over(vault, work)

    def amend(self, vault: Vault, image: Image, said: Commitment, devices: list[bytes]) -> None:
        header, packed = Amend(image.encoding_id), pack(sign(said, vault.key))

        async def work(link: Link) -> None:
            for device in devices:
                await link.request(AMEND, header, payload=packed, device=device, timeout=PATIENCE)

        self.over(vault, work)

    def found(self, vault: Vault, object_id: bytes) -> list[EncodingAt]:
        async def work(link: Link) -> list[EncodingAt]:
            reply = await link.request(
                LOCATE,
                Locate(),
                payload=pack([object_id]),
                timeout=PATIENCE,
            )
            return unpack(reply.payload, list[EncodingAt])

        return self.over(vault, work)

    def listed(self, vault: Vault) -> list[bytes]:
        async def work(link: Link) -> list[bytes]:
            reply = await link.request(LIST, ListObjects(), timeout=PATIENCE)
            return [encoding.object_id for encoding in unpack(reply.payload, list[EncodingAt])]

        return self.over(vault, work)

    def read(self, vault: Vault, image: Image, share: int, device: bytes) -> Optional[tuple[bytes, bytes]]:
        """Block and mapping of a share, or None where the device says no."""
        block = Fetch([BlockName(image.encoding_id, share, 0)])
        name = Describe([ShareName(image.encoding_id, share)], Wanted.MAPPING)

        async def work(link: Link) -> Optional[tuple[bytes, bytes]]:
            options: dict[str, Any] = {"device": device, "reply_bytes": 40_000, "timeout": PATIENCE}
            fetched = await link.request(FETCH, block, **options)
            described = await link.request(DESCRIBE, name, **options)
            granted = fetched.header.parts[0].answer.granted, described.header.parts[0][0].granted
            assert granted[0] is granted[1]
            return (bytes(fetched.payload), bytes(described.payload)) if all(granted) else None

        return self.over(vault, work)

    def refused(self, vault: Vault, operation: Spec[H, Acknowledged], header: H, device: bytes, payload: bytes) -> bool:
        async def work(link: Link) -> bool:
            try:
                await link.request(operation, header, payload=payload or None, device=device, timeout=PATIENCE)
            except TesseraError:
                return True
            return False

        return self.over(vault, work)


@pytest.fixture(scope="module")
def amending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("amending") / "cluster", N) as running:
        (home_of(running) / "config.toml").write_text('[broker]\nrepair_after = "2s"\n')
        running.kill_broker()
        running.start_broker()
        running.wait_registered(N)
        yield running


@pytest.fixture
def amending_cluster(amending: LocalCluster) -> Iterator[LocalCluster]:
    yield amending
    revive(amending)


@pytest.fixture
def client(amending_cluster: LocalCluster) -> Client:
    return Client(amending_cluster)


@pytest.fixture
def devices(amending_cluster: LocalCluster) -> list[bytes]:
    """Device ids, in the order of names."""
    there = sorted(amending_cluster.status()["devices"], key=lambda device: str(device["name"]))
    return [bytes.fromhex(str(device["id"])) for device in there]


def give(image: Image, old: Vault, new: Vault, said: Commitment) -> None:
    """Have a commitment say that the image is another vault's from now on."""
    said.owner, said.transfers = new.owner, [old.key.signing_key().transfer(image.encoding_id, new.owner)]


def new_vault() -> Vault:
    return Vault(VaultKey.generate())


def shares_of(found: list[EncodingAt]) -> list[list[int]]:
    return [sorted(at.share for at in encoding.shares if at.sound and at.alive) for encoding in found]


def test_what_was_amended_is_found_under_the_new_owner_and_no_more_under_the_old(
    client: Client, devices: list[bytes]
) -> None:
    old, new = new_vault(), new_vault()
    image = Image(old)
    client.store(old, image, devices)
    assert shares_of(client.found(old, image.object_id)) == [[0, 1, 2, 3]]
    taken_over = image.commitment(2)
    taken_over.object_id = random_bytes(32)
    give(image, old, new, taken_over)
    client.amend(new, image, taken_over, devices)
    assert client.found(old, image.object_id) == []
    assert client.listed(old) == []
    assert shares_of(client.found(new, taken_over.object_id)) == [[0, 1, 2, 3]]
    assert client.read(old, image, 0, devices[0]) is None
    assert client.read(new, image, 0, devices[0]) == (image.blocks[0], b"the mapping")


def test_a_friend_reads_what_is_granted_and_does_nothing_else_until_it_is_taken_back(
    client: Client, devices: list[bytes]
) -> None:
    owner, friend = new_vault(), new_vault()
    image, others = Image(owner), Image(owner)
    client.store(owner, image, devices)
    client.store(owner, others, devices)
    grant = Grant(friend.owner, random_bytes(32), b"the friend's mapping")
    client.amend(owner, image, image.commitment(2, grant), devices)
    assert client.listed(friend) == [grant.object_id]
    assert shares_of(client.found(friend, grant.object_id)) == [[0, 1, 2, 3]]
    assert client.found(friend, others.object_id) == []
    assert client.read(friend, image, 1, devices[1]) == (image.blocks[1], b"the friend's mapping")
    for vault in (owner, friend):
        delete = vault.key.tombstone(image.object_id, image.encoding_id, 1, TRASH)
        assert client.refused(friend, DELETE, delete, devices[1], b"")
        said = msgspec.structs.replace(image.commitment(3), owner=vault.owner)
        for signer in (owner, friend):
            packed = pack(sign(said, signer.key))
            assert client.refused(friend, AMEND, Amend(image.encoding_id), devices[1], packed)
    assert client.read(friend, others, 0, devices[0]) is None
    client.amend(owner, image, image.commitment(3), devices)
    assert client.listed(friend) == []
    assert client.read(friend, image, 1, devices[1]) is None
    assert client.read(owner, image, 1, devices[1]) == (image.blocks[1], b"the mapping")


def test_a_device_killed_in_the_middle_of_amending_has_the_old_or_the_new_one_whole(
    amending_cluster: LocalCluster, client: Client, devices: list[bytes]
) -> None:
    owner = new_vault()
    image = Image(owner)
    client.store(owner, image, devices)
    name = sorted(amending_cluster.devices)[0]

    async def amend_until_killed(link: Link) -> int:
        """Amend without pause, kill the device in the middle; the last revision that was acknowledged."""
        acknowledged = 1
        for revision in range(2, 400):
            said = image.commitment(revision)
            said.mapping = b"mapping %d" % revision
            request = asyncio.ensure_future(
                link.request(
                    AMEND,
                    Amend(image.encoding_id),
                    payload=pack(sign(said, owner.key)),
                    device=devices[0],
                    timeout=2.0 if revision >= 30 else PATIENCE,  # of the dead one, soon enough
                )
            )
            if revision == 30:
                await asyncio.sleep(0)
                amending_cluster.kill_device(number_of(amending_cluster, name))
            try:
                await request
            except TesseraError:
                return acknowledged
            acknowledged = revision
        return acknowledged

    acknowledged = client.over(owner, amend_until_killed)
    assert acknowledged in (29, 30)
    revive(amending_cluster)
    read = client.read(owner, image, 0, devices[0])
    assert read is not None
    assert read[0] == image.blocks[0]
    assert read[1] in [b"mapping %d" % revision for revision in (acknowledged, acknowledged + 1)]


def test_a_device_that_was_away_is_mended_with_the_newer_commitment(
    amending_cluster: LocalCluster, client: Client, devices: list[bytes]
) -> None:
    old, new = new_vault(), new_vault()
    image = Image(old)
    client.store(old, image, devices)
    name = sorted(amending_cluster.devices)[N - 1]
    amending_cluster.kill_device(number_of(amending_cluster, name))
    wait_lost(amending_cluster, number_of(amending_cluster, name))
    taken_over = image.commitment(2)
    taken_over.object_id, taken_over.mapping = random_bytes(32), b"the new mapping"
    give(image, old, new, taken_over)
    client.amend(new, image, taken_over, devices[: N - 1])
    revive(amending_cluster)

    def mended() -> bool:
        whole = shares_of(client.found(new, taken_over.object_id)) == [[0, 1, 2, 3]]
        return whole and client.found(old, image.object_id) == []

    wait_until(mended, "the share that was away, with the new commitment")
    assert client.read(new, image, N - 1, devices[N - 1]) == (image.blocks[N - 1], b"the new mapping")
    assert client.read(old, image, N - 1, devices[N - 1]) is None
