"""What the gallery says of an image, and what a search finds."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from admin.health import ImageHealth
from common.facts import Facts
from common.protocol.messages import ShareAt
from desktop.model.entries import (
    Age,
    Badge,
    Entry,
    Search,
    Tone,
    badge_of,
    entry_of,
    format_of,
    former_badge_of,
    health_sentence,
    newest_first,
    share_places,
)
from tests.support.sample_images import device_of, encode

NOW = 1_800_000_000
IMAGE = encode(b"content")
ENTRY = entry_of(IMAGE.trusted().mapping, (IMAGE.commitment.object_id, IMAGE.encoding_id))


def entry(name: str, *, media_type: str = "image/jpeg", stored_at: int = NOW, good: int = 6) -> Entry:
    mapping = msgspec.structs.replace(
        IMAGE.trusted().mapping,
        name=name,
        media_type=media_type,
        stored_at=stored_at,
        image_sha256=name.encode()[:32].ljust(32),
    )
    return replace(entry_of(mapping, (name.encode(), b"")), health=ImageHealth(4, 6, good, 0, 6 - good))


@pytest.mark.parametrize(
    ("good", "words", "tone"),
    [
        (6, "whole", Tone.GOOD),
        (5, "1 share missing", Tone.NOTICE),
        (4, "in danger", Tone.ALARM),
        (3, "cannot be restored", Tone.ALARM),
    ],
)
def test_a_badge_says_how_an_image_is(good: int, words: str, tone: Tone) -> None:
    badge = badge_of(ImageHealth(4, 6, good, 0, 6 - good))
    assert (badge.words, badge.tone) == (words, tone)
    assert badge_of(ImageHealth(4, 8, 6, 0, 2)).words == "2 shares missing"
    assert badge_of(None).tone is Tone.UNKNOWN


@pytest.mark.parametrize(
    ("good", "words"),
    [(6, "was whole"), (5, "1 share was missing"), (4, "was in danger"), (3, "could not be restored")],
)
def test_a_badge_of_another_time_claims_nothing_of_now(good: int, words: str) -> None:
    assert former_badge_of(ImageHealth(4, 6, good, 0, 6 - good)) == Badge(words, Tone.UNKNOWN)
    assert former_badge_of(None) == badge_of(None)


def test_the_health_in_a_sentence_says_what_may_still_be_lost() -> None:
    assert "2 more devices may be lost" in health_sentence(ImageHealth(4, 6, 6, 0, 0))
    assert "1 more device may be lost" in health_sentence(ImageHealth(4, 6, 5, 0, 1))
    assert "would lose it" in health_sentence(ImageHealth(4, 6, 4, 0, 2))
    assert "have to come back" in health_sentence(ImageHealth(4, 6, 3, 0, 3))
    assert "not been asked" in health_sentence(None)


def test_an_entry_shows_what_the_mapping_says_and_keeps_neither_key_nor_picture() -> None:
    mapping = IMAGE.trusted().mapping
    assert (ENTRY.sha256, ENTRY.name, ENTRY.size) == (mapping.image_sha256.hex(), mapping.name, mapping.image_size)
    assert mapping.data_key not in [getattr(ENTRY, field) for field in ENTRY.__dataclass_fields__]
    assert entry("evil\nname\x1b").name.isprintable()
    assert entry_of(msgspec.structs.replace(mapping, name=""), (b"", b"")).name == "(no name)"


def test_a_format_is_named_as_people_name_it() -> None:
    assert [format_of(media) for media in ("image/jpeg", "image/heic", "application/octet-stream")] == [
        "JPEG",
        "HEIC",
        "file",
    ]


def test_what_the_cluster_knows_of_an_image_is_its_best_encoding() -> None:
    away = IMAGE.located(shares=[ShareAt(0, device_of(0), True, False)])
    known = ENTRY.known_at([away, IMAGE.located()])
    assert known.badge.words == "whole"
    assert ENTRY.known_at([]).health is None


def test_where_shares_are_is_told_by_the_devices_names() -> None:
    shares = [
        ShareAt(1, device_of(1), False, True),
        ShareAt(0, device_of(0), True, True),
        ShareAt(2, device_of(2), True, False),
    ]
    names = {device_of(0): "attic", device_of(1): "desk\n"}
    places = share_places(IMAGE.located(shares=shares), names)
    assert [(place.share, place.state) for place in places] == [(0, "here"), (1, "damaged"), (2, "away")]
    assert places[0].device == "attic"
    assert places[1].device.isprintable()
    assert places[2].device == device_of(2).hex()[:8]


# --- searching

CAT = entry("Cat on a roof.jpg", stored_at=NOW - 100)
DOG = entry("dog.png", media_type="image/png", stored_at=NOW - 10 * 24 * 3600, good=5)
OLD = entry("old roof.jpg", stored_at=NOW - 400 * 24 * 3600, good=4)
ALL = [OLD, CAT, DOG]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (Search(), [CAT, DOG, OLD]),
        (Search("roof"), [CAT, OLD]),
        (Search("ROOF cat"), [CAT]),
        (Search(CAT.when[:10]), [CAT]),
        (Search("png"), [DOG]),
        (Search(CAT.sha256[:16]), [CAT]),
        (Search(format="PNG"), [DOG]),
        (Search(age=Age.DAY), [CAT]),
        (Search(age=Age.MONTH), [CAT, DOG]),
        (Search(unwell=True), [DOG, OLD]),
        (Search("roof", unwell=True), [OLD]),
        (Search("nothing of the kind"), []),
    ],
)
def test_a_search_finds_by_name_date_format_age_and_health(search: Search, found: list[Entry]) -> None:
    assert newest_first(search.find(ALL, NOW)) == found


def test_an_image_that_tells_when_it_was_taken_comes_by_that_date_and_is_found_by_it() -> None:
    """By the clock where it was taken, whatever its offset."""
    plain = encode(b"content").trusted().mapping
    told = {"old": "2001-05-06T07:08:09-11:00", "older": "1969-07-20T20:17:40", "oldest": "0001-01-01T00:00:00"}
    mappings = [
        msgspec.structs.replace(plain, name=name, facts=Facts(taken_at, "Canon EOS R5"))
        for name, taken_at in told.items()
    ]
    undated = msgspec.structs.replace(plain, name="new", stored_at=NOW)
    entries = [entry_of(mapping, (b"", b"")) for mapping in [*reversed(mappings), undated]]
    assert [entry.name for entry in newest_first(entries)] == ["new", "old", "older", "oldest"]
    assert [entry.name for entry in Search("2001-05 eos").find(entries, NOW)] == ["old"]
    (old,) = Search("2001-05").find(entries, NOW)
    assert old.dates.splitlines() == ["taken 2001-05-06 07:08 · Canon EOS R5", f"stored {old.when}"]
    assert entries[-1].dates == f"stored {entries[-1].when}"
