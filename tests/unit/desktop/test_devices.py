"""The devices' model: how each is in words, and what is asked and said before something is done about one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from admin.status import Status
from common.errors import NotFoundError, RefusedError, UnreachableError, UsageError
from common.membership.short_invite import ShortInvite
from common.protocol.messages import GRANTED, Device, Health
from common.protocol.operations import Role
from desktop.background import Background
from desktop.model import operator
from desktop.model.devices import DevicesModel, device_row, former
from desktop.model.entries import Tone
from desktop.model.operator import ROLES, MachineRow, Member, Operator, machine_rows
from desktop.session import Session
from tests.support.desktop_models import deliver_until, make_broker_folder

GB = 10**9
ATTIC = Device(b"a" * 16, "attic", True, 2 * GB, 8 * GB, 1200)
AWAY = Device(b"b" * 16, "desk", False, 0, 0, 0, 7300)


@pytest.mark.parametrize(
    ("device", "state", "tone"),
    [
        (ATTIC, "well", Tone.GOOD),
        (AWAY, "away", Tone.ALARM),
        (Device(b"a" * 16, "full", True, 99 * GB, 1 * GB, 5), "nearly full", Tone.NOTICE),
        (Device(b"a" * 16, "old", True, GB, GB, 5, 0, True, 1), "retiring, 1 share left", Tone.NOTICE),
        (Device(b"a" * 16, "old", True, GB, GB, 5, 0, True, 0), "retiring, all is moved", Tone.NOTICE),
    ],
)
def test_a_device_is_described_in_words_and_a_tone(device: Device, state: str, tone: Tone) -> None:
    row = device_row(device)
    assert (row.state, row.tone) == (state, tone)


def test_a_row_says_room_shares_and_when_the_device_was_seen() -> None:
    row = device_row(ATTIC)
    assert (row.shares, row.room, row.last_seen) == ("1,200", "2.0 GB used, 8.0 GB free", "now")
    assert row.fullness == pytest.approx(0.2)
    away = device_row(AWAY)
    assert (away.shares, away.room, away.fullness, away.last_seen) == ("?", "not known", None, "2 h ago")


@pytest.mark.parametrize("device", [ATTIC, AWAY])
def test_a_row_of_another_time_claims_nothing_of_now(device: Device) -> None:
    row = former(device_row(device))
    assert row.tone is Tone.UNKNOWN
    assert row.state.startswith("was ")
    assert row.last_seen != "now"


def test_with_the_broker_away_no_device_is_said_to_be_well(session: Session, background: Background) -> None:
    model = DevicesModel(session, background)
    model._take(Status([ATTIC, AWAY], "broker:5570", Health(GRANTED), []))
    model._following._answered(1_800_000_000)
    assert [row.state for row in model.rows] == ["well", "away"]
    assert model.summary
    model._following._failed(UnreachableError("no answer from the broker"))
    assert [row.state for row in model.rows] == ["was well", "was away"]
    assert "the broker is not reached" in model.title
    assert "alive" not in model.title
    assert model.summary == []


# --- the broker's commands, which are told from a script in place of the broker's


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout" / "broker"
    folder.mkdir(parents=True)
    monkeypatch.setattr(operator, "_CHECKOUT", tmp_path / "checkout")
    return folder / "broker.py"


def test_the_operators_commands_are_there_where_the_brokers_folder_is(tmp_path: Path) -> None:
    assert not Operator(tmp_path).is_here
    make_broker_folder(tmp_path)
    assert Operator(tmp_path).is_here


def test_a_command_runs_with_the_apps_folder_and_gives_what_it_prints(tmp_path: Path, checkout: Path) -> None:
    checkout.write_text("import os, sys\nprint(os.environ['TESSERA_HOME'], *sys.argv[1:])\n")
    assert Operator(tmp_path).rename("attic", "the roof") == f"{tmp_path} rename attic the roof"


def test_a_brokers_command_gets_no_passphrase(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", "four words for keeping")
    checkout.write_text("import os\nprint([name for name in os.environ if name.startswith('TESSERA_P')])\n")
    assert Operator(tmp_path).revoke("attic") == "[]"


@pytest.mark.parametrize(("code", "error"), [(2, UsageError), (3, NotFoundError), (6, RefusedError)])
def test_a_commands_exit_is_the_error_of_its_class_with_its_advice(
    tmp_path: Path, checkout: Path, code: int, error: type[Exception]
) -> None:
    said = "broker: no member is called attic\\n  see who is: members\\n"
    checkout.write_text(f"import sys\nsys.stderr.write('{said}')\nsys.exit({code})\n")
    with pytest.raises(error) as caught:
        Operator(tmp_path).revoke("attic")
    assert str(caught.value) == "no member is called attic"
    assert caught.value.advice == "see who is: members"  # type: ignore[attr-defined]


# --- the model


def test_what_is_asked_says_what_it_means_and_the_command_that_does_the_same(
    session: Session, background: Background
) -> None:
    model = DevicesModel(session, background)
    retire, revoke = model.retiring("attic"), model.revoking("attic")
    assert "comes back only by a new invite" in retire.text
    assert retire.act is not None
    assert "count as lost" in revoke.text
    assert revoke.act is None  # the broker is elsewhere: there is nothing but the command
    assert [question.command for question in (retire, revoke, model.renaming("attic", "the roof"))] == [
        "python admin/admin.py retire attic",
        "python broker/broker.py revoke attic",
        "python broker/broker.py rename attic 'the roof'"
        if sys.platform != "win32"
        else 'python broker/broker.py rename attic "the roof"',
    ]


def test_an_invite_is_shown_in_all_its_forms_where_the_broker_is_here(
    session: Session, background: Background, checkout: Path
) -> None:
    pytest.importorskip("segno")
    model = DevicesModel(session, background)
    model.make_invite("worker")
    assert model.invite is None
    assert "at the broker" in model.told
    make_broker_folder(session.home)
    code = ShortInvite.generate(Role.WORKER, bytes(32)).encode()
    said = f"invites one worker, once:\\nor, typed, as a code:\\n{code}\\n"
    checkout.write_text(f"import sys\nprint('tessera-' + sys.argv[2] + '-abc')\nsys.stderr.write('{said}')\n")
    model.make_invite("worker")
    deliver_until(background, lambda: model.invite or model.error)
    assert model.invite is not None
    assert (model.invite.line, model.invite.code) == ("tessera-worker-abc", code)
    assert len(model.invite.qr) == len(model.invite.qr[0]) >= 21
    assert model.invite.line not in model.command
    model.close_invite()
    assert model.invite is None


def test_an_invite_of_a_machine_that_only_adds_is_made_by_its_option(
    session: Session, background: Background, checkout: Path
) -> None:
    pytest.importorskip("segno")
    model = DevicesModel(session, background)
    model.make_invite("add-only")
    assert model.command == "python broker/broker.py invite client --add-only"
    make_broker_folder(session.home)
    checkout.write_text("import sys\nprint('-'.join(sys.argv[1:]))\n")
    model.make_invite("add-only")
    deliver_until(background, lambda: model.invite or model.error)
    assert model.invite is not None
    assert (model.invite.role, model.invite.line) == ("add-only", "invite-client---add-only")


def test_a_broker_that_does_not_announce_itself_gives_no_code(tmp_path: Path, checkout: Path) -> None:
    checkout.write_text("import sys\nprint('tessera-worker-abc')\nsys.stderr.write('invites one worker, once:\\n')\n")
    assert Operator(tmp_path).invite("worker") == ("tessera-worker-abc", "")


def test_each_of_both_lists_shows_the_command_for_it(session: Session, background: Background) -> None:
    model = DevicesModel(session, background)
    model.make_invite("worker")
    model.turn_to(machines=True)
    assert model.command == "python broker/broker.py members"
    model.turn_to(machines=False)
    assert model.command == "python admin/admin.py status"


def test_what_a_command_refuses_is_shown_and_the_model_goes_on(
    session: Session, background: Background, checkout: Path
) -> None:
    make_broker_folder(session.home)
    checkout.write_text("import sys\nsys.exit('broker: another member is called desk already')\n")
    model = DevicesModel(session, background)
    act = model.renaming("attic", "desk").act
    assert act is not None
    act()
    assert model.doing
    deliver_until(background, lambda: model.error)
    assert (model.doing, str(model.error)) == ("", "another member is called desk already")


def test_the_list_changes_only_with_what_the_broker_says(session: Session, background: Background) -> None:
    model = DevicesModel(session, background)
    changes: list[str] = []
    model.on_change(lambda: changes.append(model.title))
    status = Status([ATTIC, AWAY], "tcp://192.0.2.2:5570", Health(GRANTED, True, 3), [])
    model._take(status)
    model._take(Status([ATTIC, AWAY], "tcp://192.0.2.2:5570", Health(GRANTED, True, 3), []))
    assert changes == ["1 of 2 alive"]
    assert model.summary == [
        "3 objects (images, trees, snapshots) are whole, of all vaults",
        "attic does not hold what is deleted: worker.py --hold",
    ]


# --- the machines that store

MEMBERS = """\
attic\tworker\t2026-11-20 10:00\taaaaaaaaaaaaaaaa
laptop\tclient\t2026-11-21 10:00\tbbbbbbbbbbbbbbbb
desk, in the study\tadmin\t2026-11-22 10:00\tcccccccccccccccc
second\tbroker\t2026-11-23 10:00\tdddddddddddddddd
phone\tadd-only\t2026-11-24 10:00\teeeeeeeeeeeeeeee
"""


def test_machines_are_the_clients_and_admins_of_the_brokers_list_by_name() -> None:
    members = [Member(*line.split("\t")) for line in MEMBERS.splitlines()]
    desk, laptop, phone = machine_rows(members, "b" * 64)
    assert (phone.name, phone.role) == ("phone", ROLES["add-only"])
    assert (desk.name, desk.role, desk.is_this) == ("desk, in the study", ROLES["admin"], False)
    assert (laptop.name, laptop.role, laptop.since, laptop.is_this) == (
        "laptop",
        ROLES["client"],
        "2026-11-21 10:00",
        True,
    )
    assert not any(row.is_this for row in machine_rows(members, ""))


def test_a_machine_is_revoked_by_its_key_behind_a_word_on_what_it_means(
    session: Session, background: Background, checkout: Path
) -> None:
    make_broker_folder(session.home)
    (checkout.parent / "members").write_text(MEMBERS)
    checkout.write_text(
        "import pathlib, sys\n"
        "list_ = pathlib.Path(__file__).with_name('members')\n"
        "text = list_.read_text()\n"
        "if sys.argv[1] == 'revoke':\n"
        "    lines = [line for line in text.splitlines(True) if sys.argv[2] not in line]\n"
        "    list_.write_text(''.join(lines))\n"
        "    text = 'revoked laptop (client)'\n"
        "print(text, end='')\n"
    )
    model = DevicesModel(session, background)
    model.look_at_machines()
    deliver_until(background, lambda: model.machines)
    assert model.machines is not None
    question = model.revoking_machine(model.machines[1])
    assert "stores, sees and brings back nothing any more" in question.text
    assert "vault rotate" in question.text
    assert question.command == "python broker/broker.py revoke bbbbbbbbbbbbbbbb"
    assert question.act is not None
    question.act()
    deliver_until(background, lambda: model.machines is not None and len(model.machines) == 2)
    assert model.told == "revoked laptop (client)"


def test_revoking_the_apps_own_machine_says_so(session: Session, background: Background) -> None:
    model = DevicesModel(session, background)
    question = model.revoking_machine(MachineRow("desk", "c" * 16, ROLES["admin"], "2026-11-22 10:00", True))
    assert "this app" in question.text
    assert question.act is None, "the broker is elsewhere: there is nothing but the command"


def test_elsewhere_than_at_the_broker_there_is_no_list_and_nothing_is_run(
    session: Session, background: Background, checkout: Path
) -> None:
    checkout.write_text("raise SystemExit('broker: it was run')\n")
    model = DevicesModel(session, background)
    model.look_at_machines()
    assert model.machines is None
    assert model.error is None
