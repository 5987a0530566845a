"""Runs the programs in forks of one process that has imported them: a command takes 20 ms, and not half a second.

Each fork is a process of its own with its own arguments, environment, folder and streams, and runs the same `main` as
the script does. The locale is the one that this process was started with, since Python reads it only then.

    python tests/soak/forking.py      asked by lines of JSON on stdin, answers with one each on stdout

A question names `program`, `arguments`, `environment`, `folder`, `stdin`, `stdout` and `stderr` (paths; "gone" for a
stdout whose reader went away, "closed" for none), `signal` and `after` (seconds; a number of 0 for none), and
`deadline` (seconds). Text is as `os.fsdecode` gives it under UTF-8. The answer: `status` (as `Popen.returncode`; None
where the process had to be killed at the deadline) and `seconds`.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # the checkout's root, in place of this folder

from common.process.stopping import end_silently_while_loading

_ASKING = (signal.SIGINT, signal.SIGTERM)
PROGRAMS = ("producer", "consumer", "admin", "broker", "worker")
# What the commands load when they need it: before the forks, so that no fork pays for it.
_LATER = (
    "numpy",
    "producer.run",
    "producer.owner",
    "consumer.restorer",
    "admin.verifying",
    "admin.deleting",
    "zeroconf",
)


def serve() -> None:
    """Answer questions until stdin ends."""
    for name in _LATER:
        importlib.import_module(name)
    commands = {name: importlib.import_module(f"{name}.command") for name in PROGRAMS}
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    for question in questions:
        case = json.loads(question)
        # A signal waits until the fork is the program: before, it would meet what no program is.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)
        pid = os.fork()
        if pid == 0:
            _become(case, commands[case["program"]])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKING)
        answers.write(json.dumps(_outcome(pid, case)) + "\n")
        answers.flush()


def _become(case: dict[str, Any], command: Any) -> NoReturn:
    """Be the program: never returns."""
    try:
        os.setsid()
        os.chdir(_encoded(case["folder"]))
        os.environb.clear()
        os.environb.update({_encoded(name): _encoded(value) for name, value in case["environment"].items()})
        time.tzset()
        _attach(0, _encoded(case["stdin"]), os.O_RDONLY)
        _attach(2, _encoded(case["stderr"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _attach_stdout(case["stdout"])
        sys.argv = [f"{case['program']}.py", *(os.fsdecode(_encoded(each)) for each in case["arguments"])]
        end_silently_while_loading()  # as the script does
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKING)
        command.main()
    except SystemExit as ended:  # as the command-line library ends where the reader of its help went away
        os._exit(ended.code if isinstance(ended.code, int) else 99)
    except BaseException as error:  # what ends a program's process by a traceback must be seen to
        os.write(2, f"Traceback: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    os._exit(99)


def _encoded(text: str) -> bytes:
    """The bytes of an argument or path, whatever the locale of this process."""
    return text.encode("utf-8", "surrogateescape")


def _attach(descriptor: int, path: bytes, flags: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)


def _attach_stdout(path: str) -> None:
    if path == "closed":
        os.close(1)
        sys.stdout = None  # as the interpreter starts without descriptor 1
    elif path == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.close(writer)
    else:
        _attach(1, _encoded(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _outcome(pid: int, case: dict[str, Any]) -> dict[str, Any]:
    """Wait for a fork's end, and send it the signal on the way."""
    started = time.monotonic()
    descriptor = os.pidfd_open(pid)
    try:
        if case["signal"] and not select.select([descriptor], [], [], case["after"])[0]:
            os.kill(pid, case["signal"])
        ended = select.select([descriptor], [], [], case["deadline"])[0]
        if not ended:
            os.killpg(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return {"status": status if ended else None, "seconds": time.monotonic() - started}
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    serve()
