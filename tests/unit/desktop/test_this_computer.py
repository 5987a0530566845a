"""What this computer does beside the window, as a user sets it up; in place of the programs, what is asked is noted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from admin.joining import Admission
from common.errors import NoRoomError, RefusedError, TesseraError, UnreachableError, UsageError
from common.protocol.operations import Role
from desktop.background import Background
from desktop.model import this_computer
from desktop.model.operator import Invited, Operator
from desktop.model.service import Program, Service, ServiceStatus, State
from desktop.model.this_computer import Device, ThisComputerModel
from desktop.services import Services
from desktop.session import Session
from tests.support.desktop_models import deliver_until

INVITE = "tessera-worker-secret"
BROKER = Service(Program.BROKER)


class Noted(Services):
    """Starts nothing: keeps what it is asked."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.asked: list[tuple[str, Service, Mapping[str, str]]] = []
        self.fault: Optional[TesseraError] = None

    def set_up(self, service: Service, once: Mapping[str, str]) -> None:
        if self.fault is not None:
            raise self.fault
        self.asked.append(("set up", service, once))

    def ensure(self, service: Service) -> None:
        self.asked.append(("ensure", service, {}))

    def give_up(self, program: Program) -> None:
        self.asked.append(("give up", Service(program), {}))


@pytest.fixture
def noted(session: Session, monkeypatch: pytest.MonkeyPatch) -> Noted:
    session.services = Noted(session.home)
    monkeypatch.setattr(Operator, "invite", lambda _, role: Invited(f"tessera-{role}-made-here", ""))
    return session.services


def run(model: ThisComputerModel) -> None:
    deliver_until(model.background, lambda: not model.doing)


def fault_of(model: ThisComputerModel) -> Optional[TesseraError]:
    return model.error


def test_a_device_is_started_with_the_invite_that_was_given_which_is_shown_nowhere(
    session: Session, background: Background, noted: Noted, tmp_path: Path
) -> None:
    model = ThisComputerModel(session, background)
    model.become_device(Device(str(tmp_path / "store"), "1M", laptop=True, invite=f" {INVITE}\n"))
    assert model.unfinished
    run(model)
    service = Service(Program.WORKER, str(tmp_path / "store"), "1M", laptop=True)
    assert noted.asked == [("set up", service, {"TESSERA_JOIN": INVITE, "TESSERA_NAME": model.machine})]
    assert (model.error, model.done, model.unfinished) == (None, 1, "")
    assert INVITE not in model.command + model.told
    assert model.command.endswith("--kind laptop --join INVITE")


@pytest.mark.parametrize(
    ("device", "kind", "said"),
    [
        (Device("store", "1M"), UsageError, "no invite was given"),
        (Device("store", "1M", invite=" \n"), UsageError, "no invite was given"),
        (Device("  ", "1M", invite=INVITE), UsageError, "no folder was given"),
        (Device("store", "much", invite=INVITE), UsageError, "not a size"),
        (Device("store", "9000T", invite=INVITE), NoRoomError, "which is less than 9000T"),
    ],
)
def test_what_is_wrong_with_a_device_is_said_before_anything_is_started(
    session: Session, background: Background, noted: Noted, device: Device, kind: type[TesseraError], said: str
) -> None:
    model = ThisComputerModel(session, background)
    model.become_device(device)
    run(model)
    assert isinstance(model.error, kind)
    assert said in str(model.error)
    assert (noted.asked, model.done) == ([], 0)


def test_where_an_invite_is_refused_the_form_stays_and_another_one_may_be_tried(
    session: Session, background: Background, noted: Noted, tmp_path: Path
) -> None:
    model = ThisComputerModel(session, background)
    noted.fault = RefusedError("the broker does not accept this invite")
    model.become_device(Device(str(tmp_path / "store"), "", invite=INVITE))
    run(model)
    assert isinstance(fault_of(model), RefusedError)
    assert model.done == 0
    noted.fault = None
    model.become_device(Device(str(tmp_path / "store"), "", invite=INVITE))
    run(model)
    assert (fault_of(model), model.done) == (None, 1)


def test_a_folder_that_was_a_device_before_needs_no_invite(
    session: Session, background: Background, noted: Noted, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "brokers.json").touch()
    model = ThisComputerModel(session, background)
    model.become_device(Device(str(tmp_path / "store"), ""))
    run(model)
    assert noted.asked == [("set up", Service(Program.WORKER, str(tmp_path / "store")), {})]


def test_the_broker_lets_this_app_in_as_its_admin_and_this_computer_as_a_device(
    session: Session, background: Background, noted: Noted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (session.home / "broker").mkdir()
    (session.home / "broker" / "broker.key").touch()  # as the broker would have made
    joined: list[tuple[str, str]] = []

    def join(_: Path, invite: str, name: str) -> Admission:
        assert [what for what, _, _ in noted.asked] == ["ensure"], "the broker comes first"
        joined.append((invite, name))
        return Admission("192.0.2.1", name, Role.ADMIN)

    monkeypatch.setattr(this_computer, "join_cluster", join)
    admitted: list[Admission] = []
    model = ThisComputerModel(session, background, admitted.append)
    model.become_broker(" desk ", Device(str(tmp_path / "store"), ""))
    deliver_until(background, lambda: model.done == 2)
    assert joined == [("tessera-admin-made-here", "desk")]
    assert admitted == [Admission("192.0.2.1", "desk", Role.ADMIN)]
    once = {"TESSERA_JOIN": "tessera-worker-made-here", "TESSERA_NAME": model.machine}
    assert noted.asked == [("ensure", BROKER, {}), ("set up", Service(Program.WORKER, str(tmp_path / "store")), once)]


def test_a_device_that_could_not_be_lets_no_broker_begin(
    session: Session, background: Background, noted: Noted, tmp_path: Path
) -> None:
    model = ThisComputerModel(session, background)
    model.become_broker("desk", Device(str(tmp_path), "9000T"))
    run(model)
    assert isinstance(model.error, NoRoomError)
    assert noted.asked == []


def test_a_broker_that_this_app_cannot_join_is_named_and_tried_again(
    session: Session, background: Background, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def join(*_: object) -> Admission:
        raise UnreachableError("no answer from the broker")

    monkeypatch.setattr(this_computer, "join_cluster", join)
    model = ThisComputerModel(session, background, lambda _: pytest.fail("nobody was let in"))
    for _ in range(2):
        model.become_broker("desk")
        run(model)
        assert isinstance(model.error, UnreachableError)


def test_one_more_broker_needs_its_invite(session: Session, background: Background, noted: Noted) -> None:
    model = ThisComputerModel(session, background)
    model.become_other_broker("  ")
    run(model)
    assert isinstance(model.error, UsageError)
    assert "invite broker" in str(model.error.advice)
    model.become_other_broker("tessera-broker-secret")
    run(model)
    assert noted.asked == [("set up", BROKER, {"TESSERA_JOIN": "tessera-broker-secret"})]


def test_before_a_device_is_stopped_it_is_said_what_becomes_of_its_shares(
    session: Session, background: Background, noted: Noted
) -> None:
    model = ThisComputerModel(session, background)
    model._take({Program.WORKER: ServiceStatus(State.RUNNING, Service(Program.WORKER, "/data"))})
    question = model.stopping(Program.WORKER)
    assert "retire it first" in question.text
    assert noted.asked == []
    assert question.act is not None
    question.act()
    run(model)
    assert noted.asked == [("give up", Service(Program.WORKER), {})]
