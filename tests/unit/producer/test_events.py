"""What came of storing an image, and how many committed shares make it stored."""

from __future__ import annotations

import json
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NoRoomError, NotEnoughError, NotFoundError
from common.protocol.messages import Code
from producer.events import FailedImage, LeftOut, SkippedFile, StoredImage, shares_needed, too_few


def stored(*devices: Optional[str], **changed: object) -> StoredImage:
    fields: dict[str, object] = {
        "sha256": bytes(range(32)),
        "shown": "album/写真.png",
        "size": 12345,
        "k": 2,
        "n": len(devices),
        "devices": list(devices),
        "already_stored": False,
        "seconds": 0.123456,
        "is_image": True,
    }
    return StoredImage(**{**fields, **changed})  # type: ignore[arg-type]  # the fields of a StoredImage


@given(st.integers(1, 64).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_one_device_may_still_be_lost_wherever_n_allows_it(k_of_n: tuple[int, int]) -> None:
    k, n = k_of_n
    needed = shares_needed(k, n)
    assert k <= needed <= n
    assert needed > k or n == k


def test_an_image_is_degraded_when_a_share_found_no_device() -> None:
    assert not stored("nas", "attic", "desk").degraded
    assert stored("nas", None, "desk").degraded


def test_as_json_it_says_what_was_promised() -> None:
    fields = stored("nas", None, "desk", missing=("attic",)).as_json()
    assert json.loads(json.dumps(fields)) == {
        "state": "stored",
        "sha256": bytes(range(32)).hex(),
        "path": "album/写真.png",
        "bytes": 12345,
        "k": 2,
        "n": 3,
        "devices": ["nas", None, "desk"],
        "already_stored": False,
        "degraded": True,
        "missing_devices": ["attic"],
        "may_lose": 0,
        "could_be_stronger": False,
        "may_be_pruned": False,
        "seconds": 0.1235,
        "is_image": True,
    }


def test_as_json_what_was_not_stored_says_so_and_why() -> None:
    failed = FailedImage("a.png", NotFoundError("a.png: no such file"))
    assert failed.as_json() == {"state": "failed", "path": "a.png", "error": "a.png: no such file", "exit_code": 3}
    skipped = SkippedFile("album/pipe", LeftOut.PIPE)
    assert skipped.as_json() == {"state": "skipped", "path": "album/pipe", "reason": "named pipe"}


@pytest.mark.parametrize("reasons", [{1: Code.NO_ROOM}, {1: Code.NO_ROOM, 4: Code.READ_ONLY}])
def test_where_only_room_was_missing_there_was_no_room(reasons: dict[int, Code]) -> None:
    error = too_few("a.png", 3, 5, reasons)
    assert isinstance(error, NoRoomError)
    assert "a.png: only 3 of the at least 5 shares needed" in str(error)


def test_where_room_alone_would_have_done_there_was_no_room() -> None:
    reasons = {1: Code.NO_ROOM, 2: Code.GONE, 4: Code.NO_ROOM}
    assert isinstance(too_few("a.png", 3, 5, reasons), NoRoomError)
    assert isinstance(too_few("a.png", 2, 5, reasons), NotEnoughError)


@pytest.mark.parametrize("reasons", [{}, {1: Code.GONE}, {1: Code.NO_ROOM, 4: Code.GONE}, {1: Code.FAULT}])
def test_otherwise_there_were_not_enough_devices(reasons: dict[int, Code]) -> None:
    error = too_few("a.png", 3, 5, reasons)
    assert isinstance(error, NotEnoughError)
    assert "a.png: only 3 of the at least 5 shares needed" in str(error)
