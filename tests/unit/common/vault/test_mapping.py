"""The mapping: comes back as it was sealed, under its vault key, for its object and its encoding only."""

from __future__ import annotations

import pickle
import traceback
from datetime import timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import errors
from common.errors import IntegrityError, RefusedError, TesseraError, UsageError
from common.facts import Facts
from common.vault.keys import VaultKey
from common.vault.mapping import MAX_SEALED_MAPPING, Mapping, open_mapping, seal_mapping
from tests.vectors.vault import read_vectors

KEY = VaultKey(bytes(range(32)))
ENCODING_ID = bytes(range(16))
HEADER_SIZE = 74
TAG_SIZE = 16

MAPPING = Mapping(
    data_key=b"D" * 32,
    image_sha256=b"H" * 32,
    image_size=10_000_000,
    segment_count=3,
    segment_size=4 * 1024 * 1024,
    k=4,
    n=6,
    recipe_digest=b"R" * 32,
    name="wedding.jpg",
    media_type="image/jpeg",
    width=4000,
    height=3000,
    thumbnail=b"tiny",
    stored_at=1_700_000_000,
)
OBJECT_ID = KEY.object_id(MAPPING.image_sha256)

digests = st.binary(min_size=32, max_size=32)
encoding_ids = st.binary(min_size=16, max_size=16)
pixels = st.none() | st.integers(1, 2**31 - 1)


