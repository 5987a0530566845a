"""Entries that start a program at login: a file of XDG autostart, on Windows a value of the Run key.

Desktop Application Autostart Specification 0.5, Desktop Entry Specification 1.5; Microsoft, "Run and RunOnce Registry
Keys".
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path, PurePath
from typing import NamedTuple

from common.errors import cannot_write
from desktop.model.service import Program

_SCRIPT = Path(__file__).resolve().parent / "desktop.py"
_NEEDS_QUOTES = re.compile(r"[\s\"'\\><~|&;$*?#()`]|^$")


class LoginEntry(NamedTuple):
    name: str  # the file's or the value's, one for each program and each of Tessera's folders
    title: str
    command: list[str]

    @property
    def desktop_file(self) -> str:
        """The content of its `.desktop` file."""
        words = " ".join(_quoted(word) for word in self.command)
        return (
            "[Desktop Entry]\n"
            "Type=Application\n"
            f"Name={self.title}\n"
            "Comment=Starts in the background, without a window\n"
            f"Exec={_escaped(words)}\n"
            "Terminal=false\n"
        )

    @property
    def run_value(self) -> str:
        """The text of its value below the Run key."""
        return subprocess.list2cmdline(self.command)


def login_entry(program: Program, home: PurePath, python: str) -> LoginEntry:
    """The entry that starts the program as it was set up in Tessera's folder `home`, without a window."""
    digest = hashlib.sha256(str(home).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    command = [python, str(_SCRIPT), "--at-login", program.value, "--home", str(home)]
    return LoginEntry(f"tessera-{program.value}-{digest}", program.title, command)


def _quoted(word: str) -> str:
    """A word of Exec."""
    if _NEEDS_QUOTES.search(word):
        word = '"' + re.sub(r'(["`$\\])', r"\\\1", word) + '"'
    return word.replace("%", "%%")


def _escaped(text: str) -> str:
    """A value of type string."""
    for plain, escape in (("\\", r"\\"), ("\n", r"\n"), ("\r", r"\r"), ("\t", r"\t")):
        text = text.replace(plain, escape)
    return text


if sys.platform == "win32":
    import winreg

    _RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"

    def enter(entry: LoginEntry) -> None:
        """Start it at each login from now on; NoRoomError where the entry cannot be written."""
        try:
            with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _RUN) as key:
                winreg.SetValueEx(key, entry.name, 0, winreg.REG_SZ, entry.run_value)
        except OSError as error:
            raise cannot_write(rf"HKCU\{_RUN}", error) from None

    def strike(entry: LoginEntry) -> None:
        """Remove the entry, if there is one."""
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _RUN, 0, winreg.KEY_SET_VALUE) as key:
                winreg.DeleteValue(key, entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot_write(rf"HKCU\{_RUN}", error) from None

else:
    import platformdirs

    from common.files import write_private

    def enter(entry: LoginEntry) -> None:
        """Start it at each login from now on; NoRoomError where the entry cannot be written."""
        path = _path(entry)
        try:
            write_private(path, entry.desktop_file.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise cannot_write(path, error) from None

    def strike(entry: LoginEntry) -> None:
        """Remove the entry, if there is one."""
        path = _path(entry)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from None

    def _path(entry: LoginEntry) -> Path:
        return Path(platformdirs.user_config_dir("autostart")) / f"{entry.name}.desktop"
