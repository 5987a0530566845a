"""Programs in forks of a process that has imported them (`fork_server`), behind the interface of `subprocess.Popen`.

Behind `ip netns exec`, too. What cannot be so is started as ever: on other systems than Linux; what is no program of
this checkout; with another interpreter, a locale or anything else that an interpreter or the C library reads when it
starts; with `preexec_fn` and the other rarer arguments of Popen.

Vaults that forks make cost the least to open (`passphrases`), and a producer starts its viewer at the first image.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, AnyStr

import pytest

from cluster.local import program_command
from tests.support import fork_server
from tests.support.fork_server import LENGTH, PROGRAMS, Start
from tests.support.passphrases import cheap_passphrases

_PR_SET_CHILD_SUBREAPER = 36
_Popen = subprocess.Popen  # whatever it is replaced by
_SCRIPTS = {tuple(program_command(program)) for program in PROGRAMS}
_READ_AT_START = re.compile("(PYTHON|LC_|LD_|MALLOC_|OPENBLAS_)|(LANG|LANGUAGE|LOCPATH|GLIBC_TUNABLES)$")
_NETWORK = ["ip", "netns", "exec"]
_USUAL = {
    "executable": None,
    "preexec_fn": None,
    "pass_fds": (),
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "process_group": -1,
}


class ForkServer:
    """The process that forks, and the way to it; it ends with this one, however that ends.

    `environment` is what it starts with: forks have the locale of that.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Forks are orphans, which from now on are children of this process.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._read_at_start = _read_at_start(environment)
        self._socket, theirs = socket.socketpair()
        self._one_at_a_time = threading.Lock()
        with theirs:
            self._process = _Popen(
                [sys.executable, fork_server.__file__, str(theirs.fileno())],
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},  # threads would not be in the forks
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def can_start(self, given: Mapping[str, Any]) -> bool:
        """Whether a fork is the same as what these arguments of Popen start."""
        usual = all(given.get(name, value) == value for name, value in _USUAL.items())
        return usual and (given["env"] is None or _read_at_start(given["env"]) == self._read_at_start)

    def start(self, start: Start, streams: Sequence[int]) -> int:
        """Start it with these descriptors as stdin, stdout and stderr; returns its pid, a child of this process."""
        request = json.dumps(start).encode()
        with self._one_at_a_time:
            socket.send_fds(self._socket, [LENGTH.pack(len(request))], streams)
            self._socket.sendall(request)
            answer = self._socket.recv(LENGTH.size, socket.MSG_WAITALL)
        return int(LENGTH.unpack(answer)[0])

    def close(self) -> None:
        """End the process that forks; its forks go on."""
        self._socket.close()
        self._process.wait()


class ForkedPopen(subprocess.Popen[AnyStr]):
    """As `subprocess.Popen`, and quicker where that is possible."""

    def _execute_child(self, *arguments: Any) -> None:
        start_anew = super()._execute_child  # type: ignore[misc]
        given = inspect.signature(start_anew).bind(*arguments).arguments
        if not _program_in(given["args"])[1] or not _server().can_start(given):
            start_anew(*arguments)
            return
        given_streams = enumerate((given["p2cread"], given["c2pwrite"], given["errwrite"]))
        streams = [number if stream == -1 else stream for number, stream in given_streams]
        self.pid = _server().start(_asked(given), streams)
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[end] for end in ends))  # type: ignore[attr-defined]


@functools.cache
def _server() -> ForkServer:
    return ForkServer(os.environ)


@contextmanager
def quick_starts() -> Iterator[None]:
    """Have whoever starts a program get a fork, and vaults cost little to open; not on other systems than Linux."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setattr(subprocess, "Popen", ForkedPopen)
            cheap_passphrases(patch)
        yield


def _asked(given: Mapping[str, Any]) -> Start:
    """What these arguments of Popen say."""
    environment = os.environ if given["env"] is None else given["env"]
    network, command = _program_in(given["args"])
    return Start(
        command=[_text(word) for word in command[1:]],
        environment={_text(name): _text(value) for name, value in environment.items()},
        folder=_text(os.path.abspath(given["cwd"] or ".")),
        umask=umask() if given["umask"] < 0 else given["umask"],
        new_session=given["start_new_session"],
        network=network,
    )


def _text(given: Any) -> str:
    """An argument, variable or path as `Start` has it, whatever the locale of this process."""
    return os.fsencode(given).decode("utf-8", "surrogateescape")


def _program_in(args: Any) -> tuple[str, list[Any]]:
    """The network namespace and the command line of a program of this checkout; an empty one where it is none."""
    if not isinstance(args, list):
        return "", []
    network, command = "", args
    if args[:3] == _NETWORK:
        network, command = args[3], args[4:]
    return network, command if tuple(command[:2]) in _SCRIPTS else []


def _read_at_start(environment: Mapping[Any, Any]) -> dict[str, str]:
    """What an interpreter and its libraries read before any line of a program; but for PYTHONUNBUFFERED."""
    text = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
    text.pop("PYTHONUNBUFFERED", None)
    return {name: value for name, value in text.items() if _READ_AT_START.match(name)}


def umask() -> int:
    """This process's: to be asked without setting it, which all of its threads would notice."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("Umask:")[2].split()[0], 8)
