"""Who images are shared with is shown by the name known here; the trash shows what can be taken back."""

from __future__ import annotations

import pytest

from admin.deleting import DeletedImage
from common.errors import NotFoundError
from common.vault.contact_card import ContactCard, card_of
from common.vault.keys import VaultKey
from desktop.background import Background
from desktop.model.sharing import Recipient, recipients_of
from desktop.model.trash import TrashModel, name_of, newest_first, taken_back_words
from desktop.model.wording import names
from desktop.session import Session


def card(name: str) -> ContactCard:
    return card_of(VaultKey.generate(), name)


def deleted(name: str, until: int = 0) -> DeletedImage:
    return DeletedImage(name, name and "ab" * 32, until, ())


def test_everybody_is_named_once_with_the_images_and_by_the_name_that_they_have_here() -> None:
    bob, stranger = card("bob-laptop"), card("kiosk")
    found = recipients_of({"aa": [bob, stranger], "bb": [bob]}, {"Bob": bob, "Zoe": card("zoe")})
    assert found == [
        Recipient("Bob", "Bob", bob.owner, ("aa", "bb")),
        Recipient("kiosk", "", stranger.owner, ("aa",)),
    ]
    assert recipients_of({"aa": []}, {}) == []


def test_the_last_deleted_comes_first_and_another_machines_image_has_no_name() -> None:
    first, last, unknown = deleted("a.jpg", 10), deleted("b.jpg", 30), deleted("", 20)
    assert newest_first([first, last, unknown]) == [last, unknown, first]
    assert [name_of(image) for image in (first, unknown)] == ["a.jpg", "(stored from another machine)"]


def test_what_was_taken_back_is_counted_and_the_first_that_was_not_is_named() -> None:
    gone = NotFoundError("the trash was emptied; the image cannot be taken back")
    assert taken_back_words([(deleted("a.jpg"), None)]) == "1 image taken back."
    assert taken_back_words([(deleted("a.jpg"), None), (deleted("b.jpg"), gone), (deleted("c.jpg"), gone)]) == (
        "1 of 3 images taken back. b.jpg: the trash was emptied; the image cannot be taken back; and 1 more."
    )


def test_an_image_that_is_back_is_in_the_trash_no_more_and_the_gallery_is_told(
    session: Session, background: Background
) -> None:
    told: list[bool] = []
    model = TrashModel(session, background, lambda: told.append(True))
    one, other = deleted("a.jpg"), deleted("b.jpg")
    model._see([one, other])
    assert model.words == ""
    model._taken([(one, None)])
    assert (model.images, model.words, told) == ([other], "1 image taken back.", [True])
    model._see([])
    model.told = ""
    assert model.words == "The trash is empty: no device that is connected has anything to take back."


@pytest.mark.parametrize(
    ("given", "words"),
    [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"), (list("abcde"), "a, b, c and 2 more")],
)
def test_of_many_names_some_are_named_and_the_others_counted(given: list[str], words: str) -> None:
    assert names(given) == words
