"""Contact cards, what is sealed to them, and the list of them that a machine keeps."""

from __future__ import annotations

import hashlib
import string
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntegrityError, NotFoundError, RefusedError, TesseraError, UsageError
from common.vault.contact_card import card_of, decode_card, pack_cards, unpack_cards
from common.vault.contacts import Contacts
from common.vault.granting import grant_to, open_any, seal_to_card
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, seal_mapping

KEY = VaultKey(bytes(range(32)))
OTHER = VaultKey(bytes(range(32, 64)))
SHA256 = hashlib.sha256(b"an image").digest()
ENCODING = bytes(range(16))
ALPHABET = string.ascii_lowercase + "234567"
NAMES = st.text(string.ascii_letters + "äß 漢", min_size=1, max_size=16).filter(lambda n: n == n.strip())


def mapping(**fields: object) -> Mapping:
    known = Mapping(
        data_key=bytes(32),
        image_sha256=SHA256,
        image_size=8,
        segment_count=1,
        segment_size=4096,
        k=2,
        n=3,
        recipe_digest=bytes(32),
        name="picture.jpg",
        stored_at=1,
    )
    return msgspec.structs.replace(known, **fields)


# --- a vault that gets another key


def test_contacts_are_taken_over_to_the_key_that_takes_the_place_of_theirs(tmp_path: Path) -> None:
    card = card_of(OTHER, "Ann")
    Contacts(tmp_path, KEY).add("ann", card)
    for _ in range(2):
        Contacts(tmp_path, OTHER).take_over(KEY)
        assert Contacts(tmp_path, OTHER).all() == {"ann": card}
    with pytest.raises(IntegrityError):
        Contacts(tmp_path, KEY).all()


# --- cards


@given(st.binary(min_size=32, max_size=32), NAMES)
def test_a_card_is_read_as_it_was_written(raw: bytes, name: str) -> None:
    card = card_of(VaultKey(raw), name)
    assert decode_card(card.encode()) == card
    assert decode_card(f"  {card.encode().upper()}\n") == card


def test_every_character_of_a_card_that_is_another_is_refused() -> None:
    text = card_of(KEY, "Ann").encode()
    for place, character in enumerate(text):
        for other in ALPHABET:
            if other != character:
                with pytest.raises(UsageError):
                    decode_card(text[:place] + other + text[place + 1 :])


@given(st.text())
def test_no_text_is_read_as_a_card_by_chance_nor_repeated_in_the_refusal(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        decode_card("tessera-contact:" + text)
    assert len(text) < 8 or text not in str(refused.value)


def test_a_card_does_not_show_its_secret() -> None:
    card = card_of(KEY, "Ann")
    assert repr(card.lookup_key) not in repr(card)


def test_a_card_gives_away_no_key_of_the_vault() -> None:
    content = card_of(KEY, "Ann").content()
    for secret in (
        KEY.reveal(),
        KEY.mapping_subkey(),
        KEY.contact_private_key().private_bytes_raw(),
    ):
        assert secret not in content


def test_cards_that_a_mapping_keeps_come_back_and_anything_else_is_refused() -> None:
    cards = [card_of(KEY, "Ann"), card_of(OTHER, "Ben")]
    packed = pack_cards(cards)
    assert unpack_cards(packed) == cards
    for end in range(len(packed)):
        with pytest.raises(IntegrityError):
            unpack_cards(packed[:end])


# --- sealed to a card


def test_what_is_sealed_to_a_card_only_its_vault_opens() -> None:
    card = card_of(KEY, "Ann")
    sealed = seal_to_card(card, mapping(), ENCODING)
    object_id = KEY.granted_object_id(SHA256)
    assert open_any(KEY, sealed, object_id, ENCODING) == mapping()
    with pytest.raises(RefusedError):
        open_any(OTHER, sealed, object_id, ENCODING)


def test_it_opens_for_its_object_and_its_encoding_only() -> None:
    sealed = seal_to_card(card_of(KEY, "Ann"), mapping(), ENCODING)
    for object_id, encoding_id in ((bytes(32), ENCODING), (KEY.granted_object_id(SHA256), bytes(16))):
        with pytest.raises(TesseraError):
            open_any(KEY, sealed, object_id, encoding_id)


def test_a_mapping_that_another_sealed_under_a_false_object_id_is_refused() -> None:
    card = card_of(KEY, "Ann")
    other = msgspec.structs.replace(mapping(), image_sha256=bytes(32))
    sealed = seal_to_card(card, other, ENCODING)
    with pytest.raises(TesseraError):
        open_any(KEY, sealed, KEY.granted_object_id(SHA256), ENCODING)


@given(st.data())
def test_every_byte_of_it_that_is_another_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(seal_to_card(card_of(KEY, "Ann"), mapping(), ENCODING))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 127))  # the top bit of an X25519 key's last byte is ignored (RFC 7748)
    with pytest.raises(TesseraError):
        open_any(KEY, bytes(sealed), KEY.granted_object_id(SHA256), ENCODING)


