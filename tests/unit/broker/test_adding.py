"""A client that was let in to add only: what it commits replaces nothing, and what changes anything is refused."""

from __future__ import annotations

from typing import Any

import pytest

from broker.rights import Standing
from common.protocol.codec import pack
from common.protocol.device_messages import Amend, Commit, SignedCommitment, Store, WholeShare
from common.protocol.envelope import Operation
from common.protocol.messages import PROTOCOL_VERSION, Code, Empty, Hello, Welcome
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker, answer, code, is_for, only
from tests.support.sample_shares import KEY, Sample, sample

FRIENDS_KEY = VaultKey(b"f" * 32)
FRIEND = FRIENDS_KEY.owner_id()
FIRST, SECOND = sample("first"), sample("second")


class Scene:
    def __init__(self, standing: Standing) -> None:
        broker = SampleBroker()
        self.device = broker.worker("device")
        self.client = broker.admit(standing, "client")
        self.welcome = self.client.hello(KEY)

    def asked(self, operation: Operation, header: Any, payload: bytes = b"") -> Code:
        """GRANTED where the request goes to the device, else the refusal."""
        sent = self.client.ask(operation, header, payload, device=self.device.device, credit=len(payload))
        return Code.GRANTED if is_for(only(sent), self.device) else code(sent)

    def commit(self, signed: SignedCommitment, encoding: Sample = FIRST) -> Code:
        return self.asked(Operation.COMMIT, Commit(encoding.encoding_id, 0), pack(signed))

    def store(self, *committed: SignedCommitment) -> Code:
        shares, payload = [], b""
        for signed in committed:
            block, commitment = b"block", pack(signed)
            shares.append(WholeShare(FIRST.encoding_id, 0, 2, 3, len(block), len(commitment)))
            payload += block + commitment
        return self.asked(Operation.STORE, Store(shares), payload)


@pytest.fixture
def adding() -> Scene:
    return Scene(Standing.ADD_ONLY)


@pytest.fixture
def client() -> Scene:
    return Scene(Standing.CLIENT)


def test_it_is_told_so_and_another_client_is_not(adding: Scene, client: Scene) -> None:
    assert adding.welcome.answer.granted and adding.welcome.adds_only
    assert client.welcome.answer.granted and not client.welcome.adds_only


def test_it_stores_anew_as_any_client_does(adding: Scene) -> None:
    assert adding.commit(FIRST.signed()) is Code.GRANTED
    assert adding.store(FIRST.signed(), SECOND.signed()) is Code.GRANTED


@pytest.mark.parametrize("changes", [{"revision": 2}, {"owner": FRIEND}], ids=["revised", "passed on"])
def test_it_commits_nothing_that_replaces_what_is_stored(adding: Scene, client: Scene, changes: dict[str, Any]) -> None:
    later = FIRST.signed(**changes)
    assert client.commit(later) is Code.GRANTED
    assert adding.commit(later) is Code.NOT_ALLOWED
    assert adding.store(SECOND.signed(), later) is Code.NOT_ALLOWED, "hidden behind another"


def test_what_cannot_be_read_is_refused_too(adding: Scene) -> None:
    header = Commit(FIRST.encoding_id, 0)
    good = pack(FIRST.signed())
    for payload in (b"", good[:-1], good + b"\0"):
        assert adding.asked(Operation.COMMIT, header, payload) is Code.NOT_ALLOWED
    share = WholeShare(FIRST.encoding_id, 0, 2, 3, 1, len(good) + 1)
    assert adding.asked(Operation.STORE, Store([share]), b"b" + good) is Code.NOT_ALLOWED


def test_it_may_leave_images_for_others_which_passes_them_on_once(adding: Scene) -> None:
    peer = adding.client = adding.client.reconnected()
    hello = Hello(PROTOCOL_VERSION, KEY.owner_proof(peer.public_key), FRIENDS_KEY.owner_key())
    assert answer(peer.ask(Operation.HELLO, hello), Welcome).answer.granted
    passed_on = FIRST.signed(FRIEND)
    assert adding.commit(passed_on) is Code.GRANTED
    assert adding.commit(FIRST.signed(FRIEND, revision=2)) is Code.NOT_ALLOWED


def test_it_neither_deletes_nor_takes_back_nor_amends_nor_retires(adding: Scene, client: Scene) -> None:
    requests: list[tuple[Operation, Any, bytes]] = [
        (Operation.DELETE, FIRST.deletion(), b""),
        (Operation.UNDELETE, FIRST.undeletion(), b""),
        (Operation.AMEND, Amend(FIRST.encoding_id), pack(FIRST.signed(revision=2))),
    ]
    for operation, header, payload in requests:
        assert client.asked(operation, header, payload) is Code.GRANTED
        assert adding.asked(operation, header, payload) is Code.NOT_ALLOWED
    assert code(adding.client.ask(Operation.RETIRE_OWNER, Empty())) is Code.NOT_ALLOWED
    assert code(client.client.ask(Operation.RETIRE_OWNER, Empty())) is Code.GRANTED
