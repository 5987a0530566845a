"""What is shared in the window the other vault opens until it is taken back there; what is deleted is in the trash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cluster.local import CHECKOUT, LocalCluster, require_success
from desktop.model.gallery import GalleryModel
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven
from tests.desktop.test_looking_after import gallery, in_gallery
from tests.desktop.test_there_and_back import WORDS

PHOTOGRAPH = CHECKOUT / "samples" / "rocket.jpg"
SHA256 = hashlib.sha256(PHOTOGRAPH.read_bytes()).hexdigest()


def opened(machine: dict[str, str], start_app: StartApp) -> tuple[Driven, GalleryModel]:
    """The app of a machine, its vault unlocked."""
    window = start_app(Path(machine["TESSERA_HOME"]))
    window.fill_in(0, WORDS)
    window.press("Unlock")
    window.until(lambda: "gallery" in window.app.models, "the gallery")
    return window, gallery(window)[0]


def test_a_contact_opens_what_is_shared_with_their_card_until_it_is_taken_back(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path
) -> None:
    mine = cluster.add_client(f"{tmp_path.name}-mine", WORDS)
    theirs = cluster.add_client(f"{tmp_path.name}-theirs", WORDS)
    require_success("producer", cluster.run("producer", str(PHOTOGRAPH), environment=mine))
    card = cluster.run("admin", "contacts", "card", environment=theirs).stdout.strip()

    def they_restore(target: Path) -> int:
        return cluster.run("consumer", "--hash", SHA256, "--output", str(target), environment=theirs).returncode

    window, model = opened(mine, start_app)
    window.until(lambda: model.images.looked and in_gallery(model, SHA256), "the photograph")
    model.select(model.shown[0].key)
    window.press("Share …")
    window.until(lambda: model.sharing.recipients == [], "that it is shared with nobody")
    form = window.app.overlays[-1]
    form._called.insert(0, "Anna")
    form._card.insert(0, card[:-3])
    window.press("Share")
    window.until(lambda: window.sees("typing error"), "what is wrong with the card")
    assert form._called.get() == "Anna", "what was typed stays"
    form._card.delete(0, "end")
    form._card.insert(0, card)
    window.press("Share")
    window.until(lambda: window.sees("1 image shared with Anna"), "that it is shared")
    assert not window.sees("typing error")
    assert they_restore(tmp_path / "theirs.jpg") == 0
    assert (tmp_path / "theirs.jpg").read_bytes() == PHOTOGRAPH.read_bytes()

    window.press("Close")
    window.press("Share …")
    window.until(lambda: "Shared with" in window.texts(), "with whom it is shared")
    assert window.app.overlays[-1]._from.get() == "Anna"
    window.press("Take back")
    window.until(lambda: window.sees("1 image taken back from Anna"), "that it is taken back")
    assert f"unshare --hash {SHA256[:16]} --with Anna" in model.command
    assert they_restore(tmp_path / "later.jpg") == 3
    assert not (tmp_path / "later.jpg").exists()


def test_the_trash_has_what_was_deleted_anywhere_and_gives_it_back(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path
) -> None:
    mine = cluster.add_client(f"{tmp_path.name}-trash", WORDS)
    require_success("producer", cluster.run("producer", str(PHOTOGRAPH), environment=mine))
    require_success("admin", cluster.run("admin", "delete", "--yes", "--hash", SHA256, environment=mine))
    window, model = opened(mine, start_app)
    window.until(lambda: window.sees("There are no images in this vault yet"), "an empty gallery")
    window.press("Trash …")
    window.until(lambda: window.sees("rocket.jpg") and window.sees("until 20"), "what was deleted")
    window.press("Take back")
    window.until(lambda: window.sees("1 image taken back"), "that it is back")
    window.press("Close")
    window.until(lambda: in_gallery(model, SHA256), "the gallery with it")
    window.press("Trash …")
    window.until(lambda: window.sees("The trash is empty"), "a trash without it")
