"""A broker that codes wrongly, or alters what it passes on: it is named, and nothing wrong is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.soak.ground import SoakCluster, new_cluster, new_user
from tests.soak.hostile_broker import Lie
from tests.soak.hostile_schedules import give_orders
from tests.support.devices import held_shares, wait_nothing_staged
from tests.support.programs import User, random_bytes, sha256_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the hostile broker is started as only there")
LARGE = 9_000_000  # bytes: three segments of 4 of 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoakCluster]:
    with new_cluster(tmp_path_factory.mktemp("coding"), 6) as cluster:
        tell(cluster)
        cluster.kill_broker()
        cluster.start_lying_broker(cluster.directory / "orders.json")
        cluster.wait_alive()
        yield cluster


def tell(cluster: SoakCluster, *lies: Lie) -> None:
    """Have the broker lie so from now on."""
    give_orders(cluster.directory / "orders.json", 1, lies)


def put(user: User, content: bytes, *options: str) -> tuple[int, str]:
    """Exit code of storing a file of this content, and what was said."""
    (user.folder / "large.bin").write_bytes(content)
    ended = user.run("producer", *options, "large.bin")
    return ended.exit_code, ended.stderr


def check_restored(user: User, content: bytes) -> None:
    out = user.folder / "out.bin"
    assert user.restore(sha256_of(content), output=out).exit_code == 0
    assert out.read_bytes() == content
    out.unlink()


def test_a_broker_that_codes_wrongly_is_named_and_what_was_stored_is_right(cluster: SoakCluster) -> None:
    user, content = new_user(cluster, "miscoded"), random_bytes(LARGE)
    tell(cluster, Lie.MISCODES)
    exit_code, said = put(user, content)
    tell(cluster)
    assert exit_code == 0, said
    assert f"the broker at tcp://127.0.0.1:{cluster.base_port} had coded wrongly" in said
    assert "DEGRADED" not in said
    check_restored(user, content)


def test_so_it_is_with_small_images(cluster: SoakCluster) -> None:
    user = new_user(cluster, "small")
    contents = [random_bytes(500 + 3000 * number) for number in range(12)]
    for number, content in enumerate(contents):
        (user.folder / f"{number}.bin").write_bytes(content)
    tell(cluster, Lie.MISCODES)
    ended = user.run("producer", *(f"{number}.bin" for number in range(12)))
    tell(cluster)
    assert ended.exit_code == 0, ended
    assert f"the broker at tcp://127.0.0.1:{cluster.base_port} had coded wrongly" in ended.stderr
    assert "DEGRADED" not in ended.stderr
    for content in contents:
        check_restored(user, content)


def test_who_codes_alone_notices_nothing_of_it(cluster: SoakCluster) -> None:
    user, content = new_user(cluster, "alone"), random_bytes(LARGE)
    tell(cluster, Lie.MISCODES)
    exit_code, said = put(user, content, "--code", "client")
    tell(cluster)
    assert exit_code == 0
    assert "broker" not in said
    check_restored(user, content)


@pytest.mark.parametrize("code_at", ["broker", "client"])
def test_a_broker_that_alters_all_blocks_is_named_and_nothing_is_stored(cluster: SoakCluster, code_at: str) -> None:
    user, content = new_user(cluster, f"altered {code_at}"), random_bytes(LARGE)
    before = held_shares(cluster)
    tell(cluster, Lie.ALTERS)
    exit_code, said = put(user, content, "--code", code_at)
    tell(cluster)
    assert exit_code == 4, said
    assert f"got other blocks than were sent by way of the broker at tcp://127.0.0.1:{cluster.base_port}" in said
    assert held_shares(cluster) == before
    wait_nothing_staged(cluster)
    assert user.listed() == []
    assert put(user, content)[0] == 0, "the same broker, which does not lie any more"
    check_restored(user, content)
