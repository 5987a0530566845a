"""Storing: files, devices, k and n; the progress; what failed, and sending that again."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional

from admin.events import Event as ClusterEvent
from admin.events import Repaired
from admin.repairing import complete_images
from common.coding.redundancy import DeviceCount, count_devices
from common.errors import NotEnoughError, TesseraError
from common.link.link import Link
from common.link.questions import list_devices
from common.process.events import Warned
from common.protocol.messages import Device
from common.text import count
from desktop.background import Background, Task
from desktop.model.commands import command_line
from desktop.model.following import Following
from desktop.model.model import Model
from desktop.model.putting import Item, Put, State
from desktop.model.wording import redundancy, waiting
from desktop.session import Session
from producer.events import Event, ShareStep
from producer.owner import OwnVault
from producer.run import Run, store
from producer.sources import Source, find_all
from producer.target import StoreOptions
from producer.trees import Trees
from viewer.process import Viewer

_LOOK_EVERY = 3.0  # seconds
_SHOWN_PATHS = 4  # in the command
FOR_ALL = "Store for those that are away, too"


class Phase(enum.Enum):
    CHOOSING = "choosing"
    STORING = "storing"
    STOPPING = "stopping"  # it was cancelled, and keeps its journals
    STOPPED = "stopped"
    DONE = "done"


@dataclass
class Choice:
    """A device that may get shares, if it is chosen."""

    device: Device
    chosen: bool = True

    @property
    def name(self) -> str:
        return self.device.name


class StoreModel(Model):
    """`items`: what is to be stored; `devices`: where; `k` and `n`: the redundancy; `put`: the progress."""

    def __init__(self, session: Session, background: Background, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(session, background)
        self._clock = clock
        self.phase = Phase.CHOOSING
        self.items: list[Item] = []
        self.devices: list[Choice] = []
        self.automatic = True  # k and n follow from the devices
        self.for_all = False  # also for the devices that are away, where possible; see `offer`
        self.k = self.n = 0
        self.put: Optional[Put] = None
        self.resending = False  # sending missing shares of what is stored degraded
        self.looking = 0  # for files, in folders that were chosen
        self._paths: list[str] = []
        self._task: Optional[Task] = None
        self._following = Following(self, session.link, self._look, _LOOK_EVERY)
        self._settle()

    def activate(self) -> None:
        self._following.begin()

    def deactivate(self) -> None:
        self._following.stop()

    @property
    def busy(self) -> bool:
        return self.phase in (Phase.STORING, Phase.STOPPING)

    @property
    def unfinished(self) -> str:
        if not self.busy:
            return ""
        left = count(len(self.waiting), "image")
        return f"{left} not stored yet. Storing stops, and goes on only when you add the same files again."

    # --- what

    def add(self, paths: Sequence[str]) -> None:
        """Add files, and folders with all that is in them."""
        if not paths or self.busy:
            return
        self._paths += [path for path in paths if path not in self._paths]
        self.looking += 1
        self.changed()
        self.background.run(
            lambda: [found for found in find_all(paths, "") if isinstance(found, Source)],
            done=self._found,
            failed=self._not_found,
        )

    def clear(self) -> None:
        if not self.busy:
            self.items, self._paths, self.put = [], [], None
            self.phase = Phase.CHOOSING
            self._settle()

    def _found(self, sources: list[Source]) -> None:
        self.looking -= 1
        known = {item.shown for item in self.items}
        if self.phase is Phase.DONE:
            self.phase = Phase.CHOOSING
        self.items += [Item(source) for source in sources if source.shown not in known]
        self._settle()

    def _not_found(self, error: TesseraError) -> None:
        self.looking -= 1
        self.fail(error)

    @property
    def waiting(self) -> list[Item]:
        """What is still to be sent."""
        return [item for item in self.items if not item.done]

    # --- where

    async def _look(self, link: Link) -> None:
        self.background.post(self._see, await list_devices(link))

    def _see(self, devices: list[Device]) -> None:
        unchosen = {choice.name for choice in self.devices if not choice.chosen}
        self.devices = [Choice(device, device.name not in unchosen) for device in devices if not device.retiring]
        self._settle()

    def choose_device(self, name: str, chosen: bool) -> None:
        for choice in self.devices:
            if choice.name == name:
                choice.chosen = chosen
        self._settle()

    @property
    def _chosen(self) -> DeviceCount:
        return count_devices(choice.device for choice in self.devices if choice.chosen)

    @property
    def most(self) -> int:
        """The number of devices that may get a share: chosen, and connected unless it is for all."""
        return self._chosen.listed if self._accepts else self._chosen.live

    # --- for devices that are away

    @property
    def away(self) -> list[str]:
        """The devices that are chosen and not connected."""
        return [choice.name for choice in self.devices if choice.chosen and not choice.device.alive]

    @property
    def offer(self) -> str:
        """What storing for those that are away means; empty where none is, or too few are connected."""
        here = self._chosen.live
        if not self.away or self.notice:
            return ""
        try:
            k, n = self._possible(for_all=True)
        except TesseraError:
            return ""
        return waiting(k, n, here, self.away) if n > here or not self.automatic else ""

    @property
    def _accepts(self) -> bool:
        return self.for_all and bool(self.away)

    def accept_degraded(self, for_all: bool) -> None:
        """Code images also for the devices that are away, or not: the steward makes their shares later."""
        self.for_all = for_all
        if self.automatic:
            self._settle()
        else:
            self.choose_shares(self.k, self.n)

    def _possible(self, *, for_all: bool) -> tuple[int, int]:
        """k and n for these devices; errors as of `choose`."""
        wanted = (None, None) if self.automatic else (self.k, self.n)
        return self._chosen.choose(*wanted, accept_degraded=for_all)

    # --- the redundancy

    def choose_shares(self, k: int, n: int) -> None:
        """Set k and n, as far as there are devices."""
        self.automatic = False
        self.n = max(2, min(n, self.most))
        self.k = max(2, min(k, self.n))
        self._settle()

    def leave_to_app(self) -> None:
        self.automatic = True
        self._settle()

    @property
    def notice(self) -> str:
        """How old the list of devices is, where it may be outdated; empty where it is current."""
        return self._following.notice

    @property
    def words(self) -> str:
        """What k of n means, or why there can be none."""
        if self.notice:
            return self.notice
        if not self.devices:
            return "asking which devices there are…"
        try:
            return redundancy(*self._possible(for_all=self._accepts))
        except TesseraError as error:
            return str(error)

    def _settle(self) -> None:
        """Set k and n as the devices allow, and the command; while shares are resent it stays that one's."""
        if self.automatic:
            try:
                self.k, self.n = self._possible(for_all=self._accepts)
            except TesseraError:
                self.k = self.n = min(2, self.most)
        if not self.resending:
            self.command = self._storing_command()
        self.changed()

    def _storing_command(self) -> str:
        paths = self._paths if len(self._paths) <= _SHOWN_PATHS else [*self._paths[:_SHOWN_PATHS], "…"]
        wanted = self._wanted()
        options = [] if wanted.k is None else ["-k", str(wanted.k), "-n", str(wanted.n)]
        options += ["--accept-degraded"] if wanted.accept_degraded else []
        options += [word for name in wanted.to for word in ("--to", name)]
        return command_line("producer", *options, *(paths or ["FILE"]))

    def _wanted(self) -> StoreOptions:
        everywhere = all(choice.chosen for choice in self.devices)
        to = [] if everywhere else [choice.name for choice in self.devices if choice.chosen]
        k, n = (None, None) if self.automatic else (self.k, self.n)
        return StoreOptions(k, n, accept_degraded=self._accepts, to=to)

    # --- storing

    def start(self) -> None:
        """Store what is not stored yet; what was cancelled is resumed."""
        self._store(self.waiting)

    def cancel(self) -> None:
        """Cancel; `start` resumes."""
        if self.phase is Phase.STORING and self._task is not None:
            self.phase = Phase.STOPPING
            self._task.cancel()
            self.changed()

    @property
    def resendable(self) -> list[Item]:
        """The items with shares that found no device."""
        return [item for item in self.items if item.resendable]

    def resend(self) -> None:
        """Send the shares that found no device to chosen ones: failed images first, then missing shares of others."""
        failed = [item for item in self.resendable if item.state is State.FAILED]
        if failed:
            self._store(failed)
        elif self.resendable and not self.busy:
            self._complete(self.resendable)

    def _store(self, items: list[Item]) -> None:
        if not items or self.busy:
            return
        for item in items:
            item.state, item.text, item.advice = State.WAITING, "", ""
        put = self.put = Put(items, self._clock)
        options, paths = self._wanted(), list(self._paths)
        self.phase, self.error = Phase.STORING, None
        self._task = self.background.start(
            lambda: self._work(put, paths, options), done=self._done, failed=self._failed, cancelled=self._cancelled
        )
        self.changed()

    async def _work(self, put: Put, paths: list[str], options: StoreOptions) -> None:
        """Store what is at the paths: also what is stored already, for the snapshot of all."""
        session = self.session

        def emit(event: Event) -> None:
            self.background.post(self._take, put, event)

        viewer = Viewer(emit=emit)  # of its own: the window needs the other meanwhile
        viewer.start()
        try:
            owner = OwnVault(session.vault, session.key)
            await store(session.identity, owner, viewer, Run(paths, find_all(paths, ""), Trees()), options, emit)
        finally:
            viewer.close()

    def _take(self, put: Put, event: Event) -> None:
        put.take(event)
        self.changed()

    def _done(self, _: None) -> None:
        self.phase, self.resending, self._task = Phase.DONE, False, None
        self._following.look_now()
        self.changed()

    def _failed(self, error: TesseraError) -> None:
        self.phase, self.resending, self._task = Phase.STOPPED, False, None
        if self.put is not None:
            self.put.break_off()
        if isinstance(error, NotEnoughError) and self.offer and not self._accepts:
            error.advice = f"connect them, or tick “{FOR_ALL}”"
        self.fail(error)

    def _cancelled(self) -> None:
        self.phase, self.resending, self._task = Phase.STOPPED, False, None
        if self.put is not None:
            self.put.break_off()
        self.changed()

    # --- the missing shares of what is stored degraded

    def _complete(self, items: list[Item]) -> None:
        by_hash = {item.sha256: item for item in items}
        to = [choice.name for choice in self.devices if choice.chosen]
        put = self.put = Put(items, self._clock)
        self.phase, self.resending, self.error = Phase.STORING, True, None
        for item in items:
            item.text, item.advice = "its missing shares go to chosen devices…", ""
        hashes = [word for text in by_hash for word in ("--hash", text)]
        self.command = command_line("admin", "repair", *hashes, *(word for name in to for word in ("--to", name)))
        self._task = self.background.start(
            lambda: self._completed(put, by_hash, to),
            done=lambda outcomes: self._resent(by_hash, outcomes),
            failed=lambda error: self._not_resent(items, error),
            cancelled=lambda: self._not_resent(items, None),
        )
        self.changed()

    async def _completed(self, put: Put, by_hash: dict[str, Item], to: list[str]) -> list[Repaired]:
        def emit(event: ClusterEvent) -> None:
            if isinstance(event, ShareStep):
                self.background.post(self._take, put, replace(event, shown=by_hash[event.shown].shown))
            elif isinstance(event, Warned):
                self.background.post(self._take, put, event)

        async with self.session.opened(emit) as repository:
            return await complete_images(repository, (await repository.holdings(list(by_hash))).images, to)

    def _resent(self, by_hash: dict[str, Item], outcomes: list[Repaired]) -> None:
        lacking = {outcome.image.sha256: outcome.text for outcome in outcomes if not outcome.repaired}
        for sha256, item in by_hash.items():
            if sha256 in lacking:
                item.text = lacking[sha256].lstrip(": ")
            else:
                item.state, item.text = State.STORED, "whole: every share is on a device"
        self._done(None)

    def _not_resent(self, items: list[Item], error: Optional[TesseraError]) -> None:
        for item in items:
            item.text = "its missing shares were not sent"
        if error is None:
            self._cancelled()
        else:
            self._failed(error)
