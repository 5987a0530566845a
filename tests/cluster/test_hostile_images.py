"""Images made to harm whoever decodes them: stored and given back byte for byte, and never decoded by the producer."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from cluster.local import program_command
from tests import ROOT
from tests.support.bombs import BOMBS
from tests.support.programs import User, finish, random_bytes, sha256_of

SAMPLE = ROOT / "samples" / "rocket.jpg"


def test_bombs_are_stored_byte_for_byte_beside_a_photograph_that_gets_its_thumbnail(user: User) -> None:
    folder = user.folder / "pictures"
    folder.mkdir()
    contents = {name: make() for name, (make, _) in BOMBS.items()}
    contents["photograph"] = SAMPLE.read_bytes()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    stored = user.store(str(folder))
    assert {image["sha256"] for image in stored} == {sha256_of(content) for content in contents.values()}
    types = {image["name"]: image["media_type"] for image in user.listed()}
    expected = {name: media_type for name, (_, media_type) in BOMBS.items()}
    assert types == {**expected, "photograph": "image/jpeg"}
    output = user.folder / "restored"
    assert user.run("consumer", "--all", "--output", str(output)).exit_code == 0
    assert {path.name: path.read_bytes() for path in output.iterdir()} == contents


def test_the_producers_own_process_never_loads_a_decoder(user: User) -> None:
    """As Python itself tells of every module that it imports; the child's stderr is nobody's."""
    command = program_command("producer", "--json", str(SAMPLE))
    with user.started_as([sys.executable, "-X", "importtime", *command[1:]]) as process:
        ended = finish(process)
    assert ended.exit_code == 0
    imported = [
        line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")
    ]
    assert "viewer.process" in imported
    assert [name for name in imported if name.partition(".")[0] == "PIL"] == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_an_image_with_a_hostile_name_is_listed_on_one_line_that_does_nothing(user: User) -> None:
    name = "\x1b]0;owned\x07\x1b[2J\nholiday\u202egpj.exe"
    (user.folder / name).write_bytes(b"GIF89a" + random_bytes(100))
    user.store(name)
    ended = user.run("consumer", "--list")
    text = ended.stdout.decode()
    assert "holiday" in text
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert user.listed()[0]["name"] == name
    output = user.folder / "restored"
    assert user.run("consumer", "--all", "--output", str(output)).exit_code == 0
    (path,) = output.iterdir()
    assert not any(unicodedata.category(character) == "Cc" for character in path.name)
