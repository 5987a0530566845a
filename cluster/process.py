"""The long-running programs of a local cluster, each with a folder that is TESSERA_HOME for it and for no other."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from common.process.background_process import BackgroundProcess

HOME = "home"  # the folder that is TESSERA_HOME for the first broker and the client, so that one `env` serves both


class ClusterProcess(BackgroundProcess):
    """The process called `name` of the cluster in `directory`, running or not.

    A device's store is `directory/name`; the first broker's home is the one that it shares with the client. The pid
    file is `name.pid`, the log `logs/name.log`.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.home = directory / (HOME if name == "broker" else name)
        super().__init__(
            name,
            {"TESSERA_HOME": str(self.home)},
            pid_file=directory / f"{name}.pid",
            log_file=directory / "logs" / f"{name}.log",
        )


def recorded_processes(directory: Path) -> list[ClusterProcess]:
    """The processes that have a pid file in `directory`; the broker is the last, as `stop_all` wants it."""
    names = sorted((path.stem for path in directory.glob("*.pid")), key=lambda name: (name == "broker", name))
    return [ClusterProcess(name, directory) for name in names]


def stop_all(processes: Iterable[ClusterProcess], grace: float = 5.0) -> int:
    """End `processes`: ask, wait `grace` seconds in all, then kill. Returns how many were running."""
    everyone = list(processes)
    running = [process for process in everyone if process.pid is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + grace
    for process in running:
        if not process.wait_gone(max(0.0, deadline - time.monotonic())):
            process.kill()
    for process in everyone:
        process.forget()
    return len(running)
