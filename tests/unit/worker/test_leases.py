"""Of several brokers one mends an encoding at a time."""

from __future__ import annotations

from worker.leases import Leases

ENCODING, OTHER = b"e" * 16, b"o" * 16


def test_what_is_promised_to_one_broker_is_refused_to_another_until_it_ends() -> None:
    leases = Leases()
    assert leases.ask(ENCODING, 0, 30, 100.0)
    assert leases.ask(ENCODING, 0, 30, 110.0), "it may ask again"
    assert not leases.ask(ENCODING, 1, 30, 139.9)
    assert leases.ask(ENCODING, 1, 30, 140.0)
    assert not leases.ask(ENCODING, 0, 30, 141.0)


def test_one_encodings_lease_is_no_other_ones() -> None:
    leases = Leases()
    assert leases.ask(ENCODING, 0, 30, 0.0)
    assert leases.ask(OTHER, 1, 30, 0.0)


def test_a_broker_that_is_at_work_keeps_its_lease() -> None:
    leases = Leases()
    leases.ask(ENCODING, 0, 30, 0.0)
    for now in range(20, 200, 20):
        leases.renew(ENCODING, 0, now)
        leases.expire(now)
        assert not leases.ask(ENCODING, 1, 30, now + 9)
    assert leases.ask(ENCODING, 1, 30, 180.0 + 30)


def test_only_the_one_that_has_it_renews_it_and_only_in_time() -> None:
    leases = Leases()
    leases.ask(ENCODING, 0, 30, 0.0)
    leases.renew(ENCODING, 1, 29.0)
    leases.renew(OTHER, 0, 29.0)
    assert leases.ask(ENCODING, 1, 30, 30.0)
    leases.renew(ENCODING, 0, 31.0)
    assert not leases.ask(ENCODING, 0, 30, 59.0)


def test_with_the_connection_all_its_leases_end() -> None:
    leases = Leases()
    leases.ask(ENCODING, 0, 30, 0.0)
    leases.ask(OTHER, 1, 30, 0.0)
    leases.release(0)
    assert leases.ask(ENCODING, 1, 30, 1.0)
    assert not leases.ask(OTHER, 0, 30, 1.0)
