"""What processes cost: wall and processor time, and the most memory that one had."""

from __future__ import annotations

import mmap
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

_LOOK_EVERY = 0.02  # seconds


@dataclass(frozen=True)
class Cost:
    """Of a command, its children that it waited for included."""

    wall: float  # seconds
    processor: float  # seconds
    peak: int  # bytes, of the command itself


@dataclass
class Measured:
    """One put or get: of the command, and of the processes behind it by what they are.

    Those are "broker" and "workers": whatever stands between, and whatever keeps shares.
    """

    command: Cost
    behind: dict[str, float] = field(default_factory=dict)  # processor seconds
    peaks: dict[str, int] = field(default_factory=dict)  # bytes


class Meter:
    """What processes that run already use from now on."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._pids = pids
        self._before = self._used()

    def measured(self, command: Cost) -> Measured:
        """What the command cost, and meanwhile these processes."""
        behind = {name: used - self._before[name] for name, used in self._used().items()}
        return Measured(command, behind, {name: max(map(peak_memory, pids)) for name, pids in self._pids.items()})

    def _used(self) -> dict[str, float]:
        return {name: sum(map(processor_seconds, pids)) for name, pids in self._pids.items()}


def run_metered(
    command: Sequence[str], environment: Optional[Mapping[str, str]] = None, cwd: Optional[Path] = None
) -> Cost:
    """Run a command to its end and tell what it cost; RuntimeError, with what it said, where it fails."""
    started = time.monotonic()
    with subprocess.Popen(
        command,
        env=None if environment is None else dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        watch = _PeakWatch(process.pid)
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    peak = watch.end()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} … ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak)


def find_memory(size: int) -> None:
    """Touch so many bytes of memory and give them back, so that a run finds them at hand.

    Memory of a virtual machine that was free for some seconds may be its host's again, which then has to find and clear
    other for whoever comes first: that cost a get of 256 MiB half a second.
    """
    with mmap.mmap(-1, size) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


class _PeakWatch:
    """The most memory of a process, looked at while it runs: what the system says afterwards counts this one's, too."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            with suppress(OSError, StopIteration):
                self._peak = peak_memory(self._pid)


def processor_seconds(pid: int) -> float:
    """What a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """The most bytes that a process has had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
