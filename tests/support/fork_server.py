"""A process that has imported the programs and forks for each that is to run: it starts in 20 ms, not half a second.

    python tests/support/fork_server.py DESCRIPTOR      asked and answering over this socket, until its other end closes

Each fork is a process of its own, with its own arguments, environment, folder, streams and session, which runs the
program's script from its first line. Its parent is who asked: the process between them ends, and who asked is made the
one that orphans go to (PR_SET_CHILD_SUBREAPER, prctl(2)).

A request is its length (4 bytes, big-endian), with it the descriptors of stdin, stdout and stderr, then a `Start` as
JSON. The answer is the fork's pid (4 bytes).
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

LENGTH = struct.Struct(">I")
PROGRAMS = ("admin", "broker", "consumer", "producer", "worker")
_ASKING = (signal.SIGINT, signal.SIGTERM)
_STREAMS = ("stdin", "stdout", "stderr")
_STDERR = 2
_LATER = ("ifaddr", "rich.table")  # what programs import where they need it
# From <sched.h> and <sys/mount.h> of Linux.
_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_REC, _MS_SLAVE, _MNT_DETACH = 0x4000, 0x80000, 2


class Start(NamedTuple):
    """What is to run, and where; texts are as `os.fsdecode` gives them under UTF-8."""

    command: list[str]  # the script and its arguments
    environment: dict[str, str]
    folder: str
    umask: int
    new_session: bool
    network: str = ""  # the network namespace, by its name for `ip netns`; empty for this process's own
    closed: Sequence[int] = ()  # of 0, 1 and 2, what it starts without, whatever descriptor came along
    silent: bool = False  # on Ctrl-C before its script's first line: a program is so only from that line on


def serve(requests: socket.socket) -> None:
    """Fork for each request. Returns in the forks only; where there are no more requests the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the programs
    while (head := _received(requests)) is not None:
        length, streams = head
        start = Start(*json.loads(_exactly(requests, length)))
        # A signal waits until the fork is the program: before, it would meet what no program is.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)
        pid = _fork_for_parent()
        if pid == 0:
            requests.close()
            _become(start, streams)
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKING)
        for descriptor in streams:
            os.close(descriptor)
        requests.sendall(LENGTH.pack(pid))
    sys.exit()


def _received(requests: socket.socket) -> Optional[tuple[int, list[int]]]:
    """The length of the next request, and its streams; None where there is none."""
    head, streams, _, _ = socket.recv_fds(requests, LENGTH.size, len(_STREAMS))
    if not head:
        return None
    (length,) = LENGTH.unpack(head + _exactly(requests, LENGTH.size - len(head)))
    return length, streams


def _exactly(requests: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        more = requests.recv(size - len(received))
        if not more:
            sys.exit()
        received += more
    return bytes(received)


def _fork_for_parent() -> int:
    """Fork a child of this process's parent, which takes in what its descendants leave behind; its pid, 0 in it."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid:
            os.write(writing, LENGTH.pack(pid))
            os._exit(0)
        os.close(reading)
        os.close(writing)
        return 0
    os.close(writing)
    with open(reading, "rb") as pipe:
        (pid,) = LENGTH.unpack(pipe.read())
    os.waitpid(between, 0)  # from now on the child is our parent's
    return int(pid)


def _become(start: Start, streams: list[int]) -> None:
    """Be what the interpreter is when it begins with the script."""
    if start.new_session:
        os.setsid()
    if start.network:
        _enter(start.network)
    os.umask(start.umask)
    os.chdir(_encoded(start.folder))
    os.environb.clear()
    os.environb.update({_encoded(name): _encoded(value) for name, value in start.environment.items()})
    time.tzset()
    unbuffered = bool(start.environment.get("PYTHONUNBUFFERED"))
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for number in start.closed:
        os.close(number)
    for number, name in enumerate(_STREAMS):
        stream = None if number in start.closed else _as_started(number, name, unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.argv = [os.fsdecode(_encoded(word)) for word in start.command]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL if start.silent else signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKING)


def _encoded(text: str) -> bytes:
    """The bytes of an argument, variable or path, whatever the locale of this process."""
    return text.encode("utf-8", "surrogateescape")


def _enter(network: str) -> None:
    """Be in a network namespace, and see its interfaces in /sys, as `ip netns exec` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{network}", "rb") as namespace:
        failed = (
            libc.setns(namespace.fileno(), _CLONE_NEWNET)
            or libc.unshare(_CLONE_NEWNS)
            or libc.mount(b"", b"/", b"none", _MS_REC | _MS_SLAVE, None)
            or libc.umount2(b"/sys", _MNT_DETACH)
            or libc.mount(network.encode(), b"/sys", b"sysfs", 0, None)
        )
    if failed:
        raise OSError(ctypes.get_errno(), f"the network namespace {network} cannot be entered")


def _as_started(number: int, name: str, unbuffered: bool) -> io.TextIOWrapper:
    """A standard stream as the interpreter makes it, in the encoding that this process took from the locale."""
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    lines = not unbuffered and (number == _STDERR or raw.isatty())
    buffer: Any = io.BufferedReader(raw) if number == 0 else raw if unbuffered else io.BufferedWriter(raw)
    like = getattr(sys, name)
    text = io.TextIOWrapper(
        buffer, like.encoding, like.errors, newline="\n", line_buffering=lines, write_through=unbuffered
    )
    raw.name, text.mode = f"<{name}>", raw.mode[0]  # type: ignore[misc]
    return text


def load(*packages: str) -> None:
    """Import all of the programs that is imported, so that no fork does it; what is only ever run is left out."""
    for name in _LATER:
        importlib.import_module(name)
    for package in packages:
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if module.name not in (f"{package}.{package}", "broker.mdns") and not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
    gc.freeze()  # else its first run would copy every page in each fork


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # the checkout's root, in place of this folder
    load("common", *PROGRAMS)
    import producer.run
    from common.vault import key_file
    from tests.support.passphrases import LEAST_COST
    from viewer.process import Viewer

    class LazyViewer(Viewer):
        """Starts at the first image, not while the key is derived: here that takes no time, and few store images."""

        def start(self) -> None:
            if self._looking.locked():
                super().start()

    key_file.COST = LEAST_COST
    producer.run.Viewer = LazyViewer  # type: ignore[attr-defined]
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
