"""`vault reclaim`: takes back what somebody else with the vault's key deleted, changed or gave away.

    undelete what was deleted since → ask each device what it holds of the vault's that was replaced since → for each
    encoding choose what most devices had → sign it anew, in the next generation → send it to all who have the encoding

Devices hold what was replaced for their hold (decisions 30 and 32). The key is somebody else's still, so it has to be
replaced after that, and whoever it is has to be shut out before: each can take back what the other does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Optional

from admin.deleting import list_trash
from admin.events import Changed, DeviceFailed, Emit, NotChanged
from admin.quorum import require_quorum, tell
from admin.superseded import Superseded, SupersededFile
from admin.undeleting import emit_taken_back, undelete_since
from common.chunks import chunks
from common.coding.recipe import decode_recipe
from common.errors import NoRoomError, NotEnoughError, ProtocolError, TesseraError
from common.link.link import run_with_link
from common.link.questions import list_pages, locate
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity
from common.process.events import Warned, waiting
from common.protocol.codec import pack, unpack
from common.protocol.device_messages import Amend, Commitment, HeldFor, ListSuperseded, SignedCommitment
from common.protocol.messages import MOST_AHEAD, Code
from common.protocol.operations import AMEND, SUPERSEDED, UNDELETE
from common.repository.repository import Repository, open_repository
from common.vault.folder import VaultFolder
from common.vault.granting import open_any
from common.vault.keys import VaultKey

_TOGETHER = 16  # encodings that are taken back at a time
_AT_ONCE = 500  # encodings that are located at a time


def run_reclaim(identity: ClientIdentity, home: Path, passphrase: str, emit: Emit, seconds: float) -> int:
    """`reclaim` with the vault of this home; from then on it is read though its key was replaced."""
    vault = VaultFolder(home)
    key = vault.unlock(passphrase)

    async def opened() -> int:
        async with open_repository(identity, vault, key, emit, takes_back=True) as repository:
            repository.link.require_changes_allowed()
            exit_code = await reclaim(repository, seconds)
            async for _ in list_pages(repository.link):  # where nothing is left for it, its key is not the vault's
                vault.note_taken_back()
                break
            return exit_code

    return run_with_link(opened)


async def reclaim(repository: Repository, seconds: float) -> int:
    """Take back what was done to the vault in the last seconds, as far as connected devices hold it.

    Emits the outcome of each image. The exit code: 3 where there was nothing, else that of the first failure.
    """
    await repository.list_devices(settled=True)
    deleted = {each.encoding_id: each.generation for each in await list_trash(repository, emptied=True)}
    undeleted = [each async for each in undelete_since(repository, seconds)]
    with contextlib.closing(SupersededFile()) as superseded:
        with waiting(repository.emit, "asking the devices what they hold"):
            await _ask_all(repository, superseded, seconds)
        replaced, exit_code, taken = False, 0, set[bytes]()
        for page in chunks(superseded.encodings(), _AT_ONCE):
            replaced = True
            pending = {encoding_id: each for encoding_id, each in page if not each.everywhere}
            holders = await _holders(repository, pending)
            for some in chunks(pending, _TOGETHER):
                work = (_take_back(repository, e, pending[e], holders[e], deleted.get(e, 0)) for e in some)
                for encoding_id, code in zip(some, await asyncio.gather(*work)):
                    exit_code = exit_code or code
                    taken |= {encoding_id} if code == 0 and encoding_id in deleted else set()
    for image, error in undeleted:
        if taken.issuperset(each.encoding_id for each in image.encodings):
            continue  # it was given away or changed, too, and may have been deleted under another name
        emit_taken_back(repository, image, error)
        exit_code = exit_code or (0 if error is None else error.exit_code)
    if not undeleted and not replaced:
        repository.emit(Warned("admin: connected devices hold nothing that was deleted or changed in that time"))
        return 3
    return exit_code


async def _ask_all(repository: Repository, superseded: SupersededFile, seconds: float) -> None:
    """Have devices say what they hold of the vault's; what was replaced in the last seconds counts."""
    away = [device.name for device in repository.listed if not device.alive]
    if away:
        repository.emit(Warned(f"{', '.join(away)}: not connected; brought up to date when they come back"))

    async def ask(device: bytes) -> None:
        try:
            async for part, commitment in _asked(repository, device):
                counts = part.age <= seconds and _opens(repository.key, commitment, part.encoding_id)
                superseded.add(device, part, commitment, counts=counts)
        except NoRoomError:
            raise
        except TesseraError as error:
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))

    await asyncio.gather(*(ask(device.device_id) for device in repository.listed if device.alive))


