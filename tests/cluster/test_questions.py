"""What is asked at a terminal: it is shown before anything is done, and Ctrl-C, once, is a no.

And what takes a second there says what it does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cluster.local import LocalCluster, program_command
from common.discovery.addresses import BrokerAddress
from common.membership.identity import KeyPair, save_brokers, save_key_pair
from common.membership.invite import Invite
from common.protocol.operations import Role
from tests.support.devices import wait_lost
from tests.support.ports import own_base_port
from tests.support.programs import PATIENCE, User, random_bytes, sha256_of, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals that Python opens")


class AtTerminal:
    """A program whose stdin, stdout and stderr are a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.said = b""

    def wait_for(self, text: bytes) -> None:
        def has_said() -> bool:
            try:
                self.said += os.read(self._terminal, 65536)
            except BlockingIOError:
                assert self.process.poll() is None, self.said
            return text in self.said

        wait_until(has_said, f"that it says {text!r}")

    def wait_reading(self) -> None:
        """Until it sleeps, in read(2). CPython sees no signal that comes after its last look and before that call."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_bytes().rpartition(b")")[2].split()[0] == b"S", "that it waits for an answer")

    def type(self, text: bytes) -> None:
        os.write(self._terminal, text)


@contextmanager
def at_terminal(user: User, program: str, *arguments: str) -> Iterator[AtTerminal]:
    terminal, its_end = os.openpty()
    os.set_blocking(terminal, False)
    try:
        with user.started_as(program_command(program, *arguments), its_end) as process:
            os.close(its_end)
            yield AtTerminal(process, terminal)
    finally:
        os.close(terminal)


def test_delete_shows_what_it_would_delete_and_ctrl_c_once_ends_it(owner: User) -> None:
    content = random_bytes(5000)
    sha256 = owner.store_bytes(content)["sha256"]
    with at_terminal(owner, "admin", "delete", "--hash", sha256[:16]) as asked:
        asked.wait_for(b"Delete this image from all devices?")
        assert sha256.encode() in asked.said
        asked.wait_reading()
        asked.process.send_signal(signal.SIGINT)
        assert asked.process.wait(PATIENCE) == 130
    assert owner.restore(sha256, output=owner.folder / "still-there").exit_code == 0
    assert sha256_of((owner.folder / "still-there").read_bytes()) == sha256


@pytest.mark.parametrize(("answer", "exit_code", "restored"), [(b"n\n", 9, 0), (b"\n", 9, 0), (b"y\n", 0, 3)])
def test_delete_does_what_the_answer_says(owner: User, answer: bytes, exit_code: int, restored: int) -> None:
    sha256 = owner.store_bytes(random_bytes(5000))["sha256"]
    with at_terminal(owner, "admin", "delete", "--hash", sha256) as asked:
        asked.wait_for(b"[y/N]:")
        asked.type(answer)
        asked.wait_for(b"nothing was deleted" if exit_code else b"deleted")
        assert asked.process.wait(PATIENCE) == exit_code
        assert b"interrupted" not in asked.said
    assert owner.restore(sha256, output=owner.folder / "out").exit_code == restored


def test_delete_says_which_snapshots_name_it_under_which_paths_before_it_asks(owner: User) -> None:
    content = random_bytes(5000)
    for path in (owner.folder / "photos/a.jpg", owner.folder / "photos/2019/b.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    owner.store("photos", TESSERA_NO_SNAPSHOT="0")
    sha256 = sha256_of(content)
    dry = owner.run("admin", "delete", "--hash", sha256, "--dry-run")
    assert dry.exit_code == 0, dry
    assert [line.rpartition("  ")[2] for line in dry.lines[1:]] == ["photos/2019/b.jpg", "photos/a.jpg"]
    with at_terminal(owner, "admin", "delete", "--hash", sha256) as asked:
        asked.wait_for(b"[y/N]:")
        assert b"photos/2019/b.jpg" in asked.said and b"photos/a.jpg" in asked.said
        assert b"1 snapshot would lack what is deleted, under 2 paths" in asked.said
        asked.type(b"n\n")
        assert asked.process.wait(PATIENCE) == 9
    ended = owner.run("admin", "delete", "--hash", sha256, "--yes")
    assert (ended.exit_code, ended.lines) == (0, [f"{sha256}  deleted"]), ended
    assert "photos/a.jpg" in ended.stderr


def test_a_broker_that_is_away_is_waited_for_with_a_word_on_the_terminal(owner: User) -> None:
    pair, nobody_there = KeyPair.generate(), BrokerAddress("127.0.0.1", 1, 2, bytes(32))
    away = User({**owner.environment, "TESSERA_HOME": str(owner.folder / "away")}, owner.folder)
    save_key_pair(away.home / "client" / "client.key", pair)
    save_brokers(away.home / "client" / "brokers.json", [nobody_there])
    with at_terminal(away, "admin", "status") as asked:
        asked.wait_for("reaching the broker at tcp://127.0.0.1:1 …".encode())


def test_a_join_says_what_it_waits_for_in_every_program(owner: User) -> None:
    nobody_there = [BrokerAddress("127.0.0.1", 1, 2, bytes(32))]
    stranger = User({**owner.environment, "TESSERA_HOME": str(owner.folder / "stranger")}, owner.folder)
    port = str(own_base_port(1))
    ports = (
        "--host",
        "127.0.0.1",
        "--client-port",
        port,
        "--worker-port",
        str(int(port) + 1),
        "--lane-port",
        "0",
        "--no-announce",
    )
    commands: dict[Role, tuple[str, ...]] = {
        Role.CLIENT: ("admin", "join"),
        Role.WORKER: ("worker", "--store", str(owner.folder / "store"), "--join"),
        Role.BROKER: ("broker", *ports, "--join"),
    }
    for role, (program, *arguments) in commands.items():
        invite = Invite(role, nobody_there, KeyPair.generate()).encode()
        with at_terminal(stranger, program, *arguments, invite) as asked:
            asked.wait_for("asking the broker to let this machine in …".encode())


def test_what_waits_for_the_devices_of_a_new_broker_says_so(fragile_cluster: LocalCluster, owner: User) -> None:
    fragile_cluster.kill_device(6)
    wait_lost(fragile_cluster, 6)
    fragile_cluster.kill_broker()
    fragile_cluster.start_broker()  # which waits for the sixth device, for ten seconds
    commands = [("retire", "no-such-device"), ("rebalance",), ("undelete", "--list"), ("status", "--check")]
    with ExitStack() as stack:
        for asked in [stack.enter_context(at_terminal(owner, "admin", *command)) for command in commands]:
            asked.wait_for("the broker has just started: waiting for its devices …".encode())
