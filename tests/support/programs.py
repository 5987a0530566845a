"""The programs as one person runs them, from a shell of their own: started, fed, waited for, judged by their exit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from cluster.local import program_command

PATIENCE = 120.0  # seconds; longer than any program may take here
_PAUSE = 0.01  # seconds between two looks at what is being waited for
_BEGUN = 4 << 20  # bytes of an output that show that a get is in its middle
_ATTEMPTS = 10


@dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    exit_code: int
    stdout: bytes
    stderr: str
    seconds: float
    processor_seconds: float  # its own, whatever else the machine is doing; 0 on Windows

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode("utf-8").splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.lines]

    @property
    def stored(self) -> list[dict[str, Any]]:
        """What a producer's `--json` printed of what it stored."""
        return [each for each in self.objects if each["state"] == "stored"]


class User:
    """One person with a home, and most often a vault, on one machine; `folder` is where they work."""

    def __init__(self, environment: Mapping[str, str], folder: Path, *, snapshots: bool = False) -> None:
        """`snapshots`: each put records one, as the programs do by themselves; without, images alone are there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = {"TESSERA_NO_SNAPSHOT": "0" if snapshots else "1", **environment}
        self.folder = folder
        self.patience = PATIENCE

    @property
    def home(self) -> Path:
        return Path(self.environment["TESSERA_HOME"])

    def run(self, program: str, *arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
        """Run a program to its end; `variables` are set in its environment beside those there are."""
        with self.started(program, *arguments, **variables) as process:
            return finish(process, stdin, self.patience)

    @contextmanager
    def started(self, program: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program that runs, its stdin open; killed at the end if it is still there."""
        with self.started_as(program_command(program, *arguments), subprocess.PIPE, **variables) as process:
            yield process

    @contextmanager
    def started_as(
        self, command: Sequence[str], streams: int = subprocess.PIPE, **variables: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """As `started`, by a whole command line; `streams`: what its stdin, stdout and stderr are."""
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **variables},
            stdin=streams,
            stdout=streams,
            stderr=streams,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def store(self, *arguments: str, **variables: str) -> list[dict[str, Any]]:
        """Store what must be storable; an object for each image."""
        with self.started("producer", "--json", *arguments, **variables) as process:
            ended = finish(process)
        assert ended.exit_code == 0, ended
        return ended.stored

    def store_bytes(self, content: bytes, *options: str) -> dict[str, Any]:
        """Store a file with this content that nobody stored before."""
        path = self.folder / f"{sha256_of(content)[:16]}.bin"
        path.write_bytes(content)
        (stored,) = self.store(*options, str(path))
        assert not stored["already_stored"], stored
        return stored

    def restore(self, *hashes: str, output: Path, options: tuple[str, ...] = ()) -> Ended:
        """Ask for images by hash; whatever comes of it."""
        wanted = [word for text in hashes for word in ("--hash", text)]
        return self.run("consumer", *wanted, "--output", str(output), *options)

    def listed(self) -> list[dict[str, Any]]:
        ended = self.run("consumer", "--list", "--json")
        assert ended.exit_code == 0, ended
        return ended.objects


def finish(process: subprocess.Popen[bytes], stdin: bytes = b"", patience: float = PATIENCE) -> Ended:
    """Give a program the rest of its input and wait for its end, for so many seconds."""
    started, before = time.monotonic(), os.times()
    stdout, stderr = process.communicate(stdin, timeout=patience)
    seconds, after = time.monotonic() - started, os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    return Ended(process.returncode, stdout, stderr.decode("utf-8", "replace"), seconds, own)


def feed(process: subprocess.Popen[bytes], content: bytes) -> None:
    """Write to a program's stdin and leave it open; fails where the program does not take it in time."""
    pipe = process.stdin
    assert pipe is not None

    def write() -> None:
        pipe.write(content)
        pipe.flush()

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(PATIENCE)
    assert not writing.is_alive(), "the program does not read its input"


@contextmanager
def held_in_mid_get(user: User, sha256: str, output: Path, size: int) -> Iterator[subprocess.Popen[bytes]]:
    """A consumer that was stopped (SIGSTOP) while its output has some, but not all, of the image's `size` bytes.

    On a machine that is busy it may be looked at too late; then the image is asked for once more.
    """
    output.parent.mkdir(exist_ok=True)
    for _ in range(_ATTEMPTS):
        with user.started("consumer", "--hash", sha256, "--output", str(output)) as process:
            wait_until(lambda: process.poll() is not None or _written(output.parent) > _BEGUN, "a growing file")
            process.send_signal(signal.SIGSTOP)
            if process.poll() is None and not output.exists() and _written(output.parent) < size:
                yield process
                return
            process.send_signal(signal.SIGCONT)
            ended = finish(process)
        assert ended.exit_code == 0, ended
        output.unlink()
    raise AssertionError("it was always too fast to be caught in the middle")


def _written(folder: Path) -> int:
    """The size of the largest file there."""
    sizes = [0]
    for path in files_below(folder):
        with contextlib.suppress(FileNotFoundError):  # it has its final name by now
            sizes.append(path.stat().st_size)
    return max(sizes)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as the condition holds; fails where it does not within the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(_PAUSE)


def random_bytes(count: int) -> bytes:
    return os.urandom(count)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
