"""The broker's supervisor: what it starts again and how soon, and that neither outlives the other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from broker.supervisor import how_it_ended, is_final, next_pause, stop_with_supervisor, supervise
from tests import ROOT

PATIENCE = 60  # seconds


@pytest.mark.parametrize("exit_code", [0, 2, 4, 6, 130])
def test_what_would_not_get_better_by_trying_again_is_final(exit_code: int) -> None:
    assert is_final(exit_code)


@pytest.mark.parametrize("exit_code", [1, 3, 7, -6, -9, -11, 134, 3221225477])
def test_a_fault_or_a_signal_is_not_final(exit_code: int) -> None:
    assert not is_final(exit_code)


def test_a_broker_that_lived_is_started_again_at_once() -> None:
    assert next_pause(1.0, lived=10.0) == 0.0


def test_one_that_keeps_failing_is_started_again_ever_later_but_within_a_second() -> None:
    pauses = [0.0]
    for _ in range(10):
        pauses.append(next_pause(pauses[-1], lived=0.5))
    assert pauses[:5] == [0.0, 0.125, 0.25, 0.5, 1.0]
    assert max(pauses) == 1.0


def test_an_end_is_told_in_words() -> None:
    assert how_it_ended(1) == "with exit code 1"
    assert how_it_ended(-int(signal.SIGTERM)) == "by SIGTERM"
    assert how_it_ended(-4000) == "by signal 4000"


def child(folder: Path, then: str) -> list[str]:
    """A program that leaves a line in `lives` and then does something."""
    note = f"import os, signal, sys; open({str(folder / 'lives')!r}, 'a').write('x')"
    return [sys.executable, "-c", f"{note}; lives = os.path.getsize({str(folder / 'lives')!r}); {then}"]


def lives(folder: Path) -> int:
    return len((folder / "lives").read_text())


def test_a_child_is_started_again_until_it_ends_for_good(tmp_path: Path) -> None:
    assert supervise(child(tmp_path, "sys.exit(1 if lives < 3 else 6)"), threading.Event()) == 6
    assert lives(tmp_path) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("ending", ["SIGABRT", "SIGKILL"])
def test_a_child_that_is_ended_by_a_signal_is_started_again(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    then = f"lives < 2 and os.kill(os.getpid(), signal.{ending})"
    assert supervise(child(tmp_path, then), threading.Event()) == 0
    assert lives(tmp_path) == 2
    assert f"ended by {ending} and is started again" in caplog.text


def test_a_wrong_usage_is_not_tried_again(tmp_path: Path) -> None:
    assert supervise(child(tmp_path, "sys.exit(2)"), threading.Event()) == 2
    assert lives(tmp_path) == 1


def test_a_supervisor_that_is_asked_to_end_ends_its_child(tmp_path: Path) -> None:
    stopping = threading.Event()
    ready = f"open({str(tmp_path / 'ready')!r}, 'w').close()"
    command = child(tmp_path, f"{ready}; sys.stdin.read()")
    codes: list[int] = []
    running = threading.Thread(target=lambda: codes.append(supervise(command, stopping)))
    running.start()
    pause = threading.Event()
    while not (tmp_path / "ready").exists() and running.is_alive():
        pause.wait(0.01)
    stopping.set()
    running.join(PATIENCE)
    assert codes == [0]
    assert lives(tmp_path) == 1


def test_a_child_ends_when_its_supervisor_is_gone_however_that_ended() -> None:
    reading, writing = os.pipe()
    stopping = threading.Event()
    stop_with_supervisor(stopping, reading)
    assert not stopping.wait(0.1)
    os.close(writing)
    assert stopping.wait(PATIENCE)
    os.close(reading)


def test_a_supervised_broker_that_cannot_have_its_port_says_so_once_and_ends(tmp_path: Path) -> None:
    script = ROOT / "broker" / "broker.py"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, str(script), "--supervised", "--host", "127.0.0.1", "--client-port", port],
            env={**os.environ, "TESSERA_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ended.returncode == 2, ended
    assert ended.stderr.count(b"cannot listen") == 1
