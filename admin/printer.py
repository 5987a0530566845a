"""Prints the events of administration: results on stdout, everything else on stderr."""

from __future__ import annotations

from admin.events import Changed, DeviceFailed, NotChanged, NothingToDo, Repaired
from common.process.events import BytesDone, BytesExpected
from common.process.program import warn
from common.process.progress import Printer
from common.text import printable
from consumer.events import Missing
from producer.events import ShareStep, Step


class AdminPrinter(Printer):
    def __call__(self, event: object) -> None:
        if isinstance(event, Changed):
            print(f"{event.sha256}  {event.done}", flush=True)  # one at a time, also to a file or another program
        elif isinstance(event, NotChanged):
            warn(f"admin: {event.sha256}: {event.why}")
        elif isinstance(event, DeviceFailed):
            warn(f"{event.device}: {event.why}")
        elif isinstance(event, Repaired) and event.repaired:
            print(f"{event.image.sha256}{printable(event.text)}", flush=True)
        elif isinstance(event, Repaired):
            warn(f"{event.image.sha256}{event.text}")
        elif isinstance(event, NothingToDo):
            print(event.text)
        elif isinstance(event, Missing):
            warn(f"{event.sha256[:16]}: {event.device}: {event.why}")
        elif isinstance(event, ShareStep):
            if event.step is Step.PLACED:
                super().__call__(BytesExpected(event.count))
            elif event.step is Step.ACKNOWLEDGED:
                super().__call__(BytesDone(event.count))
        else:
            super().__call__(event)
