"""What `verify` and `status` say: how much of an image is at hand, and what that means for its owner."""

from __future__ import annotations

from typing import Optional

import pytest

from admin.health import HealthStatus, ImageHealth, assess
from admin.status import Status, check_line, summary, to_json
from admin.verifying import Verdict
from common.protocol.messages import GRANTED, Device, EncodingAt, Health, Job, ShareAt
from common.repository.images import Held
from common.text import format_duration
from desktop.model.entries import Tone, badge_of, health_sentence
from tests.support.sample_images import encode

IMAGE = encode(b"content")


def encoding(good: int, damaged: int = 0, away: int = 0, *, k: int = 4, n: int = 6) -> EncodingAt:
    """An encoding of which so many shares are at hand, damaged, and on devices that are not connected."""
    states = [(True, True)] * good + [(False, True)] * damaged + [(True, False)] * away
    shares = [ShareAt(i, bytes([i + 1]) * 16, sound, alive) for i, (sound, alive) in enumerate(states)]
    return EncodingAt(b"o" * 32, b"e" * 16, k, n, 1000, shares)


@pytest.mark.parametrize(
    ("good", "status", "spare"),
    [
        (6, HealthStatus.WHOLE, 2),
        (5, HealthStatus.LACKING, 1),
        (4, HealthStatus.IN_DANGER, 0),
        (3, HealthStatus.LOST, 0),
        (0, HealthStatus.LOST, 0),
    ],
)
def test_an_image_is_judged_by_how_many_shares_are_at_hand(good: int, status: HealthStatus, spare: int) -> None:
    health = assess([encoding(good, away=6 - good)])
    assert (health.status, health.spare, health.away) == (status, spare, 6 - good)
    assert health.restorable == (good >= 4)


def test_damaged_shares_do_not_count_as_at_hand() -> None:
    health = assess([encoding(4, damaged=2)])
    assert (health.good, health.damaged, health.away) == (4, 2, 0)


def test_a_damaged_share_that_another_device_holds_whole_is_no_damage() -> None:
    doubled = encoding(6)
    doubled.shares.append(ShareAt(0, b"x" * 16, False, True))
    assert assess([doubled]).damaged == 0
    assert assess([doubled]).status is HealthStatus.WHOLE


def test_two_shares_on_one_device_count_as_one() -> None:
    twice = encoding(5)
    twice.shares.append(ShareAt(5, twice.shares[0].device_id, True, True))
    assert assess([twice]).good == 5


def test_of_several_encodings_the_best_counts() -> None:
    assert assess([encoding(2), encoding(5), encoding(4)]).good == 5
    assert assess([encoding(4), encoding(3, k=2, n=3)]).status is HealthStatus.WHOLE


def test_verify_and_the_app_say_one_thing_of_an_image_in_the_same_words() -> None:
    for good, proven in [(6, None), (5, None), (4, True), (3, None), (6, False)]:
        health = assess([encoding(good, away=6 - good)], proven=proven)
        verdict = Verdict(Held(IMAGE.trusted().mapping, [IMAGE.located()]), health)
        badge = badge_of(health)
        assert badge.words == health.words
        assert verdict.as_json()["state"] == health.status.value
        assert (verdict.exit_code == 0) is (badge.tone is not Tone.ALARM)
        assert verdict.as_json()["restorable"] is (health.status is not HealthStatus.LOST)


def test_what_was_read_and_is_not_the_image_cannot_be_restored_by_any_shares() -> None:
    health = assess([encoding(6)], proven=False)
    assert (health.status, health.words, health.spare) == (HealthStatus.LOST, "cannot be restored", 0)
    assert "is not the image" in health_sentence(health)


def test_of_encodings_that_bear_the_same_loss_a_whole_one_counts() -> None:
    assert assess([encoding(5, away=1), encoding(3, k=2, n=3)]).status is HealthStatus.WHOLE


@pytest.mark.parametrize(
    ("health", "code"),
    [
        (ImageHealth(4, 6, 6, 0, 0), 0),
        (ImageHealth(2, 2, 2, 0, 0), 0),
        (ImageHealth(4, 6, 5, 1, 0), 0),
        (ImageHealth(4, 6, 4, 0, 2), 5),
        (ImageHealth(4, 6, 3, 0, 3), 5),
        (ImageHealth(4, 6, 3, 2, 1), 5),
        (ImageHealth(4, 6, 3, 3, 0), 4),
        (ImageHealth(4, 6, 6, 0, 0, proven=False), 4),
    ],
)
def test_verify_ends_with_what_is_in_the_way_of_an_image(health: ImageHealth, code: int) -> None:
    assert Verdict(Held(IMAGE.trusted().mapping, [IMAGE.located()]), health).exit_code == code


