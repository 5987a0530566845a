"""The broker's commands act on a broker that there is: in its account, with its folder, as it is served."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from broker.command import commands
from broker.inviting import named
from broker.listening import Listening, save
from broker.members import Address, MemberList
from common.discovery.addresses import BrokerAddress
from common.discovery.announcement import host_of
from common.errors import UsageError
from common.files import is_locked, lock
from common.membership.identity import KeyPair, save_key_pair
from common.membership.invite import decode_invite
from common.process.program import exit_code

PAIR = KeyPair.from_secret(bytes(range(32)))
ELSEWHERE = "192.0.2.77"  # RFC 5737
COMMANDS = [
    ["invite", "worker"],
    ["members"],
    ["invites"],
    ["invites", "withdraw", "55d3f2de"],
    ["revoke", "nas"],
    ["rename", "nas", "attic"],
]
every_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
needs_root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which no broker ran yet."""
    for name in [name for name in os.environ if name.startswith("TESSERA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TESSERA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder(home: Path) -> Path:
    """Of a broker that ran at an address of its own, and does not now."""
    save_key_pair(home / "broker" / "broker.key", PAIR)
    save(home / "broker", Listening(ELSEWHERE, 6000, 6001, announced=True))
    return home / "broker"


def run(*command: str) -> int:
    return exit_code(commands, "broker", list(command), debug=False)


def line_of(capsys: pytest.CaptureFixture[str]) -> BrokerAddress:
    """The only broker that the invite names which was printed last."""
    (broker,) = decode_invite(capsys.readouterr().out).brokers
    return broker


@every_command
def test_where_no_broker_ever_ran_every_command_refuses_and_says_where_to_run_it(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(*command) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"no broker ever ran with the folder {home / 'broker'}" in err
    if sys.platform != "win32":
        assert "sudo -u tessera env TESSERA_HOME=/var/lib/tessera" in err
    assert " ".join(command) in err
    assert not (home / "broker").exists(), "no broker was made up"


@needs_root
@every_command
def test_in_another_account_every_command_refuses_and_names_the_brokers(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    os.chown(folder / "broker.key", 12345, -1)
    before = sorted(path.name for path in folder.iterdir())
    assert run(*command) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert "is run by the account #12345" in err
    assert f"sudo -u '#12345' env TESSERA_HOME={folder.parent} " in err
    assert " ".join(command) in err
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing that the broker could not read was left"


@pytest.mark.parametrize("command", COMMANDS[:3], ids=" ".join)
def test_where_no_broker_runs_now_it_is_said_and_done(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(*command) == 0
    assert f"warning: no broker runs with {folder} now" in capsys.readouterr().err
    with lock(folder / "broker.lock"):
        assert run(*command) == 0
        assert "warning" not in capsys.readouterr().err


def test_a_look_whether_a_broker_runs_does_not_keep_one_from_starting(folder: Path) -> None:
    path = folder / "broker.lock"
    assert not is_locked(path), "there is none yet"
    with lock(path):
        assert is_locked(path)
    assert not is_locked(path)
    with lock(path):
        pass


def test_an_invite_is_to_the_broker_as_it_is_served(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("invite", "worker") == 0
    assert line_of(capsys) == BrokerAddress(ELSEWHERE, 6000, 6001, PAIR.public)
    save(folder, Listening(ELSEWHERE, 6000, 6001, address="broker.lan"))
    assert run("invite", "worker") == 0
    assert line_of(capsys) == BrokerAddress("broker.lan", 6000, 6001, PAIR.public)
    assert run("invite", "worker", "--address", "[FD00::5]") == 0
    assert line_of(capsys) == BrokerAddress("fd00::5", 6000, 6001, PAIR.public)


def test_ports_that_are_not_those_of_the_broker_are_named_and_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may be those of a router that passes them on."""
    with lock(folder / "broker.lock"):
        assert run("--client-port", "5570", "--worker-port", "5571", "invite", "client") == 0
    out, err = capsys.readouterr()
    assert [b.client_port for b in decode_invite(out).brokers] == [5570]
    assert "warning: the invite names the ports 5570 and 5571, and the broker listens at 6000 and 6001" in err


@pytest.mark.parametrize(
    ("served", "options"),
    [
        (Listening(ELSEWHERE, 6000, 6001, announced=False), []),
        (Listening(ELSEWHERE, 6000, 6001, announced=True), ["--no-announce"]),
        (Listening("127.0.0.1", 6000, 6001), []),
    ],
)
def test_a_code_is_printed_only_where_the_broker_announces_itself(
    folder: Path, capsys: pytest.CaptureFixture[str], served: Listening, options: list[str]
) -> None:
    assert run("invite", "client") == 0
    assert "as a code" in capsys.readouterr().err
    save(folder, served)
    assert run(*options, "invite", "client") == 0
    assert "as a code" not in capsys.readouterr().err


def test_a_host_that_is_none_is_refused_before_an_invite_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invite", "worker", "--address", "broker.lan:6000") == 2
    assert "has a port behind it" in capsys.readouterr().err
    assert run("invites") == 0
    assert capsys.readouterr().out == ""


# --- which addresses an invite names


def members(*others: Address) -> MemberList:
    known = MemberList([])
    for number, address in enumerate(others):
        known.enter_broker(bytes([number]) * 32, f"broker-{number}", address, 0)
    return known


def hosts(served: Listening, known: MemberList) -> list[str]:
    return [broker.host for broker in named(served, PAIR.public, known)]


def test_an_invite_names_every_address_of_its_broker_then_the_other_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [f"10.0.{number}.7" for number in range(6)]
    monkeypatch.setattr("broker.listening.own_addresses", lambda: here)
    served, other = Listening("*", 5570, 5571, announced=True), Address("10.9.9.9", 1, 2)
    assert hosts(served, members()) == here[:4]
    assert hosts(served, members(other)) == [*here[:3], "10.9.9.9"]
    assert hosts(served, members(*[other] * 6))[:2] == [here[0], "10.9.9.9"]


def test_without_a_network_it_names_what_can_be_looked_up_and_warns_or_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("broker.listening.own_addresses", list)
    assert hosts(Listening("*", 5570, 5571, announced=True), members()) == [host_of(PAIR.public)]
    assert "this machine has no network address now" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no network address now"):
        hosts(Listening("*", 5570, 5571, announced=False), members())