def test_names_and_recipients_do_not_show_in_its_size() -> None:
    card = card_of(KEY, "Ann")
    shared = mapping(shared_with=pack_cards([card]), revision=2, name="x" * 200)
    assert len(seal_to_card(card, shared, ENCODING)) == len(seal_to_card(card, mapping(), ENCODING))


def test_a_recipient_does_not_learn_with_whom_else_an_image_is_shared() -> None:
    card = card_of(KEY, "Ann")
    grant = grant_to(card, mapping(shared_with=pack_cards([card, card_of(OTHER, "Ben")]), revision=5), ENCODING)
    assert open_any(KEY, grant.mapping, grant.object_id, ENCODING) == mapping()
    assert grant.owner == card.owner and SHA256 not in grant.mapping + grant.object_id


def test_the_vaults_own_mappings_open_as_before() -> None:
    object_id = KEY.object_id(SHA256)
    shared = mapping(shared_with=pack_cards([card_of(OTHER, "Ben")]), revision=2)
    for each in (mapping(), shared):
        assert open_any(KEY, seal_mapping(KEY, each, object_id, ENCODING), object_id, ENCODING) == each


# --- the list


@pytest.mark.parametrize("key", [KEY, None])
def test_contacts_are_kept_by_name_and_forgotten(tmp_path: Path, key: VaultKey) -> None:
    card = card_of(OTHER, "Ben")
    Contacts(tmp_path, key).add("ben", card)
    assert Contacts(tmp_path, key).all() == {"ben": card}
    Contacts(tmp_path, key).remove("ben")
    with pytest.raises(NotFoundError):
        Contacts(tmp_path, key).card("ben")


def test_a_name_is_never_silently_given_to_another_card(tmp_path: Path) -> None:
    contacts = Contacts(tmp_path, KEY)
    contacts.add("ben", card_of(OTHER, "Ben"))
    contacts.add("ben", card_of(OTHER, "Ben"))
    with pytest.raises(UsageError):
        contacts.add("ben", card_of(KEY, "Ben"))


@pytest.mark.parametrize(
    ("added", "typed"), [("Ben", "BEN"), ("Straße", "STRASSE"), ("Zoe\u0308", "zoë"), ("ΣΊΣΥΦΟΣ", "σίσυφος")]
)
def test_a_name_is_found_in_any_case_and_shown_as_it_was_given(tmp_path: Path, added: str, typed: str) -> None:
    contacts, card = Contacts(tmp_path, KEY), card_of(OTHER, "Ben")
    contacts.add(added, card)
    assert contacts.card(typed) == card
    assert contacts.called(typed) == added and list(contacts.all()) == [added]
    assert contacts.remove(typed) == added and contacts.all() == {}


def test_two_names_that_differ_in_case_only_are_one(tmp_path: Path) -> None:
    contacts = Contacts(tmp_path, KEY)
    contacts.add("Ben", card_of(OTHER, "Ben"))
    with pytest.raises(UsageError, match="another contact called Ben"):
        contacts.add("ben", card_of(KEY, "Ben"))
    contacts.add("BEN", card_of(OTHER, "Ben"))
    assert list(contacts.all()) == ["BEN"]


def test_names_that_were_added_before_they_had_to_differ_are_told_apart_as_written(tmp_path: Path) -> None:
    contacts, cards = Contacts(tmp_path, KEY), {"Ben": card_of(OTHER, "Ben"), "ben": card_of(KEY, "Ben")}
    contacts._save(cards)
    assert contacts.card("Ben") == cards["Ben"] and contacts.card("ben") == cards["ben"]
    with pytest.raises(UsageError, match="Ben, ben"):
        contacts.card("BEN")


def test_a_vaults_contacts_are_sealed_and_damage_is_told(tmp_path: Path) -> None:
    Contacts(tmp_path, KEY).add("ben the baker", card_of(OTHER, "Ben"))
    path = tmp_path / "vault" / "contacts"
    content = path.read_bytes()
    assert b"ben" not in content and b"tessera-contact" not in content
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(IntegrityError):
            Contacts(tmp_path, KEY).all()


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX's")
def test_a_camera_keeps_its_cards_for_itself(tmp_path: Path) -> None:
    Contacts(tmp_path, None).add("ben", card_of(OTHER, "Ben"))
    assert (tmp_path / "client" / "contacts.json").stat().st_mode & 0o777 == 0o600