DEVICE = Device(b"d" * 16, "nas", False, 10, 20, 3, 7300, True, 2)


def status(health: Health, jobs: Optional[list[Job]] = None) -> Status:
    return Status([DEVICE], "tcp://broker:5570", health, jobs or [])


def test_the_estimate_is_what_is_left_at_the_rate_of_late() -> None:
    assert status(Health(GRANTED, True, bytes_left=1001, rate=10)).seconds_left == 101
    assert status(Health(GRANTED, True, bytes_left=1001)).seconds_left is None
    assert status(Health(GRANTED, True, rate=10)).seconds_left is None


def test_the_summary_says_loudly_what_cannot_be_restored() -> None:
    text = "\n".join(summary(status(Health(GRANTED, True, whole=7, lacking=3, waiting=2, unrecoverable=1))))
    assert "7 objects (images, trees, snapshots) are whole" in text
    assert "3 lack shares, 2 of them wait" in text
    assert "1 CANNOT BE RESTORED" in text


def test_needless_encodings_are_told_with_what_ends_them() -> None:
    told = status(Health(GRANTED, True, whole=7, needless=3))
    assert "3 encodings are needless beside a whole one of the image: admin.py repair --all" in summary(told)
    assert "3" not in "".join(summary(status(Health(GRANTED, True, whole=7))))
    images = to_json(told)["objects"]
    assert isinstance(images, dict)
    assert images["needless_encodings"] == 3


@pytest.mark.parametrize(
    ("health", "code", "line"),
    [
        (Health(GRANTED, True, whole=7), 0, "OK: 7 objects are whole, away: nas"),
        (Health(GRANTED, True, whole=7, lacking=2), 0, "OK: 7 objects are whole, 2 lack shares, away: nas"),
        (
            Health(GRANTED, True, whole=7, lacking=2, in_danger=2),
            5,
            "CRITICAL: 2 objects are in danger, 7 objects are whole, 2 lack shares, away: nas",
        ),
        (
            Health(GRANTED, True, whole=7, unrecoverable=1),
            5,
            "CRITICAL: 1 objects cannot be restored, 7 objects are whole, away: nas",
        ),
    ],
)
def test_line_for_monitoring_and_exit_code_say_if_an_image_is_lost_or_in_danger(
    health: Health, code: int, line: str
) -> None:
    assert (status(health).exit_code, check_line(status(health))) == (code, line)


def test_a_broker_that_has_just_started_judges_nothing() -> None:
    assert summary(status(Health(GRANTED, False, unrecoverable=9))) == [
        "the broker has just started: devices are still coming"
    ]


def test_json_has_all_that_the_table_has() -> None:
    job = Job("rebuild", b"e" * 16, [4], [b"d" * 16], 10, 3)
    told = to_json(status(Health(GRANTED, True, whole=1, lacking=1, bytes_left=50, rate=10), [job]))
    assert told["devices"] == [
        {
            "name": "nas",
            "id": (b"d" * 16).hex(),
            "alive": False,
            "used_bytes": 10,
            "free_bytes": 20,
            "shares": 3,
            "away_seconds": 7300,
            "retiring": True,
            "held_seconds": 0,
            "shares_left": 2,
            "kind": "server",
            "waited_for_seconds": 0,
            "unlisted_shares": 0,
            "hold_seconds": 0,
        }
    ]
    assert told["objects"] == {
        "settled": True,
        "whole": 1,
        "lacking": 1,
        "waiting": 0,
        "in_danger": 0,
        "unrecoverable": 0,
        "could_be_stronger": 0,
        "needless_encodings": 0,
    }
    repair = told["repair"]
    assert isinstance(repair, dict)
    assert (repair["seconds_left"], repair["bytes_left"]) == (5, 50)
    assert repair["jobs"] == [
        {
            "kind": "rebuild",
            "encoding": (b"e" * 16).hex(),
            "shares": [4],
            "devices": ["nas"],
            "segments": 10,
            "segments_done": 3,
        }
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 days")]
)
def test_times_are_said_as_people_say_them(seconds: int, said: str) -> None:
    assert format_duration(seconds) == said
