"""Members: an invite lets in one key, once, within the hour; and what one process changes, the others take up."""

from __future__ import annotations

import errno
import stat
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Callable, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.members import INVITE_LIFETIME, Address, Member, MemberList, MembersFile
from broker.rights import Standing
from common.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from common.membership.identity import KeyPair
from common.protocol.messages import DeviceKind
from common.protocol.operations import Role

NOW = 1_800_000_000
ONE_TIME, OTHER_ONE_TIME = b"1" * 32, b"2" * 32
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
LAST_SECOND = NOW + INVITE_LIFETIME - 1
OVER = NOW + INVITE_LIFETIME
HERE, THERE = Address("here.lan", 5570, 5571), Address("there.lan", 5570, 5571)


def invited(role: Role = Role.WORKER) -> MemberList:
    members = MemberList([])
    members.invite(ONE_TIME, role, NOW)
    return members


def standing(members: MemberList, key: bytes, now: int = NOW) -> Optional[Standing]:
    member = members.find(key, now)
    return None if member is None else member.standing


# --- names


def test_a_renamed_member_keeps_its_place_and_every_other_list_takes_the_name_up() -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    former = members.all()
    renamed = members.rename("nas", "attic")
    assert (renamed.name, standing(members, KEY)) == ("attic", Standing.WORKER)
    elsewhere = MemberList(former)
    elsewhere.merge(members.all(), NOW)
    assert elsewhere.find(KEY, NOW) == renamed
    members.merge(former, NOW)
    assert members.find(KEY, NOW) == renamed


@pytest.mark.parametrize("wished", ["", "x" * 65, "two\nlines", "desk"])
def test_a_name_that_is_none_or_that_another_has_is_refused(wished: str) -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    members.invite(OTHER_ONE_TIME, Role.WORKER, NOW)
    members.admit(OTHER_ONE_TIME, OTHER_KEY, "desk", NOW)
    with pytest.raises(UsageError):
        members.rename("nas", wished)
    assert members.rename("nas", "nas").revision == 1


def test_nobody_is_renamed_who_is_no_member() -> None:
    members = invited()
    with pytest.raises(NotFoundError):
        members.rename("nas", "attic")


# --- invites


@pytest.mark.parametrize(
    ("role", "invited_as", "admitted_as"),
    [
        (Role.WORKER, Standing.INVITED_WORKER, Standing.WORKER),
        (Role.CLIENT, Standing.INVITED_CLIENT, Standing.CLIENT),
        (Role.ADMIN, Standing.INVITED_ADMIN, Standing.ADMIN),
        (Role.BROKER, Standing.INVITED_BROKER, Standing.BROKER),
    ],
)
def test_an_invite_lets_a_key_in_as_what_it_says(role: Role, invited_as: Standing, admitted_as: Standing) -> None:
    members = invited(role)
    assert standing(members, ONE_TIME) is invited_as
    assert standing(members, KEY) is None
    address = HERE if role is Role.BROKER else None
    admitted = members.admit(ONE_TIME, KEY, "nas", NOW, address)
    assert admitted == Member(KEY.hex(), admitted_as, "nas", NOW, address=address)
    assert standing(members, KEY) is admitted_as


def test_the_same_invite_and_key_again_get_the_same_answer() -> None:
    members = invited()
    first = members.admit(ONE_TIME, KEY, "nas", NOW)
    assert members.admit(ONE_TIME, KEY, "another name", LAST_SECOND) == first
    assert members.workers() == [first]


def test_a_used_invite_lets_no_other_key_in() -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    with pytest.raises(RefusedError, match="has been used"):
        members.admit(ONE_TIME, OTHER_KEY, "nas", NOW)
    assert standing(members, OTHER_KEY) is None


def test_a_used_invite_tells_nothing_of_a_member_that_it_did_not_let_in() -> None:
    members = invited()
    members.invite(OTHER_ONE_TIME, Role.CLIENT, NOW)
    members.admit(ONE_TIME, KEY, "nas", NOW)
    members.admit(OTHER_ONE_TIME, OTHER_KEY, "laptop", NOW)
    with pytest.raises(RefusedError, match="has been used"):
        members.admit(ONE_TIME, OTHER_KEY, "nas", NOW)


