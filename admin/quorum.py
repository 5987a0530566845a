"""How many devices must take a change of an encoding until it is called done: deleted, taken back, amended.

With fewer, k devices that did not hear of it could serve the image as it was, or two changes could both be called done
though no device knows of both. What the others lack they get from the steward; so once enough have it nobody waits for
a device that does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from collections.abc import Set as AbstractSet
from typing import Callable, Optional

from common.errors import NotEnoughError, TesseraError, UnreachableError
from common.link.replies import DeclinedError
from common.link.stragglers import Stragglers
from common.protocol.messages import Code
from common.repository.repository import Repository


class LateError(UnreachableError):
    """A device does not answer, and is not waited for."""


def quorum(k: int, n: int) -> int:
    """Of the n devices of an encoding so many that any k others, and any other quorum, have one in common with them."""
    return max(k, n - k + 1, n // 2 + 1)


async def tell(
    devices: Iterable[bytes], show: Callable[[bytes], Awaitable[object]], needed: int
) -> dict[bytes, Optional[TesseraError]]:
    """Tell devices of a change; for each the error with which `show` ended there, or None.

    Late ones are left out once `needed` took it, or know of another.
    """

    async def shown(device: bytes) -> Optional[TesseraError]:
        try:
            await show(device)
        except TesseraError as error:
            return error
        return None

    tasks = {device: asyncio.ensure_future(shown(device)) for device in devices}

    def enough() -> bool:
        return sum(task.done() and _has_heard(task.result()) for task in tasks.values()) >= needed

    try:
        late = await Stragglers().late(tasks.values(), enough)
        why = LateError("it does not answer, and enough others have; brokers pass it on")
        return {device: why if task in late else task.result() for device, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()


def _has_heard(error: Optional[TesseraError]) -> bool:
    return error is None or (isinstance(error, DeclinedError) and error.code is Code.CONFLICT)


def require_quorum(
    repository: Repository, code: tuple[int, int], took: AbstractSet[bytes], holders: AbstractSet[bytes], done: str
) -> None:
    """NotEnoughError where too few devices `took` a change of an encoding of this k and n.

    Fewer are enough where all of its holders did, and no device of the cluster is away: there may be no more of them.
    `done`: what they did, in words.
    """
    needed = quorum(*code)
    away = [device.name for device in repository.listed if not device.alive]
    if len(took) >= needed or (repository.listed and not away and took >= holders):
        return
    raise NotEnoughError(
        f"{len(took)} of the {needed} devices that are needed {done}; it is not certain to hold yet",
        advice=f"connect {', '.join(away)}; brokers pass it on" if away else "see which devices refuse, and why",
    )
