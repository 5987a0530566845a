"""A machine that was invited with --add-only stores and restores, and harms nothing, whatever its programs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.local import LocalCluster
from common.errors import RefusedError
from common.link.link import Link, run_with_link
from common.link.questions import list_encodings
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair
from common.protocol.messages import Code, Empty
from common.protocol.operations import DELETE, RETIRE_OWNER
from common.vault.folder import VaultFolder
from tests.support.programs import User, random_bytes, sha256_of
from tests.support.shared_vault import bring_vault

REFUSED = 6


@pytest.fixture
def adding(cluster: LocalCluster, user: User, tmp_path: Path) -> User:
    """Another machine of the user's, with the same vault, that may only add."""
    environment = cluster.add_client(f"{tmp_path.name}-adding", None, options=["--add-only"])
    other = User({**user.environment, "TESSERA_HOME": environment["TESSERA_HOME"]}, tmp_path / "adding")
    bring_vault(cluster, user, other)
    return other


def test_it_stores_lists_and_restores_what_any_machine_of_the_vault_stored(user: User, adding: User) -> None:
    theirs, ours = random_bytes(300_000), random_bytes(5000)
    hashes = [user.store_bytes(theirs)["sha256"], adding.store_bytes(ours)["sha256"]]
    for each in (user, adding):
        assert {image["sha256"] for image in each.listed()} >= set(hashes)
        for content, sha256 in zip((theirs, ours), hashes):
            assert each.restore(sha256, output=each.folder / sha256).exit_code == 0
            assert sha256_of((each.folder / sha256).read_bytes()) == sha256_of(content)


def test_its_programs_say_before_they_begin_what_it_may_not(user: User, adding: User, tmp_path: Path) -> None:
    sha256 = user.store_bytes(random_bytes(5000))["sha256"]
    (user.folder / "photos").mkdir()
    (user.folder / "photos" / "a").write_bytes(random_bytes(100))
    user.store("photos", TESSERA_NO_SNAPSHOT="0")
    commands: list[tuple[str, ...]] = [
        ("delete", "--yes", "--hash", sha256),
        ("undelete", "--hash", sha256),
        ("strengthen", "--all"),
        ("forget", "--keep-last", "1"),
        ("prune", "--yes"),
        ("vault", "rotate", "--yes", "--backup", str(tmp_path / "backup")),
    ]
    for command in commands:
        ended = adding.run("admin", *command, TESSERA_NEW_PASSPHRASE="another passphrase")
        assert ended.exit_code == REFUSED, (command, ended)
        assert "can neither delete nor change what is stored" in ended.stderr, (command, ended)
    for dry in (commands[0], commands[3], commands[4]):
        looked = adding.run("admin", *(word for word in dry if word != "--yes"), "--dry-run")
        assert looked.exit_code == 0, (dry, looked)
    assert user.run("admin", "verify", "--all").exit_code == 0
    assert user.restore(sha256, output=user.folder / "whole").exit_code == 0


def test_a_changed_program_of_it_deletes_nothing_either(user: User, adding: User) -> None:
    sha256 = user.store_bytes(random_bytes(5000))["sha256"]
    key = VaultFolder(adding.home).unlock(adding.environment["TESSERA_PASSPHRASE"])
    identity = ClientIdentity(
        load_key_pair(adding.home / "client" / "client.key"), load_brokers(adding.home / "client" / "brokers.json")
    )

    async def refused(link: Link, operation: Any, header: Any, **where: Any) -> Code:
        with pytest.raises(RefusedError, match="neither delete nor change"):
            await link.request(operation, header, **where)
        link.require_changes_allowed = lambda: None  # type: ignore[method-assign]
        try:
            with pytest.raises(DeclinedError) as declined:
                await link.request(operation, header, **where)
        finally:
            del link.require_changes_allowed
        return declined.value.code

    async def harm() -> None:
        async with Link(identity, key.owner_proof(identity.key_pair.public)) as link:
            wanted = key.object_id(bytes.fromhex(sha256))
            (encoding,) = [each for each in await list_encodings(link) if each.object_id == wanted]
            for share in encoding.shares:
                tombstone = key.tombstone(wanted, encoding.encoding_id, 1)
                assert await refused(link, DELETE, tombstone, device=share.device_id) is Code.NOT_ALLOWED
            assert await refused(link, RETIRE_OWNER, Empty()) is Code.NOT_ALLOWED

    run_with_link(harm)
    assert user.restore(sha256, output=user.folder / "whole").exit_code == 0