def test_an_invite_is_good_for_an_hour_and_then_over() -> None:
    assert invited().admit(ONE_TIME, KEY, "nas", LAST_SECOND).name == "nas"
    members = invited()
    assert standing(members, ONE_TIME, OVER) is None
    with pytest.raises(RefusedError, match="over"):
        members.admit(ONE_TIME, KEY, "nas", OVER)
    assert standing(members, KEY, OVER) is None


def test_a_member_stays_when_its_invite_is_over() -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    assert standing(members, KEY, OVER * 2) is Standing.WORKER


def test_a_new_invite_drops_old_ones_and_members_and_valid_invites_stay() -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    members.invite(OTHER_ONE_TIME, Role.CLIENT, LAST_SECOND)
    assert len(members.all()) == 3
    members.invite(b"3" * 32, Role.CLIENT, OVER)
    assert [member.public_key for member in members.all()] == [KEY.hex(), OTHER_ONE_TIME.hex(), (b"3" * 32).hex()]


def test_a_key_that_nobody_invited_is_let_in_by_nothing() -> None:
    members = invited()
    with pytest.raises(RefusedError, match="over"):
        members.admit(OTHER_ONE_TIME, KEY, "nas", NOW)


def test_a_members_own_key_is_no_invite() -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    with pytest.raises(RefusedError, match="over"):
        members.admit(KEY, OTHER_KEY, "nas", NOW)


def test_a_member_cannot_take_another_place_with_a_second_invite() -> None:
    members = invited(Role.WORKER)
    members.admit(ONE_TIME, KEY, "nas", NOW)
    members.invite(OTHER_ONE_TIME, Role.CLIENT, NOW)
    with pytest.raises(RefusedError, match="member already"):
        members.admit(OTHER_ONE_TIME, KEY, "laptop", NOW)
    assert standing(members, KEY) is Standing.WORKER


@given(st.lists(st.sampled_from(["nas", "nas-2", "pi", "写真"]), max_size=8))
def test_no_two_members_have_one_name_and_who_comes_first_keeps_the_plain_one(wishes: list[str]) -> None:
    members = MemberList([])
    names = []
    for number, wish in enumerate(wishes):
        members.invite(bytes([1, number]) * 16, Role.WORKER, NOW)
        names.append(members.admit(bytes([1, number]) * 16, bytes([2, number]) * 16, wish, NOW).name)
    assert len(set(names)) == len(wishes)
    assert all(name == wish or name.startswith(f"{wish}-") for name, wish in zip(names, wishes))
    assert names[:1] == wishes[:1]


def test_workers_are_those_admitted_as_workers() -> None:
    members = invited()
    members.invite(OTHER_ONE_TIME, Role.CLIENT, NOW)
    members.admit(OTHER_ONE_TIME, OTHER_KEY, "laptop", NOW)
    assert members.workers() == []
    worker = members.admit(ONE_TIME, KEY, "nas", NOW)
    assert members.workers() == [worker]


# --- revoking


def admitted(role: Role = Role.WORKER, name: str = "nas") -> MemberList:
    members = invited(role)
    members.admit(ONE_TIME, KEY, name, NOW, HERE if role is Role.BROKER else None)
    return members


def test_whoever_is_revoked_is_nobody_and_the_name_is_free_again() -> None:
    members = admitted()
    assert members.revoke("nas", NOW).standing is Standing.WORKER
    assert standing(members, KEY) is None
    assert members.workers() == []
    assert members.revoked(KEY)
    members.invite(OTHER_ONE_TIME, Role.WORKER, NOW)
    assert members.admit(OTHER_ONE_TIME, OTHER_KEY, "nas", NOW).name == "nas"


def test_the_invite_that_let_a_revoked_member_in_does_not_do_so_again() -> None:
    members = admitted()
    members.revoke("nas", NOW)
    with pytest.raises(RefusedError, match="has been used"):
        members.admit(ONE_TIME, KEY, "nas", NOW)


