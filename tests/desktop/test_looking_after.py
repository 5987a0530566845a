"""Gallery, devices and safety in the window: what is lost is seen, asked about before it is done, and mended."""

from __future__ import annotations

import time
from pathlib import Path

from admin.verifying import last_proof
from cluster.local import CHECKOUT, LocalCluster, require_success
from desktop.model.devices import DevicesModel
from desktop.model.entries import Entry
from desktop.model.gallery import GalleryModel
from desktop.model.shown import Listed
from desktop.views.devices import DevicesView
from desktop.views.gallery import GalleryView
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven

PHOTOGRAPHS = ["astronaut.png", "chelsea.png", "rocket.jpg"]


def opened(cluster: LocalCluster, start_app: StartApp) -> Driven:
    """The app at the broker's own machine, whose client is an admin, with photographs in its vault."""
    stored = cluster.run("producer", *(str(CHECKOUT / "samples" / name) for name in PHOTOGRAPHS))
    require_success("producer", stored)
    window = start_app(Path(cluster.environment["TESSERA_HOME"]))
    window.fill_in(0, cluster.environment["TESSERA_PASSPHRASE"])
    window.press("Unlock")
    window.until(lambda: "gallery" in window.app.models, "the gallery")
    return window


def gallery(window: Driven) -> tuple[GalleryModel, GalleryView]:
    model, view = window.app.models["gallery"], window.app._views["gallery"]
    assert isinstance(model, GalleryModel)
    assert isinstance(view, GalleryView)
    return model, view


def shows_all(model: GalleryModel, view: GalleryView) -> bool:
    """Whether the cluster was asked, all is read and what is in sight has its picture."""
    return model.images.looked and all(entry.is_read for entry in model.shown) and not view.tiles.waiting


def in_gallery(model: GalleryModel, sha256: str) -> list[Entry]:
    """The image, where it is shown."""
    return [entry for entry in model.shown if entry.sha256 == sha256]


def test_the_gallery_shows_pictures_finds_by_name_and_tells_of_a_device_that_is_lost(
    fragile_cluster: LocalCluster, start_app: StartApp
) -> None:
    window = opened(fragile_cluster, start_app)
    model, view = gallery(window)
    window.until(lambda: shows_all(model, view), "all pictures")
    assert set(PHOTOGRAPHS) <= {entry.name for entry in model.shown}
    assert {entry.badge.words for entry in model.shown} == {"whole"}
    window.fill_in(0, "chelsea")
    view._search()
    window.until(lambda: [entry.name for entry in model.shown] == ["chelsea.png"], "the one that was looked for")
    model.select(model.shown[0].key)
    window.until(lambda: window.sees("device-1") and window.sees("here"), "where its shares are")
    fragile_cluster.kill_device(1)
    window.app.show("devices")
    window.until(lambda: window.sees("5 of 6 alive") and window.sees("away"), "the device that is gone")
    window.app.show("gallery")
    window.until(lambda: model.shown[0].badge.words == "1 share missing", "the badge")
    window.until(lambda: window.sees("1 more device may be lost"), "what that means")


def test_with_the_broker_away_nothing_is_said_to_be_well(fragile_cluster: LocalCluster, start_app: StartApp) -> None:
    window = opened(fragile_cluster, start_app)
    model, view = gallery(window)
    window.until(lambda: shows_all(model, view), "all pictures")
    model.select(model.shown[0].key)
    window.until(lambda: window.sees("whole"), "how it is")
    fragile_cluster.kill_broker()
    window.until(lambda: window.sees("the broker is not reached"), "that nobody answers", seconds=10)
    window.until(lambda: window.sees("was whole"), "that it was whole then")
    assert "whole" not in window.texts(), "no claim that it still is"
    on_tiles = view.tiles.words
    assert "was whole" in on_tiles
    assert "whole" not in on_tiles
    window.app.show("devices")
    window.until(lambda: window.sees("broker is not reached"), "the same of the devices", seconds=20)
    assert not window.sees("alive")
    window.app.show("gallery")
    fragile_cluster.start_broker()
    window.until(lambda: "whole" in window.texts(), "how it is now")


