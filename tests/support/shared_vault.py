"""One vault on two machines."""

from __future__ import annotations

from cluster.local import LocalCluster, require_success
from tests.support.programs import User


def bring_vault(cluster: LocalCluster, user: User, other: User) -> None:
    """Bring a user's vault in its key file to another machine of theirs, which was let in."""
    key_file = user.folder / "vault.key"
    exported = cluster.run("admin", "vault", "export", str(key_file), environment=user.environment)
    require_success("admin", exported)
    imported = other.run("admin", "vault", "import", str(key_file))
    assert imported.exit_code == 0, imported