def test_a_new_invite_lets_a_revoked_member_in_again() -> None:
    members = admitted()
    members.revoke("nas", NOW)
    members.invite(OTHER_ONE_TIME, Role.WORKER, NOW)
    members.admit(OTHER_ONE_TIME, KEY, "nas", NOW)
    assert standing(members, KEY) is Standing.WORKER
    assert not members.revoked(KEY)


def test_who_is_not_there_or_not_admitted_cannot_be_revoked() -> None:
    members = admitted()
    members.invite(OTHER_ONE_TIME, Role.CLIENT, NOW)
    for name in ("", "nobody", OTHER_ONE_TIME.hex(), KEY.hex()[:7]):
        with pytest.raises(NotFoundError):
            members.revoke(name, NOW)
    members.revoke("nas", NOW)
    with pytest.raises(NotFoundError):
        members.revoke("nas", NOW)


def test_of_two_with_one_name_the_key_says_which_is_revoked() -> None:
    """Two brokers may each admit one under the same name before their lists meet."""
    members = MemberList([Member(key.hex(), Standing.WORKER, "nas", NOW) for key in (KEY, OTHER_KEY)])
    with pytest.raises(UsageError, match="2 members are called nas") as refusal:
        members.revoke("nas", NOW)
    assert "beginning of its key" in (refusal.value.advice or "")
    members.revoke(KEY.hex()[:16], NOW)
    assert (standing(members, KEY), standing(members, OTHER_KEY)) == (None, Standing.WORKER)


# --- brokers on the list


def test_a_broker_enters_itself_and_its_new_address_when_it_moved() -> None:
    members = MemberList([])
    members.enter_broker(KEY, "broker-a", HERE, NOW)
    members.enter_broker(KEY, "another name", HERE, NOW + 1)
    assert members.all() == [Member(KEY.hex(), Standing.BROKER, "broker-a", NOW, address=HERE)]
    members.enter_broker(KEY, "broker-a", THERE, NOW)
    assert members.brokers() == {KEY: THERE}


def test_a_broker_that_was_revoked_does_not_enter_itself_again() -> None:
    members = admitted(Role.BROKER)
    members.revoke("nas", NOW)
    with pytest.raises(RefusedError, match="revoked"):
        members.enter_broker(KEY, "nas", HERE, NOW)
    assert members.brokers() == {}


def test_what_an_invite_says_of_a_broker_holds_until_a_list_tells_more() -> None:
    members = MemberList([])
    members.presume_broker(KEY, "broker-here.lan", HERE, NOW + 5)
    assert members.brokers() == {KEY: HERE}
    members.merge(admitted(Role.BROKER).all(), NOW)
    assert members.find(KEY, NOW) == Member(KEY.hex(), Standing.BROKER, "nas", NOW, address=HERE)
    members.presume_broker(KEY, "broker-there.lan", THERE, NOW)
    assert members.brokers() == {KEY: HERE}, "it is known already"


# --- admins


def test_a_client_becomes_an_admin_and_a_client_again_with_its_key_and_its_name() -> None:
    members = admitted(Role.CLIENT)
    assert members.promote("nas").standing is Standing.ADMIN
    assert standing(members, KEY) is Standing.ADMIN
    assert members.promote("nas").standing is Standing.ADMIN, "it is one already"
    assert members.demote(KEY.hex()[:16]).standing is Standing.CLIENT
    assert (standing(members, KEY), members.all()[-1].name) == (Standing.CLIENT, "nas")


def test_no_device_becomes_an_admin() -> None:
    with pytest.raises(UsageError, match="only a client can be an admin"):
        admitted(Role.WORKER).promote("nas")


def test_a_demotion_holds_against_changes_elsewhere_and_a_revocation_against_it() -> None:
    here = admitted(Role.ADMIN)
    there, third = MemberList(here.all()), MemberList(here.all())
    here.demote("nas")
    for name in ("one", "two", "three"):
        there.rename(KEY.hex()[:16], name)
    there.merge(here.all(), NOW)
    assert standing(there, KEY) is Standing.CLIENT
    there.promote(KEY.hex()[:16])
    third.revoke("nas", NOW)
    there.merge(third.all(), NOW)
    assert standing(there, KEY) is None


# --- two lists become one

