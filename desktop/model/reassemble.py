"""Reassembling an image: from which devices, the progress, and the image itself once it is proven."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Callable, Optional

from common.errors import TesseraError
from common.text import check_hash, format_size, is_full
from common.vault.mapping import Mapping
from consumer.events import Event, Restored
from consumer.output import HeldImage, HeldOutput, safe_name
from consumer.restorer import Restorer
from desktop.background import Background, Task
from desktop.model.commands import command_line
from desktop.model.model import Model
from desktop.model.reassembling import Reassembly
from desktop.session import Session
from viewer.process import Pixels, Viewer

_IN_MEMORY = 256 << 20  # bytes of an image that is shown before it is saved
_MOST_PIXELS = (1920, 1200)
_HASH = "HASH"


class Phase(enum.Enum):
    NOTHING = "nothing"
    GATHERING = "gathering"
    PROVEN = "proven"
    FAILED = "failed"
    STOPPING = "stopping"  # it was cancelled, and keeps what came for the next attempt
    STOPPED = "stopped"


class ReassembleModel(Model):
    """`reassembly`: the progress; `pixels`: the image itself, once it is proven, where it can be shown."""

    def __init__(self, session: Session, background: Background, viewer: Viewer) -> None:
        super().__init__(session, background)
        self._viewer = viewer
        self.phase = Phase.NOTHING
        self.wanted = ""  # a SHA-256, or the beginning of one
        self.reassembly = Reassembly()
        self.pixels: Optional[Pixels] = None
        self.saved = ""
        self.saving = False
        self._image = HeldImage(_IN_MEMORY)  # what has come of it
        self._held: Optional[HeldOutput] = None  # all of it, proven
        self._decoding = False
        self._task: Optional[Task] = None
        self._tell_command()

    @property
    def label(self) -> str:
        """What the screen shows: the original only once it is proven."""
        if self.phase is Phase.GATHERING and self._held is not None:
            return "The original: its SHA-256 matches. All devices are asked once more."
        if self.phase is Phase.GATHERING:
            preview = "" if self.reassembly.thumbnail is None else "Preview made from the thumbnail. "
            return preview + "Not yet the original: its SHA-256 is not proven."
        if self.phase is Phase.PROVEN and self.pixels is not None:
            return "The original: its SHA-256 matches."
        if self.phase is Phase.PROVEN:
            return "The original is here and its SHA-256 matches. It cannot be shown, but it can be saved."
        if self.phase is Phase.NOTHING:
            return ""
        return "Not the original: it did not come together."

    @property
    def name(self) -> str:
        """The image's name, as a safe file name."""
        mapping = self.reassembly.mapping
        return "" if mapping is None else safe_name(mapping.name)

    @property
    def details(self) -> str:
        mapping = self.reassembly.mapping
        if mapping is None:
            return ""
        pixels = f"{mapping.width}×{mapping.height}, " if mapping.width else ""
        return f"{pixels}{format_size(mapping.image_size)}, {mapping.image_sha256.hex()[:16]}…"

    # --- reassembling

    def begin(self, sha256: str) -> None:
        """Reassemble the image with this SHA-256, or the one whose SHA-256 begins so."""
        self._drop()
        self.wanted = sha256.strip().lower()
        self.error, self.pixels, self.saved = None, None, ""
        self._tell_command()
        try:
            check_hash(self.wanted)
        except TesseraError as error:
            self.phase = Phase.NOTHING
            self.fail(error)
            return
        self.reassembly = Reassembly()
        self._attempt()

    def retry(self) -> None:
        """Ask all devices again, including those that had nothing, for what has not come yet."""
        if self.can_retry:
            self.error = None
            self.reassembly.again()
            self._attempt()

    @property
    def can_retry(self) -> bool:
        """Whether something was missing that may be there now, and no attempt is under way."""
        lacking = bool(self.reassembly.missing) or self.phase in (Phase.FAILED, Phase.STOPPED)
        return bool(self.wanted) and lacking and not (self.busy or self.saving or self._decoding)

    @property
    def busy(self) -> bool:
        return self.phase in (Phase.GATHERING, Phase.STOPPING)

    def _attempt(self) -> None:
        reassembly, image, wanted = self.reassembly, self._image, self.wanted
        self.phase = Phase.GATHERING
        self._task = self.background.start(
            lambda: self._work(wanted, reassembly, image),
            done=lambda outcome: self._proven(reassembly, *outcome),
            failed=self._failed,
            cancelled=lambda: self._ended(image),
        )
        self.changed()

    def cancel(self) -> None:
        """Cancel; `retry` goes on with what has come."""
        if self._task is not None and self.phase is Phase.GATHERING:
            self.phase = Phase.STOPPING
            self._task.cancel()
            self.changed()

    def _ended(self, image: HeldImage) -> None:
        """A cancelled attempt has ended, and does not use the image any more."""
        if image is not self._image:
            image.discard()  # another image is wanted by now
        elif self.phase is Phase.STOPPING:
            self._task = None
            self._not_all_here(Phase.STOPPED)
            self.changed()

    def _not_all_here(self, phase: Phase) -> None:
        """An attempt ended without the image; one that was proven before stays."""
        if self._held is not None and not self._held.proven:
            self._held, self.pixels, self.reassembly.sha256 = None, None, ""
        self.phase = phase if self._held is None else Phase.PROVEN

    async def _work(self, wanted: str, reassembly: Reassembly, image: HeldImage) -> tuple[Restored, HeldOutput]:
        held: list[HeldOutput] = []

        def emit(event: Event) -> None:
            self.post(reassembly.take, event)

        def open_output(mapping: Mapping) -> HeldOutput:
            self.background.post(self._known, reassembly, mapping)
            held.append(image.open(mapping))
            return held[-1]

        async with self.session.opened() as repository:
            if is_full(wanted):
                sha256, encodings = wanted, await repository.locate(bytes.fromhex(wanted))
            else:
                (found,) = (await repository.holdings([wanted])).images
                sha256, encodings = found.sha256, found.encodings
            return await Restorer(repository, emit).restore(encodings, sha256, open_output), held[-1]

    def post(self, take: Callable[[Any], None], what: object) -> None:
        """Change something of a reassembly in the window's thread."""
        self.background.post(self._news, take, what)

    def _news(self, take: Callable[[Any], None], what: object) -> None:
        take(what)
        self.changed()

    def _known(self, reassembly: Reassembly, mapping: Mapping) -> None:
        reassembly.begin(mapping)
        if mapping.thumbnail is not None and reassembly.thumbnail is None:
            thumbnail = mapping.thumbnail

            def show(pixels: Optional[Pixels]) -> None:
                reassembly.thumbnail = pixels
                self.changed()

            self.background.run(lambda: self._viewer.show(thumbnail, 320, 320), done=show, failed=self.fail)
        self.changed()

    def _proven(self, reassembly: Reassembly, restored: Restored, held: HeldOutput) -> None:
        self.phase, self._task = Phase.PROVEN, None
        reassembly.sha256 = restored.sha256
        self.wanted = restored.sha256
        self._held, self._decoding = held, True
        self._tell_command()
        self.background.run(
            lambda: self._decoded(held), done=lambda pixels: self._show(held, pixels), failed=self._not_shown
        )
        self.changed()

    def _decoded(self, held: HeldOutput) -> Optional[Pixels]:
        content = held.content()
        return None if content is None else self._viewer.show(content, *_MOST_PIXELS)

    def _show(self, held: HeldOutput, pixels: Optional[Pixels]) -> None:
        self._decoding = False
        if held is self._held:
            self.pixels = pixels
        self.changed()

    def _not_shown(self, error: TesseraError) -> None:
        self._decoding = False
        self.fail(error)

    def _failed(self, error: TesseraError) -> None:
        self._task = None
        self._not_all_here(Phase.FAILED)
        self.fail(error)

    # --- saving it

    def save(self, path: str) -> None:
        """Write the image, byte for byte as it was stored, replacing an existing file."""
        held = self._held
        if held is None or self.phase is not Phase.PROVEN or self.saving:
            return
        self.saving, self.error, self.saved = True, None, ""
        self.command = command_line("consumer", "--hash", self.wanted, "--output", path)
        self.background.run(lambda: held.save(Path(path)), done=lambda _: self._saved(path), failed=self._not_saved)
        self.changed()

    def _saved(self, path: str) -> None:
        self.saving = False
        self.saved = f"Saved as {path}, byte for byte the original."
        self.changed()

    def _not_saved(self, error: TesseraError) -> None:
        self.saving = False
        self.fail(error)

    def _drop(self) -> None:
        """Discard the image, or a part of it; an attempt under way does so itself when it ends."""
        if self._task is not None:
            self._task.cancel()
        elif not self.saving:
            self._image.discard()
        self._image, self._held, self._task = HeldImage(_IN_MEMORY), None, None

    def _tell_command(self) -> None:
        self.command = command_line("consumer", "--hash", self.wanted or _HASH)
