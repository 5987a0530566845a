"""`repair` says of each image what came of it as soon as that is known, and what it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin import repairing
from admin.events import Event, NothingToDo, Repaired, Stalled
from admin.repairing import repair_held
from common.errors import IntegrityError, NotEnoughError
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from producer.owner import OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

K, N = 3, 5


class Scene:
    """Images on five devices of six, whose shares come and go as the test says."""

    def __init__(self, folder: Path, count: int, devices: int = N + 1) -> None:
        self.cluster = MemoryCluster(devices)
        self.vault = VaultFolder(folder / "home")
        paths = [folder / f"image {number}" for number in range(count)]
        for number, path in enumerate(paths):
            path.write_bytes(chance(f"image {number}", 1000))
        assert run(put(self.cluster, OwnVault(self.vault, KEY), K, N, [str(path) for path in paths]))
        self.encodings = [encoding.encoding_id for encoding in self.cluster.encodings()]
        self.outcomes: list[Repaired] = []
        self.said: list[str] = []  # to a person, in the order in which it was

    def lose(self, encoding: int, shares: int) -> None:
        """Have the first so many devices no longer hold a share of an image."""
        for device in self.cluster.devices[:shares]:
            device.lose(*[key for key in device.shares if key[0] == self.encodings[encoding]])

    def repair(self) -> tuple[int, list[Repaired]]:
        """The exit code, and what was told of each image."""
        repository = Repository(self.cluster.link, self.vault, KEY, self._take)
        return run(repair_held(repository, None, [])), self.outcomes

    def _take(self, event: Event) -> None:
        if isinstance(event, (Repaired, Stalled, NothingToDo)):
            self.said.append(event.text)
        if isinstance(event, Repaired):
            self.outcomes.append(event)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "_LOOK", 0.01)
    monkeypatch.setattr(repairing, "_SURE", 0.05)
    monkeypatch.setattr(repairing, "_TIMEOUT", 0.5)


def test_what_cannot_be_mended_is_said_while_the_rest_is_still_waited_for(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 2)
    scene.lose(0, 3)  # two of three that are needed are left
    scene.lose(1, 1)  # and nobody mends it
    exit_code, outcomes = scene.repair()
    first, waits, last = scene.said
    assert "only 2 of its shares are good and at hand, 3 are needed" in first
    assert waits.startswith("nothing is being done for 1 images; waiting")
    assert "4 of 5 shares are there" in last and "the rest was not rebuilt" in last
    assert exit_code == IntegrityError.exit_code and len(outcomes) == 2


def test_what_every_device_has_a_share_of_already_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairing, "_TIMEOUT", 3600.0)
    scene = Scene(tmp_path, 1, devices=N)
    scene.cluster.devices[0].alive = False
    exit_code, (outcome,) = scene.repair()
    assert exit_code == NotEnoughError.exit_code
    assert "4 devices can take shares, and each takes one: add a device" in outcome.text


def test_what_lacks_devices_is_named_with_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "_TIMEOUT", 3600.0)
    scene = Scene(tmp_path, 1)
    for device in scene.cluster.devices[:3]:
        device.alive = False
    exit_code, (outcome,) = scene.repair()
    assert exit_code == NotEnoughError.exit_code
    assert "connect one of these again: device-1, device-2, device-3" in outcome.text


def test_what_the_steward_tried_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "_TIMEOUT", 3600.0)
    scene = Scene(tmp_path, 1)
    scene.lose(0, 1)
    monkeypatch.setattr(scene.cluster, "due", lambda: 0)
    exit_code, (outcome,) = scene.repair()
    assert exit_code == NotEnoughError.exit_code
    assert "4 of 5 shares are there" in outcome.text and "the rest was not rebuilt" in outcome.text


def test_what_is_mended_while_it_is_asked_for_is_not_called_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, 1)
    (((_, share), held),) = scene.cluster.devices[0].shares.items()
    scene.lose(0, 1)

    def due() -> int:
        """The last is done between the question for the shares and this one."""
        if not scene.cluster.devices[0].shares:
            scene.cluster.devices[0].hold(share, held)
        return 0

    monkeypatch.setattr(scene.cluster, "due", due)
    assert scene.repair()[0] == 0
    assert scene.said == ["  5 of 5 shares, repaired"]


def test_a_broker_that_is_for_ever_at_work_and_does_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, 1)
    scene.lose(0, 1)
    monkeypatch.setattr(scene.cluster, "due", lambda: 1)
    assert scene.repair()[0] == NotEnoughError.exit_code
    assert any("nothing is being done" in line for line in scene.said)


def test_what_is_mended_is_said_as_soon_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "_TIMEOUT", 3600.0)
    scene = Scene(tmp_path, 1)
    (((_, share), held),) = scene.cluster.devices[0].shares.items()
    scene.lose(0, 1)
    monkeypatch.setattr(scene.cluster, "repair", lambda _: scene.cluster.devices[0].hold(share, held))
    assert scene.repair()[0] == 0
    assert scene.said == ["  5 of 5 shares, repaired"]
