"""Invites: read back whole, refused with the least fault, and their secret is never shown."""

from __future__ import annotations

import base64
import copy
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.discovery.addresses import BrokerAddress
from common.errors import UsageError
from common.membership.identity import KeyPair
from common.membership.invite import Invite, decode_invite, same_cluster
from common.protocol.operations import Role

ONE_TIME = KeyPair.from_secret(bytes(range(32)))
BROKER_KEY = bytes(range(100, 132))

hosts = st.text(st.sampled_from(string.ascii_letters + string.digits + ".-:_"), min_size=1, max_size=100)
ports = st.integers(1, 65535)
keys = st.binary(min_size=32, max_size=32)
invites = st.builds(
    Invite,
    st.sampled_from(Role),
    st.lists(st.builds(BrokerAddress, hosts, ports, ports, keys), min_size=1, max_size=4),
    keys.map(KeyPair.from_secret),
)


def invite(host: str = "broker.lan", role: Role = Role.WORKER) -> Invite:
    return Invite(role, [BrokerAddress(host, 5570, 5571, BROKER_KEY)], ONE_TIME)


def assert_refused(text: str) -> None:
    """Refused in words that are always the same, so that nothing of an invite can be in them."""
    with pytest.raises(UsageError) as refusal:
        decode_invite(text)
    assert str(refusal.value) == "this invite is not complete or has a typing error"
    assert refusal.value.advice == "paste the whole line that `broker.py invite` printed"
    assert refusal.value.exit_code == 2
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@given(invites)
def test_an_invite_is_read_back_as_it_was_printed(printed: Invite) -> None:
    assert decode_invite(printed.encode()) == printed


def test_it_names_four_brokers_at_most_the_one_that_made_it_first() -> None:
    brokers = [BrokerAddress(f"broker-{number}.lan", 5570, 5571, bytes([number]) * 32) for number in range(6)]
    assert decode_invite(Invite(Role.CLIENT, brokers, ONE_TIME).encode()).brokers == brokers[:4]


def test_where_names_are_long_it_names_fewer_and_stays_below_a_kibibyte() -> None:
    brokers = [BrokerAddress("h" * 250, 5570, 5571, bytes([number]) * 32) for number in range(4)]
    printed = Invite(Role.WORKER, brokers, ONE_TIME).encode()
    assert len(printed) <= 1024
    assert decode_invite(printed).brokers == brokers[:2]


def test_a_broker_with_an_address_that_fits_in_no_invite_is_told_so() -> None:
    with pytest.raises(UsageError, match="too long"):
        invite("h" * 1000).encode()


def test_two_lists_with_a_broker_in_common_are_of_one_cluster() -> None:
    first, second, third = (BrokerAddress("broker.lan", 5570, 5571, bytes([number]) * 32) for number in range(3))
    assert same_cluster([first, second], [BrokerAddress("elsewhere", 1, 1, second.public_key), third])
    assert not same_cluster([first, second], [third])
    assert not same_cluster([], [third])


@given(invites)
def test_it_is_one_word_of_small_letters_that_a_shell_leaves_alone(printed: Invite) -> None:
    begin, _, rest = printed.encode().rpartition("-")
    assert begin == f"tessera-{printed.role.value}"
    assert set(rest) <= set(string.ascii_lowercase + "234567")


def test_space_around_it_and_capital_letters_do_no_harm() -> None:
    printed = invite().encode()
    prefix, role, rest = printed.split("-")
    assert decode_invite(f"  {printed}\r\n") == invite()
    assert decode_invite(f"{prefix}-{role}-{rest.upper()}") == invite()


# Hosts of five lengths: for each number of bits that the last base32 character has to spare.
@pytest.mark.parametrize("host", ["h", "ho", "hos", "host", "hosts"])
def test_an_invite_with_any_character_changed_is_refused(host: str) -> None:
    printed = invite(host).encode()
    for place, character in enumerate(printed):
        for other in "a2b7z-=018 é\0":
            if other != character:
                assert_refused(printed[:place] + other + printed[place + 1 :])


@pytest.mark.parametrize("host", ["h", "ho", "hos", "host", "hosts"])
def test_every_bit_of_an_invite_counts(host: str) -> None:
    prefix, role, rest = invite(host).encode().split("-")
    content = base64.b32decode(rest.upper() + "=" * (-len(rest) % 8))
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert_refused(f"{prefix}-{role}-{base64.b32encode(damaged).decode().rstrip('=').lower()}")


@pytest.mark.parametrize("host", ["h", "ho", "hos", "host", "hosts"])
def test_no_two_texts_are_the_same_invite(host: str) -> None:
    printed = invite(host).encode()
    for other in set(string.ascii_lowercase + "234567") - {printed[-1]}:
        assert_refused(printed[:-1] + other)
    for behind in ("=", "==", "a", "aaaaaaaa", "\0"):
        assert_refused(printed + behind)


def test_an_invite_cut_anywhere_is_refused() -> None:
    printed = invite().encode()
    for end in range(len(printed)):
        assert_refused(printed[:end])
        assert_refused(printed[len(printed) - end :])


def test_two_characters_exchanged_are_refused() -> None:
    printed = invite().encode()
    for place in range(len(printed) - 1):
        first, second = printed[place], printed[place + 1]
        if first != second:
            assert_refused(printed[:place] + second + first + printed[place + 2 :])


def test_an_invite_is_for_the_role_it_was_made_for() -> None:
    assert_refused(invite(role=Role.WORKER).encode().replace("worker", "client"))
    assert_refused(invite(role=Role.CLIENT).encode().replace("client", "worker"))


@pytest.mark.parametrize(
    "text", ["", "-", "--", "tessera-worker-", "tessera-broker-aa", "tessera-worker-" + "a" * 2000]
)
def test_what_is_no_invite_is_refused(text: str) -> None:
    assert_refused(text)


@settings(max_examples=200)
@given(st.text(max_size=300), st.sampled_from(["", "tessera-worker-", "tessera-client-"]))
def test_any_other_text_is_refused_and_nothing_worse(text: str, start: str) -> None:
    with pytest.raises(UsageError):
        decode_invite(start + text)


@pytest.mark.parametrize("show", [repr, str, lambda shown: f"{shown}", lambda shown: repr(copy.copy(shown))])
def test_neither_invite_nor_key_pair_shows_its_secret(show: object) -> None:
    made = invite()
    forms = [made.one_time.secret.hex(), repr(made.one_time.secret), str(list(made.one_time.secret))]
    assert callable(show)
    for shown in (show(made), show(made.one_time)):
        assert not any(form in shown for form in forms)
        assert "secret" not in shown


@pytest.mark.parametrize(
    ("host", "role", "endpoint"),
    [
        ("broker.lan", Role.CLIENT, "tcp://broker.lan:5570"),
        ("broker.lan", Role.WORKER, "tcp://broker.lan:5571"),
        ("broker.lan", Role.BROKER, "tcp://broker.lan:5570"),
        ("192.0.2.7", Role.CLIENT, "tcp://192.0.2.7:5570"),
        ("fe80::1", Role.WORKER, "tcp://[fe80::1]:5571"),
    ],
)
def test_each_role_has_its_port(host: str, role: Role, endpoint: str) -> None:
    assert invite(host).brokers[0].endpoint(role) == endpoint
