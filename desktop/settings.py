"""How the window looks to this user, kept from one start to the next in Tessera's folder; not worth an error."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from common.files import read_limited, write_private

log = logging.getLogger(__name__)

APPEARANCES = ("system", "light", "dark")
_MAX_FILE = 4096


@dataclass(frozen=True)
class Settings:
    appearance: str = "system"


def load_settings(home: Path) -> Settings:
    """The settings as they were saved; the usual ones where there are none, or they cannot be read."""
    try:
        appearance = json.loads(read_limited(_path(home), _MAX_FILE))["appearance"]
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is passed over: %s", _path(home), error)
        return Settings()
    return Settings(appearance if appearance in APPEARANCES else Settings.appearance)


def save_settings(home: Path, settings: Settings) -> None:
    try:
        write_private(_path(home), json.dumps({"appearance": settings.appearance}).encode())
    except OSError as error:
        log.warning("the appearance could not be kept: %s", error.strerror)


def _path(home: Path) -> Path:
    return home / "desktop.json"