moments = st.integers(NOW, NOW + 3)
some_keys = st.sampled_from([KEY, OTHER_KEY]).map(bytes.hex)
records = st.builds(
    Member,
    some_keys,
    st.sampled_from(Standing),
    st.sampled_from(["nas", "pi"]),
    moments,
    st.none() | st.integers(NOW - 1, NOW + 2),
    st.none() | some_keys,
    st.none() | st.sampled_from([HERE, THERE]),
    st.integers(0, 3),
)
lists = st.lists(records, max_size=5)


def merged(*parts: list[Member]) -> list[Member]:
    members = MemberList([])
    for part in parts:
        members.merge(part, NOW)
    return sorted(members.all(), key=lambda member: member.public_key)


@pytest.mark.one_python
@given(lists, lists, lists)
def test_in_whatever_order_lists_are_merged_the_result_is_one(
    a: list[Member], b: list[Member], c: list[Member]
) -> None:
    assert merged(a, b, c) == merged(c, b, a) == merged(b, a, c)
    assert merged(a, merged(b, c)) == merged(merged(a, b), c)
    assert merged(a, b, a, b) == merged(a, b)


@given(lists)
def test_what_is_over_is_not_brought_back(a: list[Member]) -> None:
    assert all(member.expires is None or member.expires > NOW for member in merged(a))


actions = st.lists(st.sampled_from(["move", "invite", "merge"]), max_size=6)


@given(actions, actions)
def test_no_older_list_brings_a_revoked_member_back(before: list[str], meanwhile: list[str]) -> None:
    """Whatever else happened to the member before, and at another broker that had not heard of it yet."""
    here = admitted(Role.BROKER)
    change(here, before)
    there = MemberList(here.all())
    change(there, meanwhile)
    here.revoke("nas", NOW)
    for first, second in ((here, there), (there, here)):
        first.merge(second.all(), NOW)
        assert first.revoked(KEY)
        assert standing(first, KEY) is None


def change(members: MemberList, actions: list[str]) -> None:
    for number, action in enumerate(actions):
        if action == "move":
            members.enter_broker(KEY, "nas", Address("elsewhere", 1 + number, 1), NOW)
        elif action == "invite":
            members.invite(bytes([number]) * 32, Role.WORKER, NOW)
        else:
            members.merge(admitted(Role.BROKER).all(), NOW)


def test_a_new_invite_after_the_revocation_holds_against_it() -> None:
    here = admitted()
    here.revoke("nas", NOW)
    there = MemberList(here.all())
    there.invite(OTHER_ONE_TIME, Role.WORKER, NOW)
    there.admit(OTHER_ONE_TIME, KEY, "nas", NOW)
    here.merge(there.all(), NOW)
    assert standing(here, KEY) is Standing.WORKER


def test_a_used_invite_stays_used_when_a_list_from_before_comes() -> None:
    before = invited().all()
    members = admitted()
    members.merge(before, NOW)
    with pytest.raises(RefusedError, match="has been used"):
        members.admit(ONE_TIME, OTHER_KEY, "pi", NOW)


def test_a_revocation_is_forgotten_after_a_year_and_a_new_admission_then_holds() -> None:
    members, year = admitted(), 365 * 24 * 3600
    members.revoke("nas", NOW)
    old = members.all()
    anew = MemberList([])
    anew.invite(OTHER_ONE_TIME, Role.WORKER, NOW + year)
    anew.admit(OTHER_ONE_TIME, KEY, "nas", NOW + year)
    anew.merge(old, NOW + year)
    assert standing(anew, KEY, NOW + year) is Standing.WORKER
    members.merge(anew.all(), NOW + year)
    assert standing(members, KEY, NOW + year) is Standing.WORKER


def test_every_change_of_a_member_raises_its_revision() -> None:
    members = invited(Role.BROKER)
    changes: list[Callable[[], object]] = [
        lambda: members.admit(ONE_TIME, KEY, "nas", NOW, HERE),
        lambda: members.enter_broker(KEY, "nas", THERE, NOW),
        lambda: members.revoke("nas", NOW),
        lambda: members.invite(OTHER_ONE_TIME, Role.WORKER, NOW),
        lambda: members.admit(OTHER_ONE_TIME, KEY, "nas", NOW),
    ]
    for change in changes:
        former = {member.public_key: member for member in members.all()}
        change()
        changed = [member for member in members.all() if former.get(member.public_key) != member]
        assert changed
        assert all(m.revision > former[m.public_key].revision for m in changed if m.public_key in former)