def test_thousands_of_tiles_are_as_few_as_are_seen(cluster: LocalCluster, start_app: StartApp) -> None:
    window = opened(cluster, start_app)
    model, view = gallery(window)
    window.until(lambda: shows_all(model, view), "all pictures")
    entry = model.shown[0]
    view.tiles.show(Listed([entry] * 5000), None)
    window.app.update()
    items = len(view.tiles.canvas.find_all())
    assert items < 6 * 60
    for place in range(20):
        view.tiles.canvas.yview_moveto(place / 20)
        window.app.update()
    assert len(view.tiles.canvas.find_all()) <= items + 6 * 20


def test_a_device_is_renamed_and_retired_behind_a_question_and_kept_after_all(
    cluster: LocalCluster, start_app: StartApp
) -> None:
    window = opened(cluster, start_app)
    window.app.show("devices")
    model = window.app.models["devices"]
    assert isinstance(model, DevicesModel)
    window.until(lambda: window.sees("device-6"), "the devices")
    act = model.renaming("device-6", "the attic").act
    assert act is not None
    act()
    window.until(lambda: window.sees("the attic"), "the new name")
    view = window.app._views["devices"]
    view.retire("the attic")
    window.until(lambda: window.sees("comes back only by a new invite"), "the question")
    assert not any(row.retiring for row in model.rows)
    window.press("Cancel")
    model.retiring("the attic").act()  # type: ignore[misc]
    window.until(lambda: any(row.retiring for row in model.rows), "the device that is being retired")
    window.press("Keep")
    window.until(lambda: not any(row.retiring for row in model.rows), "the device that stays")
    back = model.renaming("the attic", "device-6").act
    assert back is not None
    back()
    window.until(lambda: window.sees("device-6"), "the old name")


def test_a_machine_that_stores_is_seen_and_revoked_behind_a_question(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path
) -> None:
    before = cluster.run("broker", "members", environment=cluster.broker_environment(1)).stdout
    cluster.add_client(tmp_path.name, None)
    window = opened(cluster, start_app)
    window.app.show("devices")
    model, view = window.app.models["devices"], window.app._views["devices"]
    assert isinstance(model, DevicesModel)
    assert isinstance(view, DevicesView)
    window.until(lambda: model.machines, "the machines")
    view._which.set("Machines that store and bring back")
    view.show()
    assert model.machines is not None
    window.until(lambda: window.sees("(this machine)"), "the app's own machine")
    (laptop,) = [row for row in model.machines if row.key not in before]
    view.revoke_machine(laptop)
    window.until(lambda: window.sees("stores, sees and brings back nothing any more"), "the question")
    window.press("Cancel")
    assert laptop in model.machines
    act = model.revoking_machine(laptop).act
    assert act is not None
    act()
    window.until(lambda: model.machines is not None and laptop not in model.machines, "that it is gone")
    window.until(lambda: window.sees("revoked"), "what was done")


def test_an_invite_is_shown_as_a_line_and_as_a_code(cluster: LocalCluster, start_app: StartApp) -> None:
    window = opened(cluster, start_app)
    window.app.show("devices")
    window.press("Invite …")
    window.press("Make invite")
    window.until(lambda: window.sees("works once, within an hour"), "the invite")
    model = window.app.models["devices"]
    assert isinstance(model, DevicesModel)
    assert model.invite is not None
    assert model.invite.line.startswith("tessera-worker-")
    window.press("Close")
    assert model.invite is None


def test_everything_is_proven_restorable_and_the_window_says_when(cluster: LocalCluster, start_app: StartApp) -> None:
    window = opened(cluster, start_app)
    window.app.show("safety")
    began = int(time.time())
    window.press("Prove everything")
    window.until(lambda: window.sees("every share at hand was read") and window.sees("just now"), "the proof")
    proof = last_proof(Path(cluster.environment["TESSERA_HOME"]))
    assert proof is not None
    assert proof.at >= began
    assert proof.images >= len(PHOTOGRAPHS)
