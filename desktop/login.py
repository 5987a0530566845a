"""The entries by which the system starts programs when this user logs in: XDG autostart, on Windows the Run key."""

from __future__ import annotations

import sys

from common.errors import cannot_write
from desktop.model.login_entry import LoginEntry

if sys.platform == "win32":
    import winreg

    _RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"

    def enter(entry: LoginEntry) -> None:
        """Have it started at each login from now on; NoRoomError where that cannot be noted."""
        try:
            with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _RUN) as key:
                winreg.SetValueEx(key, entry.name, 0, winreg.REG_SZ, entry.run_value)
        except OSError as error:
            raise cannot_write(rf"HKCU\{_RUN}", error) from None

    def strike(entry: LoginEntry) -> None:
        """Have it started no more; one that is not there is fine."""
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _RUN, 0, winreg.KEY_SET_VALUE) as key:
                winreg.DeleteValue(key, entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot_write(rf"HKCU\{_RUN}", error) from None

else:
    from pathlib import Path

    import platformdirs

    from common.files import write_private

    def enter(entry: LoginEntry) -> None:
        """Have it started at each login from now on; NoRoomError where that cannot be noted."""
        path = _path(entry)
        try:
            write_private(path, entry.desktop_file.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise cannot_write(path, error) from None

    def strike(entry: LoginEntry) -> None:
        """Have it started no more; one that is not there is fine."""
        path = _path(entry)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from None

    def _path(entry: LoginEntry) -> Path:
        return Path(platformdirs.user_config_dir("autostart")) / f"{entry.name}.desktop"
