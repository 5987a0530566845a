"""Where a restored image goes: never over what is there, never half of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.programs import User, files_below, random_bytes, sha256_of

NAME = "the image.bin"


@pytest.fixture
def content() -> bytes:
    return random_bytes(5_000_000)


@pytest.fixture
def sha256(owner: User, content: bytes, tmp_path: Path) -> str:
    """An image called NAME; the owner's folder is empty again."""
    (tmp_path / NAME).write_bytes(content)
    (stored,) = owner.store(str(tmp_path / NAME))
    return str(stored["sha256"])


def test_without_output_it_is_the_original_name_in_the_current_folder(owner: User, sha256: str, content: bytes) -> None:
    ended = owner.run("consumer", "--hash", sha256)
    assert ended.exit_code == 0, ended
    assert files_below(owner.folder) == [owner.folder / NAME]
    assert (owner.folder / NAME).read_bytes() == content


def test_an_existing_file_is_not_touched_without_force(owner: User, sha256: str, content: bytes) -> None:
    for path, options in ((owner.folder / NAME, ()), (owner.folder / "out", ("--output", "out"))):
        path.write_bytes(b"precious")
        ended = owner.run("consumer", "--hash", sha256, *options)
        assert ended.exit_code == 2, ended
        assert "--force" in ended.stderr
        assert path.read_bytes() == b"precious"
        forced = owner.run("consumer", "--hash", sha256, "--force", *options)
        assert forced.exit_code == 0, forced
        assert path.read_bytes() == content
    assert len(files_below(owner.folder)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_is_not_written_through(owner: User, sha256: str) -> None:
    (owner.folder / "precious").write_bytes(b"precious")
    (owner.folder / "out").symlink_to("precious")
    assert owner.run("consumer", "--hash", sha256, "--output", "out").exit_code == 2
    assert owner.run("consumer", "--hash", sha256, "--output", "out", "--force").exit_code == 0
    assert (owner.folder / "precious").read_bytes() == b"precious"


def test_a_folder_takes_the_image_under_its_own_name(owner: User, sha256: str, content: bytes) -> None:
    (owner.folder / "there").mkdir()
    for folder in ("there", "new/"):
        ended = owner.run("consumer", "--hash", sha256, "--output", folder)
        assert ended.exit_code == 0, ended
        assert (owner.folder / folder / NAME).read_bytes() == content


def test_a_missing_folder_is_not_found(owner: User, sha256: str) -> None:
    ended = owner.run("consumer", "--hash", sha256, "--output", "no/where/image")
    assert ended.exit_code == 3, ended
    assert files_below(owner.folder) == []


def test_stdout_gives_the_bytes_and_nothing_else(owner: User, sha256: str, content: bytes) -> None:
    for options in ((), ("--json",)):
        ended = owner.run("consumer", "--hash", sha256, "--output", "-", *options)
        assert ended.exit_code == 0, ended
        assert ended.stdout == content
    assert files_below(owner.folder) == []


def test_stdout_gets_nothing_of_an_image_that_is_not_there(owner: User) -> None:
    ended = owner.run("consumer", "--hash", "cd" * 32, "--output", "-")
    assert (ended.exit_code, ended.stdout) == (3, b"")


def test_what_is_printed_is_the_hash_and_the_path(owner: User, sha256: str) -> None:
    ended = owner.run("consumer", "--hash", sha256, "--output", "out")
    assert ended.lines == [f"{sha256}  out"]
    as_json = owner.run("consumer", "--hash", sha256, "--output", "other", "--json")
    (restored,) = as_json.objects
    assert (restored["sha256"], restored["path"], restored["name"]) == (sha256, "other", NAME)
    assert restored["bytes"] == 5_000_000


def test_one_missing_image_does_not_stop_the_others(owner: User, sha256: str, content: bytes) -> None:
    ended = owner.restore("ef" * 32, sha256, output=owner.folder / "out")
    assert ended.exit_code == 3, ended
    assert (owner.folder / "out" / NAME).read_bytes() == content


def test_two_images_of_one_name_get_names_that_differ(user: User) -> None:
    contents = [b"first", b"second"]
    for place, content in zip(("a", "b"), contents):
        (user.folder / place).mkdir()
        (user.folder / place / "same.bin").write_bytes(content)
    user.store("a", "b")
    assert user.run("consumer", "--all", "--output", "out").exit_code == 0
    assert {path.read_bytes() for path in files_below(user.folder / "out")} == set(contents)


@pytest.mark.parametrize("options", [(), ("--list", "--hash", "ab" * 32), ("--all",)])
def test_an_order_that_makes_no_sense_is_a_usage_error(owner: User, options: tuple[str, ...]) -> None:
    assert owner.run("consumer", *options).exit_code == 2


def test_a_name_that_points_elsewhere_stays_in_the_folder(user: User) -> None:
    content = random_bytes(100)
    ended = user.run("producer", "-", "--name", "../../outside.bin", stdin=content)
    assert ended.exit_code in (0, 2), ended
    if ended.exit_code == 0:
        (user.folder / "deep" / "er").mkdir(parents=True)
        restored = user.run("consumer", "--hash", sha256_of(content), "--output", "deep/er")
        assert restored.exit_code == 0, restored
        (path,) = files_below(user.folder)
        assert path.parent == user.folder / "deep" / "er"


def test_many_hashes_come_from_stdin_and_a_line_that_is_none_costs_itself_only(owner: User) -> None:
    contents = {f"{number}.bin": random_bytes(1000) for number in range(3)}
    for name, content in contents.items():
        (owner.folder / name).write_bytes(content)
    lines = owner.run("producer", *contents).lines  # as sha256sum prints them
    whole, short, _ = lines
    gone = "0" * 64
    listed = "\n".join([whole, short[:12], "", "no hash", gone, whole, lines[2]]).encode()
    ended = owner.run("consumer", "--hash", "-", "--output", "back", stdin=listed)
    assert ended.exit_code == 2, ended
    assert {path.name: path.read_bytes() for path in files_below(owner.folder / "back")} == contents
    assert "line 4 of stdin: 'no' is not a SHA-256" in ended.stderr
    assert f"no image with the SHA-256 {gone}" in ended.stderr
    assert "3 restored, 2 not" in ended.stderr
    one = owner.run("consumer", "--hash", "-", "--output", "one", stdin=whole.encode())
    assert (one.exit_code, [path.name for path in files_below(owner.folder / "one")]) == (0, ["0.bin"]), one
    nothing = owner.run("consumer", "--hash", "-", stdin=b"\n")
    assert (nothing.exit_code, nothing.stdout) == (3, b""), nothing
    refused = owner.run("consumer", "--hash", "-", "--output", "-", stdin=whole.encode())
    assert (refused.exit_code, refused.stdout) == (2, b""), refused
