"""Which peers take part in the bench, and what their commands give away."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import peers as module
from bench.peers import peers
from bench.transfers import curl

ALL = {"tahoe", "zfec", "gluster", "swift"}


def test_a_peer_that_is_not_installed_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "COMMANDS", str(tmp_path))
    with peers(tmp_path, ALL) as found:
        assert found == []
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" is left out: ")[0] for line in said] == [
        "scp",
        "rsync",
        "openssl with zfec",
        "age with zfec",
        "restic",
        "Tahoe-LAFS",
        "GlusterFS",
        "OpenStack Swift",
    ]
    assert "restic is left out: restic is not installed here" in said


def test_what_is_transferred_stands_in_no_command_line(tmp_path: Path) -> None:
    settings, kept = tmp_path / "settings", tmp_path / "kept"
    command = curl(settings, [("http://127.0.0.1/uri/secret", kept, None), ("http://127.0.0.1/uri", kept, kept)], 4)
    assert "secret" not in " ".join(command)
    assert settings.read_text().splitlines() == [
        'url = "http://127.0.0.1/uri/secret"',
        f'output = "{kept}"',
        'url = "http://127.0.0.1/uri"',
        f'output = "{kept}"',
        f'upload-file = "{kept}"',
    ]
