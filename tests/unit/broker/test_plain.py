"""Encodings that stay packed: what is taken up of them by comparing bytes is what is taken up one by one."""

from __future__ import annotations

import contextlib
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import catalog as catalog_module
from broker import devices, entries, queries
from broker.catalog import Catalog, in_memory
from broker.catalog_rows import Storage
from broker.rights import Standing
from common.protocol.messages import AnnouncedShare, GrantedTo
from tests.support.sample_broker import SampleBroker

OWNERS = [b"a" * 16, b"b" * 16]
DEVICES = [bytes([number]) * 16 for number in range(1, 5)]
FRIEND = GrantedTo(b"f" * 16, b"F" * 32)


@st.composite
def shares(draw: st.DrawFn) -> AnnouncedShare:
    """Mostly of what all devices say alike."""
    encoding, index = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    odd = draw(st.integers(0, 9))
    object_id = None if odd == 0 else bytes([encoding if odd != 1 else 9]) * 32
    said = AnnouncedShare(bytes([encoding]) * 16, index, object_id, OWNERS[odd == 2], 2, 4, 100, odd not in (0, 3))
    if odd == 4:
        said.revision = 2
    if odd == 5:
        said.grants = [FRIEND]
    if odd == 6:
        said.depositor = OWNERS[1]
    return said


PAGES = st.lists(st.tuples(st.integers(0, 3), st.lists(shares(), max_size=6), st.integers(0, 6)), max_size=12)


def everything(catalog: Catalog) -> object:
    """All that a catalog says, whatever order claims came in."""
    catalog.commit()
    found = [sorted(catalog.locate(owner, bytes([n]) * 32, bool), key=repr) for owner in OWNERS for n in range(10)]
    shared = sorted(catalog.locate(FRIEND.owner, FRIEND.object_id, bool), key=repr)
    held = [
        (catalog.shares_on(d), catalog.bytes_on(d), catalog.budget.of(d), sorted(catalog.encodings_on(d)))
        for d in DEVICES
    ]
    known = {d: catalog.known_of(d) for d in DEVICES}
    owned = [(catalog.bytes_of(owner), catalog.room_of(owner)) for owner in OWNERS]
    rows = sorted(catalog.rows.connection.execute("SELECT encoding, complete FROM encodings"))
    return found, shared, held, known, owned, rows, len(catalog), +catalog.codes, catalog.budget.total


def told(pages: list[tuple[int, list[AnnouncedShare], int]], *, packed: bool) -> list[object]:
    """What catalogs say that were told these pages: the first, and a second one of its rows."""
    storage = Storage(in_memory())
    catalog = Catalog(storage=storage)
    with contextlib.ExitStack() as stack:
        if not packed:
            stack.enter_context(patch.object(catalog_module, "claim_of", lambda share: b""))
        for device, page, what in pages:
            if what == 0:
                catalog.register(DEVICES[device])
            elif what == 1:
                catalog.end_announcing(DEVICES[device])
            elif what == 2:
                catalog.withdraw(DEVICES[device], [(share.encoding_id, share.share) for share in page])
            else:
                catalog.announce(DEVICES[device], page)
            catalog.know_up_to(DEVICES[device], b"e" * 16, 1)
        said = everything(catalog)
        return [said, everything(Catalog(storage=storage))]


@pytest.mark.one_python
@given(PAGES)
def test_packed_or_not_the_same_is_known(pages: list[tuple[int, list[AnnouncedShare], int]]) -> None:
    one_by_one = told(pages, packed=False)
    assert told(pages, packed=True) == one_by_one
    assert one_by_one[0] == one_by_one[1]


@given(PAGES)
def test_the_same_is_known_where_few_encodings_are_held(pages: list[tuple[int, list[AnnouncedShare], int]]) -> None:
    with patch.object(entries, "_HELD", 1):
        few = told(pages, packed=True)
    assert few == told(pages, packed=False)


def test_the_last_word_of_a_page_on_a_share_counts() -> None:
    sound = AnnouncedShare(b"e" * 16, 0, b"o" * 32, OWNERS[0], 2, 4, 100)
    damaged = AnnouncedShare(b"e" * 16, 0, None, OWNERS[0], 2, 4, 100, sound=False)
    for page, is_sound in (([damaged, sound], True), ([sound, damaged], False)):
        catalog = Catalog()
        catalog.announce(DEVICES[0], page)
        assert (catalog.known(b"e" * 16) is not None) is is_sound


# --- while devices tell what the broker forgot


def test_nothing_is_surveyed_while_devices_tell_anew_but_not_without_end() -> None:
    broker = SampleBroker()
    worker = broker.admit(Standing.WORKER, "attic")
    worker.register()
    worker.announce([AnnouncedShare(b"e" * 16, 0, b"o" * 32, OWNERS[0], 2, 4, 100)], complete=False)
    broker.tick()
    assert not broker.steward.survey.current
    broker.now += devices._LEARNING
    for _ in range(3):
        broker.tick()
    assert broker.steward.survey.current


def test_what_is_told_for_the_first_time_is_committed_now_and_then_and_at_its_end() -> None:
    broker = SampleBroker()
    connection = broker.queries.catalog.rows.connection
    worker = broker.admit(Standing.WORKER, "attic")
    worker.register()
    broker.tick()
    worker.announce([AnnouncedShare(b"e" * 16, 0, b"o" * 32, OWNERS[0], 2, 4, 100)], complete=False)
    assert connection.execute("SELECT count(*) FROM encodings").fetchone() == (0,)
    broker.now += 1.0
    broker.tick()
    assert connection.execute("SELECT count(*) FROM encodings").fetchone() == (0,)
    broker.now += queries._LEARNING_PERIOD
    broker.tick()
    assert connection.execute("SELECT count(*) FROM encodings").fetchone() == (1,)
    worker.announce([AnnouncedShare(b"E" * 16, 0, b"O" * 32, OWNERS[0], 2, 4, 100)])
    broker.queries.tick(broker.now)
    assert connection.execute("SELECT count(*) FROM encodings").fetchone() == (2,)
    assert not connection.in_transaction
