"""Many images are chosen at once, and only such as are shown; what is done with them names each that it failed for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from common.errors import NotFoundError
from desktop.background import Background
from desktop.model.entries import Tone
from desktop.model.gallery import GalleryModel
from desktop.model.image_work import _failure, _report
from desktop.model.putting import Item, shown_names
from desktop.session import Session
from producer.sources import Source
from tests.support.desktop_models import deliver_until, keep
from tests.support.sample_images import Unseeing, encode


@pytest.fixture
def model(session: Session, background: Background) -> GalleryModel:
    for number in range(4):
        keep(session, encode(b"content %d" % number, key=session.key))
    model = GalleryModel(session, background, Unseeing(), lambda _: None)
    model.activate()
    deliver_until(background, lambda: len(model.shown) == 4)
    model.deactivate()
    return model


def places(model: GalleryModel) -> list[int]:
    return [place for place, entry in enumerate(model.shown) if entry.key in model.chosen]


def test_a_click_chooses_one_and_others_come_and_go_singly_in_a_range_and_at_once(model: GalleryModel) -> None:
    hashes = [entry.key for entry in model.shown]
    model.select(hashes[1])
    assert (places(model), model.entry) == ([1], model.shown[1])
    model.toggle(hashes[3])
    assert (places(model), model.entry) == ([1, 3], None)
    model.toggle(hashes[3])
    assert (places(model), model.entry) == ([1], model.shown[1])
    model.select(hashes[2])
    model.extend(hashes[0])
    assert places(model) == [0, 1, 2]
    model.extend(hashes[3])
    assert places(model) == [2, 3]
    model.select_all()
    assert places(model) == [0, 1, 2, 3]
    model.select(None)
    assert places(model) == []


def test_what_the_search_does_not_show_is_not_chosen_and_so_not_deleted(model: GalleryModel) -> None:
    model.select_all()
    wanted = hashlib.sha256(b"content 2").hexdigest()
    model.look_for(wanted[:12])
    assert model.chosen == {wanted}
    assert model.selected == wanted
    model.look_for("nothing like it")
    assert not model.chosen


def test_deleting_asks_first_says_for_how_long_it_can_be_taken_back_and_the_command(model: GalleryModel) -> None:
    model.select_all()
    question = model.work.deleting(model.chosen_images or [])
    assert question.title == "Delete 4 images?"
    assert "7 days" in question.text
    assert question.command.startswith("python admin/admin.py delete --hash ")
    assert model.work.doing == ""


def test_an_outcome_counts_what_was_done_and_names_what_was_not() -> None:
    assert _report(3, [], "saved").summary == "3 images saved."
    failed = _report(3, [_failure("a.jpg", NotFoundError("it is gone", advice="look elsewhere"))], "saved")
    assert (failed.tone, failed.summary) == (Tone.ALARM, "2 of 3 images saved; the others not.")
    assert [(each.name, each.words) for each in failed.findings] == [("a.jpg", "it is gone; look elsewhere")]


def test_files_of_one_name_show_as_much_of_their_folders_as_tells_them_apart() -> None:
    paths = ["a/2024/x.jpg", "b/2024/x.jpg", "c/2025/x.jpg", "y.jpg"]
    items = [Item(Source(Path(path), path, Path(path).name, 1)) for path in paths]
    assert shown_names(items) == ["a/2024/x.jpg", "b/2024/x.jpg", "2025/x.jpg", "y.jpg"]
    assert shown_names(items[:1]) == ["x.jpg"]


def test_dialogs_begin_in_the_folder_of_the_last_one_and_at_first_in_pictures(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "Pictures"
    monkeypatch.setattr("platformdirs.user_pictures_dir", lambda: str(pictures))
    assert session.folder == str(Path.home())
    pictures.mkdir()
    assert session.folder == str(pictures)
    (tmp_path / "stick").mkdir()
    session.chose(str(tmp_path / "stick" / "x.jpg"))
    assert session.folder == str(tmp_path / "stick")
    assert Session().folder == str(tmp_path / "stick"), "the next start knows it, too"


def test_dialogs_for_the_key_and_its_codes_begin_in_documents_and_go_their_own_way(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, documents, stick = (tmp_path / name for name in ("Pictures", "Documents", "stick"))
    monkeypatch.setattr("platformdirs.user_pictures_dir", lambda: str(pictures))
    monkeypatch.setattr("platformdirs.user_documents_dir", lambda: str(documents))
    pictures.mkdir()
    session.chose(str(pictures / "x.jpg"))
    assert session.key_folder == str(Path.home())
    documents.mkdir()
    stick.mkdir()
    assert session.key_folder == str(documents)
    session.chose_for_key(str(stick / "tessera-vault.key"))
    assert (session.key_folder, session.folder) == (str(stick), str(pictures))
    assert Session().key_folder == str(stick), "the next start knows it, too"
