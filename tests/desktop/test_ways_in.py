"""The way in: a machine that is new, a passphrase that is wrong, and the keyboard alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import tkinter
from pathlib import Path
from tkinter import filedialog
from typing import TYPE_CHECKING

import pytest

from cluster.local import LocalCluster, program_command
from common.vault.recovery_codes import read_codes
from tests.desktop.conftest import StartApp
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.desktop.driving import Driven

XDOTOOL = shutil.which("xdotool") or ""
WORDS = "four words for keeping"


def copied(window: Driven) -> bool:
    """Whether there is something on the clipboard."""
    try:
        return bool(window.app.clipboard_get())
    except tkinter.TclError:
        return False


def test_a_new_machine_joins_makes_a_vault_hears_of_its_key_and_is_in(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = start_app(tmp_path / "home")
    window.until(lambda: window.sees("Join a cluster"), "the first step")
    window.fill_in(0, "tessera-client-aaaa")
    window.press("Join")
    window.until(lambda: window.sees("this invite is not complete"), "what is wrong with the invite")
    assert window.sees("paste the whole line"), "and what to do about it"

    again = start_app(tmp_path / "home")
    again.fill_in(0, cluster.invite("client"))
    again.press("Join")
    again.until(lambda: again.sees("Your vault"), "the second step")
    again.fill_in(0, WORDS)
    again.fill_in(1, "other words than these")
    again.press("Make the vault")
    again.until(lambda: again.sees("the two passphrases differ"), "what is wrong with the passphrases")
    again.fill_in(0, WORDS)
    again.fill_in(1, WORDS)
    again.press("Make the vault")
    again.until(lambda: again.sees("The key to your images is on this computer only"), "what a key needs")
    assert (tmp_path / "home" / "vault" / "vault.key").exists()
    again.press("Make recovery codes")
    again.until(lambda: again.sees("Shown only now"), "the codes")
    monkeypatch.setattr("desktop.views.overlay._COPIED_FOR", 500)
    for number in (1, 2):
        again.press(f"Copy code {number}")
        assert [code.number for code in read_codes(again.app.clipboard_get())] == [number], "one at a time"
    again.until(lambda: not copied(again), "a clipboard without a code")
    again.key("Escape")
    again.until(lambda: again.sees("neither saved nor printed"), "the question")
    again.app.ask_to_close()
    again.press("Stay")
    again.press("Keep showing them")
    assert again.sees("Shown only now"), "codes that nobody has are still there"
    again.key("Escape")
    again.press("Throw them away")
    again.press("Later")
    again.until(lambda: again.app.title() == "Gallery - Tessera", "the gallery")
    assert again.sees("Your key is on this"), "until it is somewhere else as well"
    monkeypatch.setattr(filedialog, "asksaveasfilename", lambda **_: str(tmp_path / "copy.key"))
    again.press("Your key is on this\ncomputer only")
    again.press("Save a copy …")
    again.until(lambda: (tmp_path / "copy.key").exists() and not again.sees("Your key is on this"), "the copy")


def test_a_wrong_passphrase_is_refused_and_the_right_one_opens_still(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path
) -> None:
    home = Path(cluster.add_client(f"{tmp_path.name}-locked", WORDS)["TESSERA_HOME"])
    window = start_app(home)
    window.fill_in(0, "four words for losing")
    window.press("Unlock")
    window.until(lambda: window.sees("does not open this key file"), "that it is wrong")
    assert window.app.title() == "Unlock - Tessera"
    window.fill_in(0, WORDS)
    window.press("Unlock")
    window.until(lambda: window.app.title() == "Gallery - Tessera", "the gallery")
    assert not window.sees("does not open this key file")


@pytest.mark.skipif(not XDOTOOL, reason="no xdotool (Debian: apt install xdotool)")
def test_the_program_itself_is_unlocked_by_keyboard_alone(cluster: LocalCluster, screen: str, tmp_path: Path) -> None:
    environment = {**os.environ, **cluster.add_client(f"{tmp_path.name}-typing", WORDS), "DISPLAY": screen}
    del environment["TESSERA_PASSPHRASE"]

    def xdotool(*arguments: str) -> str:
        return subprocess.run(
            [XDOTOOL, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=30
        ).stdout.strip()

    def is_open(title: str) -> bool:
        return bool(xdotool("search", "--name", f"^{title} - Tessera$"))

    def typed_and_open() -> bool:
        """Type the passphrase in place of what the field has, and see whether that opens it before long."""
        xdotool("key", "ctrl+slash")
        xdotool("type", "--delay", "5", WORDS)
        xdotool("key", "Return")
        end = time.monotonic() + 8
        while not is_open("Gallery") and time.monotonic() < end:
            time.sleep(0.02)
        return is_open("Gallery")

    with subprocess.Popen(program_command("desktop"), env=environment, stderr=subprocess.PIPE) as program:
        try:
            wait_until(lambda: is_open("Unlock"), "the window")
            window = xdotool("search", "--name", "^Unlock - Tessera$").split()[-1]
            xdotool("windowfocus", "--sync", window)
            wait_until(typed_and_open, "the gallery")
            # Again and again: a key that is pressed while the window is being made may be nobody's.
            wait_until(
                lambda: xdotool("key", "ctrl+1") == "" and is_open("Store"),
                "the view behind Ctrl-1",
            )
            assert program.poll() is None
        finally:
            program.kill()
