"""A fork of a process that has imported the programs is what starting the program would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.local import program_command
from tests.support import forked_programs
from tests.support.fork_server import Start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are Linux's here")

PATIENCE = 60.0  # seconds
ForkedPopen: Any = forked_programs.ForkedPopen
PROGRAM = """
import json, os, random, resource, signal, sys, time

streams = [sys.stdin, sys.stdout, sys.stderr]
found = {
    "arguments": sys.argv,
    "folder": os.getcwd(),
    "variables": dict(os.environ),
    "modules' folders": sys.path,
    "umask": os.umask(0),
    "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "streams": [
        [s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through, str(type(s.buffer))] for s in streams
    ],
    "input": sys.stdin.read(),
    "leads a session": os.getsid(0) == os.getpid(),
    "limits": [resource.getrlimit(number) for number in range(resource.RLIM_NLIMITS)]
    if hasattr(resource, "RLIM_NLIMITS") else [],
    "script": [__name__, __file__],
    "time zone": time.tzname,
}
print(json.dumps(found))
print("said", file=sys.stderr)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of a script that counts as a program."""
    path = tmp_path / "folder" / "script.py"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    command = [sys.executable, str(path)]
    monkeypatch.setattr(forked_programs, "_SCRIPTS", {tuple(command)})
    return command


def _run(kind: Any, command: list[str], **settings: Any) -> tuple[int, Any, str]:
    pipe = subprocess.PIPE
    with kind(command, stdin=pipe, stdout=pipe, stderr=pipe, **settings) as process:
        stdout, stderr = process.communicate(b"given", timeout=PATIENCE)
    return process.returncode, json.loads(stdout), stderr.decode()


@pytest.mark.parametrize("alone", [False, True])
def test_a_fork_finds_what_a_start_finds(script: list[str], tmp_path: Path, alone: bool) -> None:
    settings: dict[str, Any] = {"env": dict(os.environ)}
    if alone:
        variables = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONUNBUFFERED": "1", "NAME": "\udcff"}
        settings = {"start_new_session": True, "cwd": tmp_path, "umask": 0o27, "env": variables}
    command = [*script, "--option", "\udcfe"]
    forked, started = (_run(kind, command, **settings) for kind in (ForkedPopen, subprocess.Popen))
    assert forked == started
    assert (forked[0], forked[1]["input"], forked[1]["leads a session"]) == (0, "given", alone)


def test_a_forks_end_is_its_starters_to_learn(script: list[str]) -> None:
    for words, exit_code in (("sys.exit(7)", 7), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -signal.SIGKILL)):
        Path(script[1]).write_text(f"import os, sys\n{words}\n")
        with ForkedPopen(script, stderr=subprocess.PIPE, text=True) as process:
            said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == exit_code
        assert ("ZeroDivisionError" in said) == (exit_code == 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_fork_is_ended_by_signals(script: list[str], number: signal.Signals) -> None:
    Path(script[1]).write_text("import time\nprint('runs', flush=True)\ntime.sleep(60)\n")
    with ForkedPopen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number


def test_two_forks_draw_different_numbers(script: list[str]) -> None:
    Path(script[1]).write_text("import random\nprint(random.getrandbits(64))\n")
    drawn = {ForkedPopen(script, stdout=subprocess.PIPE).communicate(timeout=PATIENCE)[0] for _ in range(3)}
    assert len(drawn) == 3


def test_what_a_fork_cannot_be_is_started(script: list[str]) -> None:
    Path(script[1]).write_text("import sys\nprint(sys.argv[0] in open('/proc/self/cmdline').read())\n")
    for variables in ({"PYTHONUTF8": "1"}, {"LC_ALL": "C"}):
        ended = ForkedPopen(script, stdout=subprocess.PIPE, env={**os.environ, **variables})
        assert ended.communicate(timeout=PATIENCE)[0].startswith(b"True")
    assert ForkedPopen(script, stdout=subprocess.PIPE).communicate(timeout=PATIENCE)[0].startswith(b"False")


def test_a_fork_under_another_locale_reads_what_a_start_does_there(script: list[str], tmp_path: Path) -> None:
    Path(script[1]).write_text(
        "import json, os, sys\nprint(json.dumps([sys.stdout.encoding, [os.fsencode(w).hex() for w in sys.argv[1:]],"
        " os.environb[b'NAME'].hex()]))"
    )
    variables = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "NAME": "é\udcff"}
    words = ["写真.png", "caf\udce9"]
    server = forked_programs.ForkServer(variables)
    try:
        start = Start([*script[1:], *words], variables, str(tmp_path), forked_programs.umask(), new_session=True)
        with (tmp_path / "out").open("wb") as out:
            pid = server.start(start, [0, out.fileno(), 2])
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        server.close()
    started = subprocess.run([*script, *words], env=variables, stdout=subprocess.PIPE, check=True).stdout
    assert (tmp_path / "out").read_bytes() == started
    assert json.loads(started) == ["ascii", [os.fsencode(word).hex() for word in words], "c3a9ff"]


@pytest.mark.one_python
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_fork_can_start_without_a_stream(script: list[str], tmp_path: Path, number: int) -> None:
    Path(script[1]).write_text(
        "import json, os, sys\nstreams = [sys.stdin, sys.stdout, sys.stderr]\n"
        "open(sys.argv[1], 'w').write(json.dumps([s is None for s in streams]))\n"
        "os.fstat(int(sys.argv[2]))"
    )
    server = forked_programs.ForkServer(os.environ)
    try:
        command = [*script[1:], str(tmp_path / "found"), str(number)]
        start = Start(command, dict(os.environ), str(tmp_path), forked_programs.umask(), True, closed=[number])
        with open(os.devnull, "r+b") as null:
            pid = server.start(start, [null.fileno()] * 3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    finally:
        server.close()
    assert json.loads((tmp_path / "found").read_text()) == [each == number for each in range(3)]


def test_the_programs_themselves_are_forked_and_say_the_same() -> None:
    for program in ("producer", "broker"):
        command = program_command(program, "--help")
        said = [
            kind(command, stdout=subprocess.PIPE).communicate(timeout=PATIENCE)
            for kind in (ForkedPopen, subprocess.Popen)
        ]
        assert said[0] == said[1]