def _opens(key: VaultKey, commitment: Commitment, encoding_id: bytes) -> bool:
    """Whether its mapping is the vault's; whoever has the key signed, and may have sealed, anything."""
    try:
        open_any(key, commitment.mapping, commitment.object_id, encoding_id)
    except TesseraError:
        return False
    return True


async def _asked(repository: Repository, device: bytes) -> AsyncIterator[tuple[HeldFor, Commitment]]:
    """All that a device holds of what was replaced of the vault's; errors as of `Link.request`, and ProtocolError.

    ProtocolError also where it shows what the owner did not sign.
    """
    after: Optional[int] = 0
    while after is not None:
        reply = await repository.link.request(SUPERSEDED, ListSuperseded(after), device=device)
        offset = 0
        for part in reply.header.parts:
            signed = unpack(reply.payload[offset : offset + part.length], SignedCommitment)
            offset += part.length
            is_own = signed.commitment.owner == repository.key.owner_id()
            if not is_own or repository.verifier.fault(signed, part.encoding_id) is not None:
                raise ProtocolError("the device shows what is none of this vault's")
            yield part, signed.commitment
        before, after = after, reply.header.after
        if after is not None and (after <= before or not reply.header.parts):
            raise ProtocolError("the device comes to no end")


async def _holders(repository: Repository, pending: dict[bytes, Superseded]) -> dict[bytes, set[bytes]]:
    """Encoding id → the connected devices that are to have what is taken back."""
    holders = {encoding_id: set(each.before) for encoding_id, each in pending.items()}
    objects = sorted({each.chosen.object_id for each in pending.values()})
    located, _ = await locate(repository.link, objects)
    for encoding in itertools.chain.from_iterable(located.values()):
        if encoding.encoding_id in holders:
            holders[encoding.encoding_id] |= {share.device_id for share in encoding.shares if share.alive}
    return holders


async def _take_back(
    repository: Repository, encoding_id: bytes, held: Superseded, devices: Collection[bytes], deleted: int
) -> int:
    """Take an encoding back, and emit the outcome; the exit code. `deleted`: the last generation of its tombstones."""
    chosen = held.chosen
    name = open_any(repository.key, chosen.mapping, chosen.object_id, encoding_id).image_sha256.hex()
    recipe = decode_recipe(chosen.recipe)
    try:
        told = await tell(
            sorted(devices), lambda device: _bring(repository, encoding_id, held, device, deleted), len(devices)
        )
        took = {device for device, error in told.items() if error is None}
        for device, error in told.items():
            if error is not None:
                repository.emit(DeviceFailed(repository.name_of(device), str(error)))
        if len(took) < recipe.k:
            raise NotEnoughError(f"{len(took)} devices gave it back and {recipe.k} are needed")
        require_quorum(repository, (recipe.k, recipe.n), took, set(devices), "gave it back")
    except TesseraError as error:
        cause = repository.link.cause(error)
        repository.emit(NotChanged(name, str(cause)))
        return cause.exit_code
    repository.emit(Changed(name, "taken back"))
    return 0


async def _bring(repository: Repository, encoding_id: bytes, held: Superseded, device: bytes, deleted: int) -> None:
    """Bring a device to what was chosen, undeleted where need be; errors as of `Link.request`."""
    try:
        await _show(repository, encoding_id, held, device)
    except DeclinedError as error:
        if error.code not in (Code.NOT_FOUND, Code.CONFLICT):
            raise
        await _undelete(repository, encoding_id, held, device, deleted)
        await _show(repository, encoding_id, held, device)


async def _show(repository: Repository, encoding_id: bytes, held: Superseded, device: bytes) -> None:
    """Show a device what was chosen, in steps; errors as of `Link.request`."""
    for commitment in held.steps(device):
        name = commitment.generation, commitment.revision
        if name not in held.signed:  # most devices are shown the same
            held.signed[name] = pack(*repository.key.signing_key().commit([commitment]))
        payload = held.signed[name]
        await repository.link.request(AMEND, Amend(encoding_id), device=device, payload=payload)


async def _undelete(repository: Repository, encoding_id: bytes, held: Superseded, device: bytes, deleted: int) -> None:
    """Undelete on a device that was told of fewer deletions than others, and takes no more ahead at once."""
    for generation in range(MOST_AHEAD, deleted + 2 * MOST_AHEAD, MOST_AHEAD):
        word = repository.key.tombstone(held.chosen.object_id, encoding_id, generation)
        with contextlib.suppress(DeclinedError):  # it was deleted later, or was not, and is there
            await repository.link.request(UNDELETE, word, device=device)
