"""What devices, the broker and the logs must never hold, and the user's own disk only under the vault key."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import home_of
from tests.cluster.programs import User, files_below, random_bytes, sha256_of

PASSPHRASE = "nine words that nobody else would ever think of"
NAME = "uncle-wanja-at-the-lake-1978.bin"
WINDOW = 32  # bytes of the image that must not be found anywhere


def occurrences(folders: list[Path], needles: dict[str, bytes]) -> list[str]:
    found = []
    for path in [path for folder in folders for path in files_below(folder)]:
        content = path.read_bytes()
        found += [f"{what} in {path}" for what, needle in needles.items() if needle in content]
    return found


@pytest.fixture(scope="module")
def storing(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[User, dict[str, bytes]]:
    """A user who stored a small and a long image, listed and restored them; and what nobody may find."""
    user = User(cluster.add_client("secretive", PASSPHRASE), tmp_path_factory.mktemp("secretive"))
    needles = {"the passphrase": PASSPHRASE.encode(), "the name": NAME.encode()}
    for place, size in (("small", 50_000), ("long", 9_000_000)):
        content = random_bytes(size)
        path = user.folder / place / NAME
        path.parent.mkdir()
        path.write_bytes(content)
        (stored,) = user.store(str(path))
        digest = bytes.fromhex(stored["sha256"])
        assert sha256_of(content) == stored["sha256"]
        needles[f"the {place} image's hash"] = digest
        needles[f"the {place} image's hash in hex"] = digest.hex().encode()
        needles[f"the {place} image's hash in base64"] = base64.b64encode(digest)[:-2]
        for offset in (0, size // 2, size - WINDOW):
            needles[f"a slice of the {place} image at {offset}"] = content[offset : offset + WINDOW]
    for image in user.listed():
        assert user.run("consumer", "--hash", image["sha256"], "--output", "-").exit_code == 0
    return user, needles


def test_the_search_finds_what_is_there(storing: tuple[User, dict[str, bytes]]) -> None:
    user, needles = storing
    found = occurrences([user.folder], {what: needle for what, needle in needles.items() if "slice" in what})
    assert len(found) == 6


def test_devices_broker_and_logs_hold_no_name_hash_passphrase_or_slice(
    cluster: LocalCluster, storing: tuple[User, dict[str, bytes]]
) -> None:
    _, needles = storing
    folders = [cluster.directory / name for name in ("logs", *cluster.devices)] + [home_of(cluster) / "broker"]
    assert all(files_below(folder) for folder in folders)
    assert occurrences(folders, needles) == []


def test_the_users_own_home_holds_them_under_the_vault_key_only(
    storing: tuple[User, dict[str, bytes]],
) -> None:
    user, needles = storing
    assert occurrences([user.home], needles) == []


def test_key_files_are_their_owners_alone(cluster: LocalCluster, storing: tuple[User, dict[str, bytes]]) -> None:
    user, _ = storing
    keys = [user.home / "vault" / "vault.key", user.home / "client" / "client.key"]
    keys += [home_of(cluster) / "broker" / "broker.key", cluster.directory / "device-1" / "device.key"]
    assert {oct(path.stat().st_mode & 0o777) for path in keys} == {"0o600"}
