"""`approvers`: who has to sign that a trash is emptied early, and emptying it then.

Each device keeps the list that an owner signed, and has it count once its own hold is over. So what is in effect is
asked of each, and told each that is connected; one that is away learns of it when it is said again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from admin.approval_files import MAX_DELETIONS, EmptyingRequest
from admin.deleting import EMPTY_TRASH, code_of, list_trash
from admin.events import DeviceFailed
from common.errors import NotEnoughError, NotFoundError, ProtocolError, RefusedError, TesseraError, UnreachableError
from common.link.replies import DeclinedError
from common.process.events import Warned, waiting
from common.protocol.approvals import fault_of_approval, fault_of_list, says_the_same
from common.protocol.codec import pack
from common.protocol.messages import (
    Approval,
    ApproverList,
    Code,
    DeletionName,
    Emptied,
    Empty,
    EmptyTrash,
    KnownApprovers,
    Trashed,
)
from common.protocol.operations import APPROVERS, EMPTY, NAME_APPROVERS
from common.repository.repository import Repository

# The owner keys of those named last, and how many have to sign → the new ones.
Change = Callable[[Sequence[bytes], int], tuple[Sequence[bytes], int]]
_ASKED = (DeclinedError, UnreachableError, ProtocolError)
_NONE_IN_EFFECT = "no approvers are in effect on any device that is connected"
_NAME_THEM = "name them with: python admin/admin.py approvers add; they count once the devices' hold is over"


@dataclass(frozen=True)
class KnownLists:
    """What each device that is connected says of this vault's approvers."""

    by_device: dict[bytes, KnownApprovers]

    @property
    def latest(self) -> Optional[ApproverList]:
        """What was said last; the owner signed it."""
        said = [each for known in self.by_device.values() for each in (known.in_effect, known.under_way) if each]
        return max(said, key=lambda each: each.generation, default=None)

    @property
    def in_effect(self) -> Optional[ApproverList]:
        """What is in effect on most devices."""
        lists = {pack(known.in_effect): known.in_effect for known in self.by_device.values() if known.in_effect}
        counted = Counter(pack(known.in_effect) for known in self.by_device.values() if known.in_effect)
        named = [(counted[each], lists[each].generation, lists[each]) for each in counted if lists[each].needed]
        return max(named, key=lambda each: each[:2], default=(0, 0, None))[2]


async def ask_approvers(repository: Repository) -> KnownLists:
    """What each device says; one that does not, or shows what this owner did not sign, is named."""
    await repository.list_devices(settled=True)

    async def ask(device: bytes) -> Optional[KnownApprovers]:
        try:
            known = (await repository.link.request(APPROVERS, Empty(), device=device)).header
            for named in (known.in_effect, known.under_way):
                if named is not None and (named.owner_key != repository.key.owner_key() or fault_of_list(named)):
                    raise ProtocolError("it shows approvers that this vault's owner did not name")
        except _ASKED as error:
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))
            return None
        return known

    devices = sorted(repository.alive)
    with waiting(repository.emit, "asking the devices"):
        told = await asyncio.gather(*map(ask, devices))
    return KnownLists({device: known for device, known in zip(devices, told) if known is not None})


async def name_approvers(repository: Repository, change: Change) -> tuple[ApproverList, list[str]]:
    """Have devices keep another list; that, and the names of those that have it now.

    NotEnoughError where a device that is connected, and has anything of this vault, did not take it.
    """
    known = await ask_approvers(repository)
    latest = known.latest
    approvers, needed = change(latest.approvers, latest.needed) if latest else change([], 0)
    named = repository.key.approver_list(latest.generation + 1 if latest else 1, approvers, needed)
    if latest is not None and says_the_same(named, latest):
        named = latest  # who has it goes on counting
    told = await _tell_all(repository, named)
    for device, error in told.items():
        if error is not None and code_of(error) is not Code.NOT_FOUND:
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))
    took = sorted(repository.name_of(device) for device, error in told.items() if error is None)
    if not took:
        raise NotFoundError("no device that is connected has anything of this vault, or takes its approvers")
    if any(error is not None and code_of(error) is not Code.NOT_FOUND for error in told.values()):
        raise NotEnoughError("not every device that is connected knows them now", advice="say it again when they do")
    return named, took