# --- the file


def test_a_new_broker_has_no_members(tmp_path: Path) -> None:
    assert MembersFile(tmp_path).members.all() == []


def test_what_was_changed_is_there_after_a_restart(tmp_path: Path) -> None:
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    admitted = file.change(lambda members: members.admit(ONE_TIME, KEY, "写真 nas", NOW))
    again = MembersFile(tmp_path).members
    assert again.all() == file.members.all()
    assert again.find(KEY, NOW) == admitted
    assert again.admit(ONE_TIME, KEY, "x", NOW) == admitted


def test_a_running_broker_takes_up_what_another_process_wrote(tmp_path: Path) -> None:
    broker, command = MembersFile(tmp_path), MembersFile(tmp_path)
    command.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    broker.refresh()
    assert standing(broker.members, ONE_TIME) is Standing.INVITED_WORKER
    broker.change(lambda members: members.admit(ONE_TIME, KEY, "nas", NOW))
    command.change(lambda members: members.invite(OTHER_ONE_TIME, Role.CLIENT, NOW))
    broker.refresh()
    assert standing(broker.members, KEY) is Standing.WORKER
    assert standing(broker.members, OTHER_ONE_TIME) is Standing.INVITED_CLIENT


def test_where_nothing_changed_nothing_is_read_again(tmp_path: Path) -> None:
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    before = file.members
    file.refresh()
    assert file.members is before


def test_where_a_change_changes_nothing_nothing_is_written(tmp_path: Path) -> None:
    """Else two brokers would send each other their lists for ever."""
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    before = file.members
    stamp = (tmp_path / "members.json").stat()
    file.change(lambda members: members.merge(before.all(), NOW))
    assert (tmp_path / "members.json").stat() == stamp
    assert file.members is before


