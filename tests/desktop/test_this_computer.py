"""From an empty folder to a cluster of one's own by clicks: broker, admin, device, and what outlives the window."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster, program_command
from common.membership.invite import decode_invite
from desktop.model.service import Program, State
from desktop.services import Services
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven
from tests.support.ports import own_base_port
from tests.support.programs import wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no test writes into the registry"),
    pytest.mark.real_starts,  # what outlives the window is known again by the variables that it was started with
]
WORDS = "four words for keeping"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, but for ports that nobody else has; what was begun from it ends with the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = tmp_path / "home"
    home.mkdir()
    port = own_base_port()
    (home / "config.toml").write_text(
        f'[broker]\nhost = "127.0.0.1"\nclient_port = {port}\nworker_port = {port + 1}\nlane_port = 0\n'
    )
    yield home
    for program in Program:
        Services(home).give_up(program)


def devices_view(window: Driven, which: str) -> None:
    window.app._views["devices"].turn(which)


def test_a_computer_becomes_broker_and_device_by_clicks_and_outlives_the_window(
    start_app: StartApp, home: Path, tmp_path: Path
) -> None:
    window = start_app(home)
    window.press("No cluster yet: make this computer the broker …")
    window.press("Make it the broker")
    window.until(lambda: window.sees("This computer is the broker of a new cluster"), "that it is the broker")
    window.until(lambda: window.sees("This computer is a device now"), "that it is a device, too")
    window.fill_in(0, WORDS)
    window.fill_in(1, WORDS)
    window.press("Make the vault")
    window.press("Later")
    window.until(lambda: window.app.title() == "Gallery - Tessera", "the gallery")
    window.app.show("devices")
    window.until(lambda: window.sees("1 of 1 alive"), "the device")
    window.close()

    services = Services(home)
    assert {services.status(program).state for program in Program} == {State.RUNNING}
    environment = {**os.environ, "TESSERA_HOME": str(home), "TESSERA_PASSPHRASE": WORDS}
    members = subprocess.run(
        program_command("broker", "members"), env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert sorted(line.split("\t")[1] for line in members.splitlines()) == ["admin", "broker", "worker"]
    for program in Program:  # as when the computer is switched off
        os.kill(int((home / "services" / f"{program.value}.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: {services.status(program).state for program in Program} == {State.STOPPED}, "that both ended")

    entries = sorted((tmp_path / "config" / "autostart").glob("*.desktop"))
    assert len(entries) == 2
    for entry in entries:
        (line,) = [line for line in entry.read_text().splitlines() if line.startswith("Exec=")]
        subprocess.run(shlex.split(line[len("Exec=") :]), cwd="/", check=True, timeout=60)
    wait_until(lambda: {services.status(program).state for program in Program} == {State.RUNNING}, "both again")

    again = start_app(home)
    again.fill_in(0, WORDS)
    again.press("Unlock")
    again.until(lambda: again.app.title() == "Gallery - Tessera", "the gallery")
    again.app.show("devices")
    again.until(lambda: again.sees("1 of 1 alive"), "the device that started at login")
    devices_view(again, "This computer")
    again.press("Stop being a device …")
    again.until(lambda: again.sees("retire it first"), "what that means")
    again.press("Stop")
    again.until(lambda: again.can_press("Make this computer a device …"), "that it is none any more")
    again.press("Make this computer a device …")
    again.fill_in(1, "9000T")
    again.press("Make it a device")
    again.until(lambda: again.sees("which is less than 9000T"), "that there is no such room")
    again.fill_in(1, "1G")
    again.press("Make it a device")
    again.until(lambda: again.can_press("Stop being a device …"), "that it is a device again")
    assert not again.sees("which is less than 9000T")
    devices_view(again, "Devices that keep shares")
    again.until(lambda: again.sees("1 of 1 alive"), "the same device")


def test_a_port_that_is_taken_is_told_in_the_brokers_own_words_and_nothing_is_set_up(
    start_app: StartApp, home: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.toml").write_text((home / "config.toml").read_text())
    environment = {**os.environ, "TESSERA_HOME": str(other)}
    with subprocess.Popen(program_command("broker"), env=environment, stderr=subprocess.DEVNULL) as squatter:
        try:
            wait_until((other / "broker" / "serving.json").exists, "the other broker")
            window = start_app(home)
            window.press("No cluster yet: make this computer the broker …")
            window.press("Make it the broker")
            window.until(lambda: window.sees("another broker or another program listens there"), "what is in the way")
            assert window.sees("stop that one, or choose")
            assert window.can_press("Make it the broker"), "to try again"
            assert not (home / "services" / "broker.json").exists()
            assert not list((tmp_path / "config").glob("autostart/*"))
        finally:
            squatter.terminate()
            assert squatter.wait(60) == 0


def test_a_refused_invite_is_told_in_the_devices_words_and_another_may_be_tried(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = Path(cluster.add_client(f"{tmp_path.name}-a-device", WORDS)["TESSERA_HOME"])
    over, other = cluster.invite("worker"), cluster.invite("client")
    withdrawn = decode_invite(over).one_time.public.hex()[:16]  # others may be open
    cluster.run("broker", "invites", "withdraw", withdrawn, environment=cluster.broker_environment(1))
    window = start_app(home)
    window.fill_in(0, WORDS)
    window.press("Unlock")
    window.until(lambda: window.app.title() == "Gallery - Tessera", "the gallery")
    window.app.show("devices")
    window.app.geometry("900x560+0+0")  # the smallest
    devices_view(window, "This computer")
    window.press("Make this computer a device …")
    for invite, why in (
        ("tessera-worker-aaaa", "this invite is not complete"),
        (other, "this invite is for a client, not for a worker"),
        (over, "the broker does not accept this invite"),
    ):
        window.fill_in(0, invite)
        window.press("Make it a device")
        window.until(lambda why=why: window.sees(why), why)  # type: ignore[misc]
        window.until(lambda: window.can_press("Make it a device"), "that another one may be tried")
        (button,), view = window._button("Make it a device"), window.app._views["devices"]
        bottom = view.winfo_rooty() + view.winfo_height()
        assert button.winfo_rooty() + button.winfo_height() <= bottom, "the button is cut off"
        assert Services(home).status(Program.WORKER).state is State.OFF
    log = (home / "logs" / "worker.log").read_text()
    assert not any(invite.split("-")[2] in log for invite in (over, other)), "an invite is a secret"
    assert not list((tmp_path / "config").glob("autostart/*"))