moments = st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=-3, minutes=-30)))).map(
    lambda moment: moment.replace(microsecond=0).isoformat()
)
facts = st.builds(
    Facts,
    taken_at=moments,
    camera=st.none() | st.text(min_size=1, max_size=64),
    orientation=st.none() | st.integers(1, 8),
    latitude=st.integers(-90_000_000, 90_000_000),
    longitude=st.integers(-180_000_000, 180_000_000),
)


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    image_size = draw(st.integers(0, 2**63 - 1))
    segment_size = draw(st.integers(1, 2**30))
    n = draw(st.integers(2, 64))
    return Mapping(
        data_key=draw(digests),
        image_sha256=draw(digests),
        image_size=image_size,
        segment_count=max(1, (image_size + segment_size - 1) // segment_size),
        segment_size=segment_size,
        k=draw(st.integers(2, n)),
        n=n,
        recipe_digest=draw(digests),
        name=draw(st.text(max_size=1024)),
        media_type=draw(st.text(max_size=100)),
        width=draw(pixels),
        height=draw(pixels),
        thumbnail=draw(st.none() | st.binary(max_size=8192)),
        stored_at=draw(st.integers(0, 2**63 - 1)),
        facts=draw(st.none() | facts),
    )


def changed(**fields: Any) -> Mapping:
    return msgspec.structs.replace(MAPPING, **fields)


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return seal_mapping(KEY, MAPPING, OBJECT_ID, ENCODING_ID)


@pytest.mark.parametrize("vector", read_vectors("mapping"), ids=lambda vector: str(vector["name"]))
def test_known_mappings_open_or_fail_as_frozen(vector: dict[str, Any]) -> None:
    key = VaultKey(vector["vault_key_hex"])
    ids = vector["object_id_hex"], vector["encoding_id_hex"]
    if vector["expect"] == "ok":
        mapping = open_mapping(key, vector["sealed_hex"], *ids)
        fields = {**msgspec.structs.asdict(mapping), "facts": msgspec.to_builtins(mapping.facts)}
        shown = {name: field.hex() if isinstance(field, bytes) else field for name, field in fields.items()}
        later = dict.fromkeys(("facts", "revision", "shared_with", "kind", "kept"))  # which are left out
        assert shown == {**later, **vector["fields"]}
        return
    with pytest.raises(TesseraError) as raised:
        open_mapping(key, vector["sealed_hex"], *ids)
    assert raised.type is getattr(errors, vector["expect"])


@given(mappings(), digests, encoding_ids)
def test_any_mapping_comes_back_as_it_was_sealed(mapping: Mapping, raw: bytes, encoding_id: bytes) -> None:
    key = VaultKey(raw)
    object_id = key.object_id(mapping.image_sha256)
    sealed = seal_mapping(key, mapping, object_id, encoding_id)
    assert open_mapping(key, sealed, object_id, encoding_id) == mapping
    assert len(sealed) - HEADER_SIZE - TAG_SIZE in (1024, 2048, 4096, 8192, 16384)


def test_the_largest_mapping_stays_under_the_limit() -> None:
    widest = "\U0001f600"
    told = Facts("2019-07-14T18:03:22+02:00", widest * 64, 8, -90_000_000, -180_000_000)
    cards = bytes(16 * (162 + 3) + 3)  # sixteen contact cards, each of the longest name
    largest = changed(
        name=widest * 1024,
        media_type=widest * 100,
        thumbnail=bytes(8192),
        facts=told,
        revision=2**53 - 1,
        shared_with=cards,
    )
    sealed = seal_mapping(KEY, largest, OBJECT_ID, ENCODING_ID)
    assert len(sealed) <= MAX_SEALED_MAPPING
    assert open_mapping(KEY, sealed, OBJECT_ID, ENCODING_ID) == largest


def test_mappings_of_about_one_size_are_sealed_to_the_same_size() -> None:
    sizes = {len(seal_mapping(KEY, changed(name="n" * size), OBJECT_ID, ENCODING_ID)) for size in range(256)}
    assert sizes == {HEADER_SIZE + 1024 + TAG_SIZE}


def test_the_same_mapping_is_never_sealed_to_the_same_bytes_twice(sealed: bytes) -> None:
    again = seal_mapping(KEY, MAPPING, OBJECT_ID, ENCODING_ID)
    for start, end in ((10, 42), (42, 74), (74, 106)):  # salt, commitment, the first of the ciphertext
        assert sealed[start:end] != again[start:end]


def test_a_media_type_that_is_not_known_is_said_so() -> None:
    fields = msgspec.structs.asdict(MAPPING)
    del fields["media_type"]
    assert Mapping(**fields).media_type == "application/octet-stream"


@given(digests)
def test_another_vault_key_is_refused(raw: bytes) -> None:
    sealed = seal_mapping(KEY, MAPPING, OBJECT_ID, ENCODING_ID)
    if raw != KEY.reveal():
        with pytest.raises(RefusedError, match="another vault key"):
            open_mapping(VaultKey(raw), sealed, OBJECT_ID, ENCODING_ID)


def test_another_object_or_encoding_does_not_open_it(sealed: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_mapping(KEY, sealed, KEY.object_id(b"x" * 32), ENCODING_ID)
    with pytest.raises(IntegrityError):
        open_mapping(KEY, sealed, OBJECT_ID, bytes(16))


def test_every_bit_of_a_sealed_mapping_counts(sealed: bytes) -> None:
    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((IntegrityError, RefusedError)):
            open_mapping(KEY, bytes(damaged), OBJECT_ID, ENCODING_ID)


def test_a_sealed_mapping_cut_anywhere_is_damaged(sealed: bytes) -> None:
    for size in range(len(sealed)):
        with pytest.raises(IntegrityError):
            open_mapping(KEY, sealed[:size], OBJECT_ID, ENCODING_ID)


@pytest.mark.parametrize("behind", [1, 16, 512, 1023, 2048, MAX_SEALED_MAPPING, 10_000_000])
def test_a_sealed_mapping_of_a_length_that_none_has_is_damaged(sealed: bytes, behind: int) -> None:
    with pytest.raises(IntegrityError, match="never has"):
        open_mapping(KEY, sealed + bytes(behind), OBJECT_ID, ENCODING_ID)


@pytest.mark.parametrize("behind", [1024, 3 * 1024, 15 * 1024])
def test_a_sealed_mapping_grown_to_another_possible_length_is_damaged(sealed: bytes, behind: int) -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        open_mapping(KEY, sealed + bytes(behind), OBJECT_ID, ENCODING_ID)


def test_a_mapping_over_the_limit_is_damaged(sealed: bytes) -> None:
    for size in (32 * 1024, 64 * 1024, 1 << 20):
        with pytest.raises(IntegrityError, match="never has"):
            open_mapping(KEY, sealed[:HEADER_SIZE] + bytes(size + TAG_SIZE), OBJECT_ID, ENCODING_ID)


@settings(max_examples=200)
@given(st.binary(max_size=3000))
def test_what_is_no_mapping_is_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_mapping(KEY, data, OBJECT_ID, ENCODING_ID)


@pytest.mark.parametrize(
    "fields",
    [
        {"data_key": bytes(31)},
        {"data_key": "A" * 43 + "="},
        {"recipe_digest": bytes(33)},
        {"image_sha256": b""},
        {"image_size": -1},
        {"image_size": 2**63},
        {"segment_count": 2},
        {"segment_count": 4},
        {"segment_count": 0, "image_size": 0},
        {"segment_size": 0},
        {"segment_size": 2**30 + 1},
        {"k": 7},
        {"k": 0},
        {"n": 65},
        {"name": "n" * 1025},
        {"name": "photo-\udcff.jpg"},
        {"name": b"photo.jpg"},
        {"media_type": "t" * 101},
        {"media_type": "\ud800"},
        {"thumbnail": bytes(8193)},
        {"width": 0},
        {"height": -3},
        {"facts": Facts()},
        {"facts": Facts(latitude=1)},
        {"facts": Facts(taken_at="yesterday")},
        {"facts": Facts(camera="\ud800")},
        {"stored_at": -1},
        {"stored_at": 1.5},
    ],
    ids=str,
)
def test_what_would_not_open_is_not_sealed(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not sound"):
        seal_mapping(KEY, changed(**fields), OBJECT_ID, ENCODING_ID)


def test_a_mapping_is_not_sealed_under_the_object_id_of_another_image() -> None:
    with pytest.raises(TesseraError, match="another image") as raised:
        seal_mapping(KEY, MAPPING, KEY.object_id(b"x" * 32), ENCODING_ID)
    assert raised.type is TesseraError


@pytest.mark.parametrize(("object_size", "encoding_size"), [(31, 17), (33, 15), (0, 0), (32, 15), (16, 32)])
def test_ids_of_another_size_are_an_error(sealed: bytes, object_size: int, encoding_size: int) -> None:
    ids = bytes(object_size), bytes(encoding_size)
    with pytest.raises(TesseraError, match="bytes, not"):
        seal_mapping(KEY, MAPPING, *ids)
    with pytest.raises(TesseraError, match="bytes, not"):
        open_mapping(KEY, sealed, *ids)


def test_a_mapping_does_not_show_what_it_holds() -> None:
    rich_repr = MAPPING.__rich_repr__()
    for shown in (repr(MAPPING), str(MAPPING), f"{MAPPING}", repr([MAPPING]), repr(rich_repr)):
        _must_not_tell(shown)
    assert rich_repr == [("k", 4), ("n", 6)]


def test_a_mapping_is_not_pickled() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TesseraError):
            pickle.dumps(MAPPING, protocol)


def test_no_error_holds_what_the_mapping_holds(sealed: bytes) -> None:
    other_id = KEY.object_id(b"x" * 32)
    for key, data, object_id in (
        (KEY, sealed[:-1], OBJECT_ID),
        (KEY, sealed, other_id),
        (VaultKey(bytes(32)), sealed, OBJECT_ID),
    ):
        with pytest.raises(TesseraError) as raised:
            open_mapping(key, data, object_id, ENCODING_ID)
        _must_not_tell(_everything_said(raised.value))
    for mapping in (changed(name="wedding.jpg\ud800"), changed(n=65), changed(thumbnail=bytes(8193))):
        with pytest.raises(TesseraError) as raised:
            seal_mapping(KEY, mapping, OBJECT_ID, ENCODING_ID)
        _must_not_tell(_everything_said(raised.value))


@pytest.mark.parametrize(
    "vector",
    [vector for vector in read_vectors("mapping") if vector["expect"] != "ok"],
    ids=lambda vector: str(vector["name"]),
)
def test_no_error_about_a_known_mapping_holds_its_secrets(vector: dict[str, Any]) -> None:
    with pytest.raises(TesseraError) as raised:
        open_mapping(
            VaultKey(vector["vault_key_hex"]),
            vector["sealed_hex"],
            vector["object_id_hex"],
            vector["encoding_id_hex"],
        )
    said = _everything_said(raised.value)
    data_key = bytes(range(64, 96))
    for secret in ("mosaic.png", data_key.hex(), repr(data_key)[2:-1]):
        assert secret not in said


def _everything_said(error: BaseException) -> str:
    """Message, traceback, and what the exception keeps as its context, which a logger may print."""
    context = error.__context__
    kept = [repr(vars(error)), repr(context), repr(vars(context) if context is not None else "")]
    kept += [repr(getattr(context, name, "")) for name in ("object", "unpacked", "extra")]
    return "".join([*traceback.format_exception(type(error), error, error.__traceback__), *kept])


def _must_not_tell(shown: str) -> None:
    for secret in ("wedding", "D" * 32, "H" * 32, "R" * 32, "tiny", "image/jpeg", (b"D" * 32).hex()):
        assert secret not in shown
