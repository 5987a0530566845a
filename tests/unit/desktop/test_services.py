"""The programs beside the window, as processes: a script in place of worker.py that locks its store, and goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from common.errors import NoRoomError, RefusedError, UsageError
from common.files import is_locked, lock
from desktop import services as under_test
from desktop.model.service import Program, Service, State
from desktop.services import Services
from tests import ROOT

WORKER = Program.WORKER
KEEPS = f"""
import json, os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from common.files import lock
store = Path(sys.argv[sys.argv.index("--store") + 1])
held = lock(store / "store.lock")
tessera = {{name: value for name, value in os.environ.items() if name.startswith("TESSERA_")}}
(store / "seen.json").write_text(json.dumps([sys.argv[1:], tessera]))
print("INFO worker keeps 0 shares", flush=True)
time.sleep(600)
"""
REFUSED = """
import sys
print("worker: the broker does not accept this invite: it is over\\n  get a new one", file=sys.stderr)
sys.exit(6)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What runs in place of worker.py."""
    path = tmp_path / "checkout" / "worker" / "worker.py"
    path.parent.mkdir(parents=True)
    path.write_text(KEEPS)
    monkeypatch.setattr(under_test, "_CHECKOUT", tmp_path / "checkout")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return path


@pytest.fixture
def device(tmp_path: Path) -> Service:
    return Service(WORKER, str(tmp_path / "the store"), "5G")


@pytest.fixture
def services(tmp_path: Path, script: Path) -> Iterator[Services]:
    made = Services(tmp_path / "home")
    yield made
    made._end(WORKER)


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "config" / "autostart").glob("*.desktop"))


def seen(device: Service) -> Any:
    """Arguments and environment of the process."""
    path = Path(device.store) / "seen.json"
    until(path.exists)
    return json.loads(path.read_text())


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


def test_what_is_set_up_is_known_to_the_next_window_and_ends_with_what_started_it(
    services: Services, device: Service, tmp_path: Path
) -> None:
    assert services.status(WORKER).state is State.OFF
    services.set_up(device, {})
    assert services.status(WORKER).state is State.RUNNING
    again = Services(tmp_path / "home")
    assert again.status(WORKER).service == device
    if sys.platform != "win32":
        (entry,) = entries(tmp_path)
        assert "--at-login worker" in entry.read_text()
    with pytest.raises(UsageError, match="a device already"):
        again.set_up(device, {})
    again.give_up(WORKER)
    assert again.status(WORKER).state is State.OFF
    assert not is_locked(Path(device.store) / "store.lock")
    assert entries(tmp_path) == []
    assert Path(device.store).is_dir(), "what it keeps stays"


def test_the_invite_is_in_its_environment_once_and_no_passphrase_ever(
    services: Services, device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", "four words for keeping")
    services.set_up(device, {"TESSERA_JOIN": "tessera-worker-secret"})
    arguments, environment = seen(device)
    assert arguments == device.arguments
    assert environment.pop("TESSERA_JOIN") == "tessera-worker-secret"
    services._end(WORKER)
    assert services.status(WORKER).state is State.STOPPED
    (Path(device.store) / "seen.json").unlink()
    services.resume(WORKER)
    assert seen(device) == [arguments, environment]
    assert set(environment) == {"TESSERA_HOME", "TESSERA_SERVICE"}


def test_where_the_program_refuses_its_words_are_told_and_nothing_is_set_up(
    services: Services, device: Service, script: Path, tmp_path: Path
) -> None:
    script.write_text(REFUSED)
    for _ in range(2):
        with pytest.raises(RefusedError, match="does not accept this invite: it is over") as caught:
            services.set_up(device, {"TESSERA_JOIN": "tessera-worker-secret"})
        assert caught.value.advice == "get a new one"
    assert services.status(WORKER).state is State.OFF
    assert entries(tmp_path) == []
    script.write_text(KEEPS)
    services.set_up(device, {})
    assert services.status(WORKER).state is State.RUNNING


@pytest.mark.skipif(sys.platform == "win32", reason="there the registry has the entry")
def test_where_it_could_not_start_at_login_it_does_not_run_either(
    services: Services, device: Service, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises((NoRoomError, UsageError), match=r"cannot write .*autostart"):
        services.set_up(device, {})
    assert services.status(WORKER).state is State.OFF
    assert not is_locked(Path(device.store) / "store.lock")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no kill -9")
def test_one_that_was_killed_has_stopped_and_is_started_again(
    services: Services, device: Service, tmp_path: Path
) -> None:
    services.set_up(device, {})
    os.kill(int((tmp_path / "home" / "services" / "worker.pid").read_text()), signal.SIGKILL)
    until(lambda: services.status(WORKER).state is State.STOPPED)
    services.ensure(device)
    assert services.status(WORKER).state is State.RUNNING


def test_what_something_else_started_is_seen_and_left_alone(services: Services, tmp_path: Path) -> None:
    with lock(tmp_path / "home" / "store" / "store.lock"):
        assert services.status(WORKER).state is State.ELSEWHERE
        services.ensure(Service(WORKER, str(tmp_path / "home" / "store")))
        with pytest.raises(RefusedError, match="something else than this app"):
            services.give_up(WORKER)
    assert services.status(WORKER).state is State.OFF


def test_a_log_that_has_grown_long_gives_way_to_a_new_one(
    services: Services, device: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_MOST_LOG", 10)
    log = tmp_path / "home" / "logs" / "worker.log"
    log.parent.mkdir(parents=True)
    log.write_text("what was said last year\n")
    services.set_up(device, {})
    assert log.with_suffix(".log.1").read_text() == "what was said last year\n"
    assert "last year" not in log.read_text()