async def _tell_all(repository: Repository, named: ApproverList) -> dict[bytes, Optional[TesseraError]]:
    async def tell(device: bytes) -> Optional[TesseraError]:
        try:
            await repository.link.request(NAME_APPROVERS, named, device=device)
        except _ASKED as error:
            return error
        return None

    devices = sorted(repository.alive)
    with waiting(repository.emit, "telling the devices"):
        return dict(zip(devices, await asyncio.gather(*map(tell, devices))))


# --- emptying


async def make_request(repository: Repository) -> EmptyingRequest:
    """Ask for all that is in the trash now, or held after a deletion into none.

    RefusedError where no approvers are in effect, NotFoundError where the trash is empty.
    """
    known = await ask_approvers(repository)
    named = known.in_effect
    if named is None:
        raise RefusedError(_NONE_IN_EFFECT, advice=_NAME_THEM)
    for device, each in known.by_device.items():
        if each.in_effect != named:
            name = repository.name_of(device)
            repository.emit(Warned(f"admin: {name} has no such approvers in effect, and empties nothing by this"))
    held = [each for each in await list_trash(repository, emptied=True) if _may_be_held(repository, each)]
    if not held:
        raise NotFoundError(EMPTY_TRASH)
    if len(held) > MAX_DELETIONS:
        repository.emit(Warned(f"admin: these are the first {MAX_DELETIONS:,} of {len(held):,} deletions"))
        held = held[:MAX_DELETIONS]
    deletions = [DeletionName(each.encoding_id, each.generation) for each in held]
    images, oldest = len({each.object_id for each in held}), max(each.age for each in held)
    return EmptyingRequest(named, deletions, images, oldest, int(time.time()))


def _may_be_held(repository: Repository, deleted: Trashed) -> bool:
    return deleted.trash_left > 0 or deleted.age <= max((device.hold for device in repository.listed), default=0)


def require_approved(request: EmptyingRequest, approvals: Sequence[Approval]) -> None:
    """RefusedError where these do not approve the request, as every device would find."""
    fault = next(filter(None, (fault_of_approval(request.named, part, approvals) for part in request.parts)), None)
    if fault is not None:
        raise RefusedError(f"this is not approved: {fault}", advice="gather the files that the approvers signed for it")


async def empty_trash(repository: Repository, request: EmptyingRequest, approvals: Sequence[Approval]) -> int:
    """Have every device that is connected, and knows of any of these deletions, empty its trash of them.

    Emits what failed. The exit code: 5 where one did not empty all.
    """
    wanted = {each.encoding_id for each in request.deletions}
    trash = await list_trash(repository, emptied=True)
    devices = sorted({device for each in trash if each.encoding_id in wanted for device in each.devices})
    if not devices:
        raise NotFoundError("no device that is connected knows of these deletions")

    async def empty(device: bytes) -> bool:
        try:
            replies = [await _empty_part(repository, device, approvals, pack(part)) for part in request.parts]
        except _ASKED as error:
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))
            return False
        kept = sum(reply.kept for reply in replies)
        if kept:
            why = f"{kept} deletions are of what another vault had lately, and stay until their time is over"
            repository.emit(DeviceFailed(repository.name_of(device), why))
        return not kept

    with waiting(repository.emit, "emptying the trash"):
        done = await asyncio.gather(*map(empty, devices))
    away = _names(repository, {device.device_id for device in repository.listed if not device.alive})
    if away:
        repository.emit(
            Warned(f"{', '.join(away)}: not connected; what is in the trash there stays until its time is over")
        )
    return 0 if all(done) else NotEnoughError.exit_code


async def _empty_part(repository: Repository, device: bytes, approvals: Sequence[Approval], part: bytes) -> Emptied:
    reply = await repository.link.request(EMPTY, EmptyTrash(list(approvals)), device=device, payload=part)
    return reply.header


def _names(repository: Repository, devices: Iterable[bytes]) -> list[str]:
    return sorted(map(repository.name_of, devices))
