"""A thief with a vault's key, an admin's admission and all the harm that the protocol allows, in any order.

What they do comes from the seed: they delete into no trash, put junk in the place of mappings, give encodings to a key
of their own and delete and change these, take back what was taken back, store other blocks under the same names,
complain of good shares, retire devices, and have the key refused. Then they are revoked, and the owner comes to a clean
machine with recovery codes: within the hold all restores as it was, behind it nothing does.

Run it by `python -m tests.soak.stolen_vault --seed S --minutes M`.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Optional

from msgspec.structs import replace

from broker.rights import Standing
from cluster.ports import HOST
from common.coding.recipe import Recipe, decode_recipe, digest
from common.discovery.addresses import BrokerAddress
from common.errors import TesseraError
from common.link.link import Link, run_with_link
from common.link.questions import list_pages
from common.membership.identity import ClientIdentity
from common.protocol.codec import pack
from common.protocol.device_messages import (
    Amend,
    Append,
    Commit,
    Commitment,
    ListSuperseded,
    Open,
    ShareName,
)
from common.protocol.messages import BadShare, Empty, EncodingAt, ReportBad, Retire
from common.protocol.operations import (
    AMEND,
    APPEND,
    COMMIT,
    DELETE,
    OPEN,
    REPORT_BAD,
    RETIRE,
    RETIRE_OWNER,
    SUPERSEDED,
    UNDELETE,
)
from common.repository.devices import Devices, commitment_bytes
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from tests.soak.ground import PASSPHRASE, SoakCluster, new_cluster, new_user
from tests.soak.hostile_peers import broker_key, enter
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.programs import User, files_below

SCHEDULES = 20
STEPS = 60  # of a thief
DAY = 24 * 3600.0
_NEW = "the passphrase of a clean machine"


class Thief:
    """`key`: the vault's. What they do is drawn; `granted` counts what they were let do."""

    def __init__(self, identity: ClientIdentity, key: VaultKey, drawn: random.Random) -> None:
        self._identity = identity
        self._key, self._own = key, VaultKey(drawn.randbytes(32))
        self._drawn = drawn
        self._deleted: Counter[bytes] = Counter()  # encoding → the highest generation of a tombstone
        self._first: dict[bytes, Commitment] = {}  # what devices had at first
        self.granted: Counter[str] = Counter()

    async def rob(self, steps: int) -> None:
        """Do so many things, then give or throw away all that is left, and have the key refused."""
        public = self._identity.key_pair.public
        as_owner = Link(self._identity, self._key.owner_proof(public), takes_back=True)
        async with as_owner as link, Link(self._identity, self._own.owner_proof(public)) as own:
            self._link, self._own_link = link, own
            ways: list[Callable[[], Awaitable[None]]] = [
                self._delete, self._take_back, self._junk, self._give_away, self._junk_of_what_is_given,
                self._delete_given, self._other_blocks, self._complain, self._retire_a_device, self._undelete,
            ]  # fmt: skip
            self._known = await self._listed(self._key)
            for each in self._known:
                commitment = await self._commitment(each, self._key)
                assert commitment is not None
                self._first[each.encoding_id] = commitment
            for _ in range(steps):
                await self._drawn.choice(ways)()
            for _ in range(3):  # a steward may be at work, on what was complained of before
                for encoding in await self._listed(self._key):
                    await self._ruin(encoding)
            await self._try(link.request(RETIRE_OWNER, Empty()), "retired")

    # --- what there is

    async def _listed(self, key: VaultKey) -> list[EncodingAt]:
        return [each async for page in list_pages(self._link_of(key)) for group in page.values() for each in group]

    def _link_of(self, key: VaultKey) -> Link:
        return self._link if key is self._key else self._own_link

    def _some(self, encoding: EncodingAt) -> list[bytes]:
        """Some of the devices that have an encoding, or all."""
        devices = sorted({share.device_id for share in encoding.shares})
        count = len(devices) if self._drawn.random() < 0.3 else self._drawn.randint(1, len(devices))
        return self._drawn.sample(devices, count)

    async def _commitment(
        self, encoding: EncodingAt, key: VaultKey, device: Optional[bytes] = None
    ) -> Optional[Commitment]:
        """What a device, or this one, has for the owner with this key."""
        for share in encoding.shares:
            if device not in (None, share.device_id):
                continue
            name = ShareName(encoding.encoding_id, share.share)
            try:
                devices = Devices(self._link_of(key))
                return (await devices.commitment(share.device_id, name, commitment_bytes(encoding))).commitment
            except TesseraError:
                continue
        return None

    async def _try(self, asked: Awaitable[object], done: str) -> None:
        try:
            await asked
            self.granted[done] += 1
        except TesseraError:
            self.granted["refused"] += 1

    # --- what they do

    async def _ruin(self, encoding: EncodingAt) -> None:
        """On each device what it takes there."""
        way = self._drawn.choice(["delete", "junk", "give away"])
        for share in encoding.shares:
            commitment = await self._commitment(encoding, self._key, share.device_id)
            if commitment is None:
                continue
            if way == "delete":
                for generation in range(self._deleted[encoding.encoding_id] | 1, 0, -200):
                    await self._show(encoding, generation, [share.device_id])
            elif way == "junk":
                await self._amend(encoding, self._with_junk(commitment, 1), self._key, [share.device_id])
            else:
                await self._amend(encoding, self._given(encoding, commitment, 1), self._own, [share.device_id])

    async def _delete(self) -> None:
        encoding = self._drawn.choice(self._known)
        self._deleted[encoding.encoding_id] += self._drawn.choice([2, 2, 2, 100])
        await self._show(encoding, self._deleted[encoding.encoding_id] | 1, self._some(encoding))

    async def _undelete(self) -> None:
        encoding = self._drawn.choice(self._known)
        self._deleted[encoding.encoding_id] += self._drawn.choice([2, 100])
        await self._show(encoding, self._deleted[encoding.encoding_id] // 2 * 2, self._some(encoding))

    async def _show(self, encoding: EncodingAt, generation: int, devices: Sequence[bytes]) -> None:
        stone = self._key.tombstone(encoding.object_id, encoding.encoding_id, generation, 0)
        operation, done = (DELETE, "deleted") if stone.deleted else (UNDELETE, "undeleted")
        for device in devices:
            await self._try(self._link.request(operation, stone, device=device), done)

    async def _junk(self) -> None:
        """Another mapping, maybe for another object."""
        encoding = self._drawn.choice(self._known)
        commitment = await self._commitment(encoding, self._key)
        if commitment is not None:
            said = self._with_junk(commitment, self._drawn.choice([1, 1, 200]))
            await self._amend(encoding, said, self._key, self._some(encoding))

    def _with_junk(self, commitment: Commitment, later: int) -> Commitment:
        object_id = self._drawn.choice([commitment.object_id, self._drawn.randbytes(32)])
        revision = commitment.revision + later
        return replace(commitment, object_id=object_id, mapping=self._drawn.randbytes(200), revision=revision)

    async def _give_away(self) -> None:
        encoding = self._drawn.choice(self._known)
        commitment = await self._commitment(encoding, self._key)
        if commitment is not None:
            said = self._given(encoding, commitment, self._drawn.choice([1, 1, 200]))
            await self._amend(encoding, said, self._own, self._some(encoding))

    def _given(self, encoding: EncodingAt, commitment: Commitment, later: int) -> Commitment:
        owner = self._own.owner_id()
        transfer = self._key.signing_key().transfer(encoding.encoding_id, owner)
        transfers = [*commitment.transfers, transfer]
        return replace(self._with_junk(commitment, later), owner=owner, transfers=transfers)

    async def _junk_of_what_is_given(self) -> None:
        given = await self._listed(self._own)
        if not given:
            return
        encoding = self._drawn.choice(given)
        commitment = await self._commitment(encoding, self._own)
        if commitment is not None:
            await self._amend(encoding, self._with_junk(commitment, 1), self._own, self._some(encoding))

    async def _delete_given(self) -> None:
        given = await self._listed(self._own)
        if not given:
            return
        encoding = self._drawn.choice(given)
        stone = self._own.tombstone(encoding.object_id, encoding.encoding_id, 1, 0)
        for device in self._some(encoding):
            await self._try(self._own_link.request(DELETE, stone, device=device), "deleted what is given")

    async def _take_back(self) -> None:
        """Of what a device holds, with junk, in the next generation."""
        device = self._drawn.choice([share.device_id for share in self._drawn.choice(self._known).shares])
        try:
            reply = await self._link.request(SUPERSEDED, ListSuperseded(0), device=device)
        except TesseraError:
            return
        for part in reply.header.parts[:3]:
            encoding = next((each for each in self._known if each.encoding_id == part.encoding_id), None)
            commitment = None if encoding is None else self._first.get(encoding.encoding_id)
            if encoding is not None and commitment is not None:
                generation = part.generation + self._drawn.choice([1, 100])
                said = replace(self._with_junk(commitment, part.revision), generation=generation)
                await self._amend(encoding, said, self._key, self._some(encoding))

    async def _amend(self, encoding: EncodingAt, said: Commitment, key: VaultKey, devices: Sequence[bytes]) -> None:
        (signed,) = key.signing_key().commit([said])
        for device in devices:
            asked = self._link_of(key).request(AMEND, Amend(encoding.encoding_id), device=device, payload=pack(signed))
            await self._try(asked, "amended")

    async def _other_blocks(self) -> None:
        """Other blocks in the place of what lies there, or beside it."""
        encoding = self._drawn.choice(self._known)
        commitment = self._first.get(encoding.encoding_id)
        if commitment is None:
            return
        recipe = decode_recipe(commitment.recipe)
        block = self._drawn.randbytes(64)
        forged = Recipe(encoding.encoding_id, recipe.k, recipe.n, 64, 64, digest(block) * recipe.n)
        (signed,) = self._key.signing_key().commit([replace(commitment, recipe=forged.encode())])
        for device in self._some(encoding):
            share = self._drawn.randrange(recipe.n)
            opening = Open(encoding.encoding_id, share, recipe.k, recipe.n, 64, 64)
            append = Append(encoding.encoding_id, share, 0, digest(block))
            await self._try(self._link.request(OPEN, opening, device=device), "opened")
            await self._try(self._link.request(APPEND, append, device=device, payload=block), "appended")
            commit = self._link.request(
                COMMIT, Commit(encoding.encoding_id, share), device=device, payload=pack(signed)
            )
            await self._try(commit, "committed other blocks")

    async def _complain(self) -> None:
        encoding = self._drawn.choice(self._known)
        bad = [BadShare(encoding.encoding_id, share.share, share.device_id) for share in encoding.shares]
        await self._try(self._link.request(REPORT_BAD, ReportBad(), payload=pack(bad)), "complained")

    async def _retire_a_device(self) -> None:
        device = self._drawn.choice(self._known[0].shares).device_id
        await self._try(self._link.request(RETIRE, Retire(device)), "retired a device")


class Robbed:
    """A user whose vault holds a folder, and recovery codes on paper."""

    def __init__(self, cluster: SoakCluster, name: str, drawn: random.Random) -> None:
        self._cluster, self._name, self._drawn = cluster, name, drawn
        self.user = new_user(cluster, name, snapshots=True)
        self.source = self.user.folder / "pictures"
        for path, size in (("a/one", 3000), ("a/same", 400), ("b/same", 400), ("b/large", 3 << 20), ("empty", 0)):
            target = self.source / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes(400) if path.endswith("same") else drawn.randbytes(size))
        ended = self.user.run("producer", str(self.source))
        assert ended.exit_code == 0, ended
        sheets = self.user.run("admin", "vault", "recovery", "--of", "3", "--need", "2").stdout.decode("ascii")
        self._codes = ["# Tessera" + sheet for sheet in sheets.split("# Tessera")[1:]]

    def be_robbed(self, steps: int) -> Counter[str]:
        """By a thief with the key and the admission of an admin, who is found out and revoked then."""
        key = VaultFolder(self.user.home).unlock(PASSPHRASE)
        (pair,) = enter(self._cluster, Standing.ADMIN, 1)
        port = self._cluster.base_port
        broker = BrokerAddress(HOST, port, port + 1, broker_key(self._cluster))
        thief = Thief(ClientIdentity(pair, [broker]), key, self._drawn)
        run_with_link(partial(thief.rob, steps))
        name = f"{Standing.ADMIN.value} {pair.public.hex()[:12]}"
        environment = self._cluster.broker_environment(1)
        ended = self._cluster.run("broker", "revoke", name, environment=environment, timeout=60)
        assert ended.returncode == 0, ended.stderr
        for device in self._cluster.devices:
            self.user.run("admin", "retire", "--cancel", device)
        return thief.granted

    def clean_machine(self) -> User:
        """One that has the codes, and nothing else of the vault's."""
        home = self._cluster.directory / f"{self._name}-clean"
        shutil.copytree(self._cluster.directory / "home" / "client", home / "client")
        environment = {**self._cluster.environment, "TESSERA_HOME": str(home), "TESSERA_PASSPHRASE": _NEW}
        user = User(environment, home / "work", snapshots=True)
        ended = user.run("admin", "vault", "restore", stdin="".join(self._codes[:2]).encode())
        assert ended.exit_code == 0, ended
        return user

    def restored(self, user: User) -> dict[str, bytes]:
        """What `--all` gives: path → content."""
        folder = user.folder / "all"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        user.run("consumer", "--all", "--output", str(folder))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_below(folder)}

    def what_was(self) -> list[tuple[str, bytes]]:
        return [(path.relative_to(self.source).as_posix(), path.read_bytes()) for path in files_below(self.source)]

    def check_all_is_back(self, user: User) -> None:
        there = self.restored(user)
        for path, content in self.what_was():
            found = [each for name, each in there.items() if name.endswith(f"/{path}")]
            assert found == [content], f"{path}: {sorted(there)}"