def test_a_change_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    before = (tmp_path / "members.json").read_bytes()

    def change_and_fail(members: MemberList) -> None:
        members.admit(ONE_TIME, KEY, "nas", NOW)
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        file.change(change_and_fail)
    assert (tmp_path / "members.json").read_bytes() == before
    assert standing(file.members, KEY) is None


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    def invite_ten(first: int) -> None:
        file = MembersFile(tmp_path)
        for number in range(first, first + 10):
            key = bytes([number]) * 32
            file.change(partial(MemberList.invite, one_time_key=key, role=Role.WORKER, now=NOW))

    threads = [threading.Thread(target=invite_ten, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(MembersFile(tmp_path).members.all()) == 30


def test_the_file_is_private_and_holds_no_usable_invite(tmp_path: Path) -> None:
    one_time = KeyPair.generate()
    MembersFile(tmp_path).change(lambda members: members.invite(one_time.public, Role.WORKER, NOW))
    path = tmp_path / "members.json"
    assert one_time.public.hex() in path.read_text()
    assert one_time.secret.hex() not in path.read_text()
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"members": [5]}',
        '{"members": [{"public_key": "12", "standing": "worker", "name": "", "added": 0}]}',
        '{"members": [{"public_key": "' + "1" * 64 + '", "standing": "king", "name": "", "added": 0}]}',
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_nobody_is_a_member(tmp_path: Path, content: str) -> None:
    (tmp_path / "members.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"members\.json is damaged"):
        MembersFile(tmp_path)


def test_where_the_file_vanishes_nobody_stops_being_a_member(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    file.change(lambda members: members.admit(ONE_TIME, KEY, "nas", NOW))
    (tmp_path / "members.json").unlink()
    file.refresh()
    assert [member.name for member in file.members.workers()] == ["nas"]
    assert "members.json is gone; the list as it was read before holds" in caplog.text
    with pytest.raises(IntegrityError, match=r"members\.json is gone"):
        file.change(lambda members: members.invite(ONE_TIME, Role.CLIENT, NOW))


# --- retiring


def test_a_device_that_is_to_retire_is_marked_in_the_file_until_it_is_to_stay(tmp_path: Path) -> None:
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    member = file.change(lambda members: members.admit(ONE_TIME, KEY, "nas", NOW))
    file.change(lambda members: members.retire(member.public_key))
    (there,) = MembersFile(tmp_path).members.workers()
    assert there.retiring
    file.change(lambda members: members.retire(member.public_key, cancel=True))
    (there,) = MembersFile(tmp_path).members.workers()
    assert not there.retiring


def test_what_a_device_is_stays_in_the_file_newer_than_what_another_broker_has(tmp_path: Path) -> None:
    file = MembersFile(tmp_path)
    file.change(lambda members: members.invite(ONE_TIME, Role.WORKER, NOW))
    member = file.change(lambda members: members.admit(ONE_TIME, KEY, "nas", NOW))
    before = file.members.all()
    file.change(lambda members: members.set_kind(member.public_key, DeviceKind.LAPTOP))
    kept = MembersFile(tmp_path).members
    kept.merge(before, NOW)
    (there,) = kept.workers()
    assert there.kind is DeviceKind.LAPTOP


def test_only_a_device_can_retire() -> None:
    members = invited(Role.CLIENT)
    members.admit(ONE_TIME, KEY, "laptop", NOW)
    for key in (KEY, OTHER_KEY):
        with pytest.raises(NotFoundError, match="no device"):
            members.retire(key.hex())


# --- open invites, and those taken back


def test_the_invites_that_can_still_be_used_are_listed() -> None:
    members = invited()
    members.invite(OTHER_ONE_TIME, Role.ADMIN, NOW)
    assert [member.standing for member in members.open_invites(NOW)] == [
        Standing.INVITED_WORKER,
        Standing.INVITED_ADMIN,
    ]
    members.admit(ONE_TIME, KEY, "nas", NOW)
    assert [member.public_key for member in members.open_invites(NOW)] == [OTHER_ONE_TIME.hex()]
    assert members.open_invites(OVER) == []


def test_an_invite_that_was_withdrawn_lets_nobody_in() -> None:
    members = invited()
    assert members.withdraw(ONE_TIME.hex()[:16], NOW).standing is Standing.INVITED_WORKER
    assert members.find(ONE_TIME, NOW) is None
    assert members.open_invites(NOW) == []
    with pytest.raises(RefusedError, match="is over"):
        members.admit(ONE_TIME, KEY, "nas", NOW)


def test_another_brokers_older_list_does_not_bring_a_withdrawn_invite_back() -> None:
    members = invited()
    older = members.all()
    members.withdraw(ONE_TIME.hex(), NOW)
    members.merge(older, NOW)
    assert members.find(ONE_TIME, NOW) is None
    other = MemberList(older)
    other.merge(members.all(), NOW)
    assert other.find(ONE_TIME, NOW) is None


def test_only_an_open_invite_can_be_withdrawn_and_only_where_it_is_clear_which() -> None:
    members = invited()
    members.admit(ONE_TIME, KEY, "nas", NOW)
    for key in (ONE_TIME, KEY, OTHER_KEY):
        with pytest.raises(NotFoundError):
            members.withdraw(key.hex(), NOW)
    members.invite(b"3" * 16 + b"a" * 16, Role.CLIENT, NOW)
    members.invite(b"3" * 16 + b"b" * 16, Role.CLIENT, NOW)
    with pytest.raises(UsageError, match="2 invites"):
        members.withdraw((b"3" * 16).hex(), NOW)
    with pytest.raises(UsageError, match="at least 8"):
        members.withdraw("33", NOW)


def test_a_list_that_cannot_be_opened_just_now_is_read_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = MembersFile(tmp_path), MembersFile(tmp_path)
    other.change(lambda members: members.invite(KEY, Role.CLIENT, NOW))

    def no_descriptor(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("broker.members.read_limited", no_descriptor)
        file.refresh()
        assert file.members.find(KEY, NOW) is None, "as before"
    file.refresh()
    assert file.members.find(KEY, NOW) is not None
