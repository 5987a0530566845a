"""One vault sees its own images and no other's, on any machine that was admitted and holds the key file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import MakeUser
from tests.support.programs import User, random_bytes, sha256_of
from tests.support.shared_vault import bring_vault

LIMIT = 6.0  # seconds of a processor in which a wrong passphrase is refused; two, on one that is not slow
# Two texts whose SHA-256 begin with the same eight digits, 5a224ac4.
TWINS = [b"image 9808", b"image 45671"]


def second_machine(cluster: LocalCluster, user: User, folder: Path) -> User:
    """The same person at another machine: admitted there, the vault brought along in its key file."""
    environment = {**user.environment, "TESSERA_HOME": str(folder / "home")}
    other = User(environment, folder)
    joined = other.run("admin", "join", cluster.invite("client"))
    assert joined.exit_code == 0, joined
    bring_vault(cluster, user, other)
    return other


def test_two_images_of_one_user_are_both_there(user: User) -> None:
    contents = [random_bytes(2000), random_bytes(2000)]
    hashes = [user.store_bytes(content)["sha256"] for content in contents]
    assert {image["sha256"] for image in user.listed()} == set(hashes)
    for sha256, content in zip(hashes, contents):
        assert user.restore(sha256, output=user.folder / sha256).exit_code == 0
        assert (user.folder / sha256).read_bytes() == content


@pytest.mark.parametrize(
    ("program", "line", "said"),
    [
        ("consumer", "--list", "the vault holds no image"),
        ("consumer", "--list --json", "the vault holds no image"),
        ("consumer", "--all --output pictures", "the vault holds no image"),
        ("admin", "verify --all --json", "the vault holds no image"),
        ("admin", "undelete --list", "the trash is empty"),
    ],
)
def test_a_vault_with_nothing_in_it_says_so_on_stderr(user: User, program: str, line: str, said: str) -> None:
    ended = user.run(program, *line.split())
    assert ended.exit_code == 0 and ended.stdout == b"", ended
    assert said in ended.stderr


def test_two_users_do_not_see_list_or_restore_each_others_images(make_user: MakeUser) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    hers, his = alice.store_bytes(random_bytes(3000)), bob.store_bytes(random_bytes(3000))
    assert [image["sha256"] for image in alice.listed()] == [hers["sha256"]]
    assert [image["sha256"] for image in bob.listed()] == [his["sha256"]]
    for user, of_another in ((alice, his), (bob, hers)):
        for sha256 in (of_another["sha256"], of_another["sha256"][:12]):
            ended = user.restore(sha256, output=user.folder / "stolen")
            assert ended.exit_code == 3, ended
            assert not (user.folder / "stolen").exists()


def test_two_users_may_store_the_same_image_and_neither_learns_of_it(make_user: MakeUser) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    content = random_bytes(3000)
    hers = alice.store_bytes(content)
    his = bob.store_bytes(content)  # which requires that it is not known already
    assert hers["sha256"] == his["sha256"]
    for user in (alice, bob):
        assert len(user.listed()) == 1
        assert user.restore(his["sha256"], output=user.folder / "out").exit_code == 0
        assert (user.folder / "out").read_bytes() == content


def test_the_vault_on_a_second_machine_lists_and_restores_everything(
    cluster: LocalCluster, user: User, tmp_path: Path
) -> None:
    contents = {sha256_of(content): content for content in (random_bytes(1000), random_bytes(5_000_000), b"")}
    for content in contents.values():
        user.store_bytes(content)
    other = second_machine(cluster, user, tmp_path / "laptop")
    there = {image["sha256"]: image for image in other.listed()}
    assert set(there) == set(contents)
    assert sorted(there.values(), key=str) == sorted(user.listed(), key=str)
    for sha256, content in contents.items():
        ended = other.restore(sha256[:10], output=other.folder / sha256)
        assert ended.exit_code == 0, ended
        assert (other.folder / sha256).read_bytes() == content


def test_three_recovery_codes_of_five_bring_all_images_back_on_a_new_machine(
    cluster: LocalCluster, user: User, tmp_path: Path
) -> None:
    content = random_bytes(5_000_000)
    sha256 = user.store_bytes(content)["sha256"]
    sheets = user.run("admin", "vault", "recovery", "--of", "5", "--need", "3").stdout.decode("ascii")
    codes = ["# Tessera" + sheet for sheet in sheets.split("# Tessera")[1:]]
    assert len(codes) == 5
    other = second_machine(cluster, user, tmp_path / "laptop")
    (other.home / "vault" / "vault.key").unlink()
    other.environment["TESSERA_PASSPHRASE"] = "the passphrase of the new machine"
    too_few = other.run("admin", "vault", "restore", stdin="".join(codes[:2]).encode())
    assert too_few.exit_code != 0 and not (other.home / "vault" / "vault.key").exists(), too_few
    ended = other.run("admin", "vault", "restore", stdin="".join([codes[4], codes[0], codes[2]]).encode())
    assert ended.exit_code == 0, ended
    assert [image["sha256"] for image in other.listed()] == [sha256]
    assert other.restore(sha256, output=other.folder / "copy").exit_code == 0
    assert (other.folder / "copy").read_bytes() == content


def test_a_second_machine_restores_by_hash_alone_and_recognises_what_is_stored(
    cluster: LocalCluster, user: User, tmp_path: Path
) -> None:
    content = random_bytes(4000)
    sha256 = user.store_bytes(content)["sha256"]
    other = second_machine(cluster, user, tmp_path / "laptop")
    assert other.restore(sha256, output=other.folder / "copy.bin").exit_code == 0
    assert (other.folder / "copy.bin").read_bytes() == content
    (again,) = other.store("copy.bin")
    assert again["already_stored"] is True


@pytest.mark.parametrize("digits", [8, 40, 64])
def test_a_unique_prefix_of_eight_or_more_digits_will_do(owner: User, digits: int) -> None:
    content = random_bytes(500)
    sha256 = owner.store_bytes(content)["sha256"]
    prefix = sha256[:digits]
    for text in {prefix, prefix.upper()} if digits < 64 else {prefix}:
        ended = owner.restore(text, output=owner.folder / text)
        assert ended.exit_code == 0, ended
        assert (owner.folder / text).read_bytes() == content


@pytest.mark.parametrize("text", ["", "1234567", "xyzxyzxyz", "0" * 65, "../../../etc"])
def test_what_is_no_hash_or_too_short_is_a_usage_error(owner: User, text: str) -> None:
    assert owner.run("consumer", "--hash", text).exit_code == 2


def test_an_ambiguous_prefix_is_a_usage_error(user: User) -> None:
    hashes = [user.store_bytes(content)["sha256"] for content in TWINS]
    assert hashes[0][:8] == hashes[1][:8]
    ended = user.restore(hashes[0][:8], output=user.folder / "out")
    assert ended.exit_code == 2, ended
    assert "2 images" in ended.stderr
    assert not (user.folder / "out").exists()
    length = next(length for length in range(8, 64) if hashes[0][:length] != hashes[1][:length])
    assert user.restore(hashes[0][:length], output=user.folder / "out").exit_code == 0
    assert (user.folder / "out").read_bytes() == TWINS[0]


@pytest.mark.parametrize("text", ["ab" * 32, "abababab"])
def test_an_unknown_hash_is_not_found(owner: User, text: str) -> None:
    ended = owner.restore(text, output=owner.folder / "out")
    assert ended.exit_code == 3, ended
    assert text in ended.stderr
    assert not (owner.folder / "out").exists()


@pytest.mark.real_starts
@pytest.mark.parametrize(
    "command",
    [("consumer", "--list"), ("producer", "image.bin"), ("admin", "vault", "passphrase")],
    ids=["consumer", "producer", "admin"],
)
def test_a_wrong_passphrase_is_refused_in_time(user: User, command: tuple[str, ...]) -> None:
    (user.folder / "image.bin").write_bytes(b"image")
    ended = user.run(*command, TESSERA_PASSPHRASE="a guess", TESSERA_NEW_PASSPHRASE="mine now")
    assert ended.exit_code == 6, ended
    # Deriving the key is all that takes time; the clock on the wall would measure the other tests, too.
    assert ended.processor_seconds < LIMIT
    assert "passphrase" in ended.stderr
    assert "a guess" not in ended.stderr


def test_no_passphrase_is_refused_with_the_ways_to_give_one(user: User) -> None:
    del user.environment["TESSERA_PASSPHRASE"]
    ended = user.run("consumer", "--list")
    assert ended.exit_code == 6, ended
    assert "TESSERA_PASSPHRASE" in ended.stderr
    assert "--passphrase-file" in ended.stderr


def test_a_passphrase_comes_from_a_file(user: User) -> None:
    (user.folder / "secret").write_text(user.environment.pop("TESSERA_PASSPHRASE") + "\n", encoding="utf-8")
    ended = user.run("consumer", "--list", "--passphrase-file", "secret")
    assert ended.exit_code == 0, ended


def test_a_changed_passphrase_opens_what_was_stored_before_and_the_old_one_nothing(user: User) -> None:
    sha256 = user.store_bytes(b"stored under the old passphrase")["sha256"]
    changed = user.run("admin", "vault", "passphrase", TESSERA_NEW_PASSPHRASE="a new one: ключ")
    assert changed.exit_code == 0, changed
    assert user.run("consumer", "--list").exit_code == 6
    user.environment["TESSERA_PASSPHRASE"] = "a new one: ключ"
    assert [image["sha256"] for image in user.listed()] == [sha256]
    assert user.restore(sha256, output=user.folder / "out").exit_code == 0


def test_a_vault_is_never_made_or_brought_over_another(user: User, make_user: MakeUser) -> None:
    key_file = user.home / "vault" / "vault.key"
    before = key_file.read_bytes()
    assert user.run("admin", "vault", "create").exit_code == 2
    other = make_user("other")
    exported = user.folder / "other.key"
    assert other.run("admin", "vault", "export", str(exported)).exit_code == 0
    passphrase = other.environment["TESSERA_PASSPHRASE"]
    assert user.run("admin", "vault", "import", str(exported), TESSERA_PASSPHRASE=passphrase).exit_code == 2
    assert key_file.read_bytes() == before


def test_an_export_overwrites_nothing(user: User) -> None:
    (user.folder / "precious").write_bytes(b"precious")
    assert user.run("admin", "vault", "export", "precious").exit_code == 2
    assert (user.folder / "precious").read_bytes() == b"precious"


def test_a_damaged_key_file_is_refused(user: User) -> None:
    exported = user.folder / "vault.key"
    assert user.run("admin", "vault", "export", str(exported)).exit_code == 0
    content = bytearray(exported.read_bytes())
    content[-1] ^= 1
    exported.write_bytes(content)
    fresh = User({**user.environment, "TESSERA_HOME": str(user.folder / "fresh")}, user.folder)
    ended = fresh.run("admin", "vault", "import", str(exported))
    assert ended.exit_code in (4, 6), ended
    assert not (fresh.home / "vault" / "vault.key").exists()