def stolen_vault(terms: Terms) -> Figures:
    """Within the hold all comes back as it was, whatever the thief did, also with another key then."""
    done: Counter[str] = Counter()
    schedules = 0
    with new_cluster(terms.folder, 6) as cluster:
        for number in range(terms.goal(SCHEDULES)):
            if not terms.time_left:
                break
            robbed = Robbed(cluster, f"user-{number}", terms.random)
            done += robbed.be_robbed(terms.random.randint(0, STEPS))
            user = robbed.clean_machine()
            ended = user.run("admin", "vault", "reclaim", "--since", "1h")
            assert ended.exit_code == 0, ended
            robbed.check_all_is_back(user)
            backup = str(user.folder / "new.key")
            ended = user.run("admin", "vault", "rotate", "--yes", "--backup", backup, TESSERA_NEW_PASSPHRASE=_NEW)
            assert ended.exit_code == 0, ended
            robbed.check_all_is_back(user)
            schedules += 1
    return {"schedules": schedules, **done}


def behind_the_hold(terms: Terms) -> Figures:
    """With the clock of all devices behind their hold what was deleted or given away is gone: nothing restores."""
    with new_cluster(terms.folder, 6) as cluster:
        robbed = Robbed(cluster, "user", terms.random)
        done = robbed.be_robbed(0)  # what they took back themselves before might stay
        indices = range(1, len(cluster.devices) + 1)
        cluster.kill_devices(*indices)
        for index in indices:
            cluster.forget_device_process(index)
            cluster.start_shifted_device(index, 8 * DAY)
        cluster.wait_alive()
        user = robbed.clean_machine()
        ended = user.run("admin", "vault", "reclaim", "--since", "30d")
        assert ended.exit_code != 0, ended
        there = robbed.restored(user)
        assert there == {}, sorted(there)
    return dict(done)


PARTS = [Part("stolen vault", stolen_vault, 4), Part("behind the hold", behind_the_hold, 1)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "A stolen vault."))
