"""What the app remembers of this user from one start to the next, in Tessera's folder; not worth an error."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.files import read_limited, write_private

log = logging.getLogger(__name__)

APPEARANCES = ("system", "light", "dark")
_MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class Settings:
    """`codes_for`, `copy_for`: the vault (`Session.vault_name`) whose recovery codes, key file were kept elsewhere."""

    appearance: str = "system"
    codes_for: str = ""
    copy_for: str = ""
    folder: str = ""  # where images were chosen last
    key_folder: str = ""  # where a key file or codes were saved or opened last


def load_settings(home: Path) -> Settings:
    """The settings as they were saved; the usual ones where there are none, or they cannot be read."""
    try:
        kept = json.loads(read_limited(_path(home), _MAX_FILE))
        known = {field.name: kept[field.name] for field in fields(Settings) if isinstance(kept.get(field.name), str)}
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, AttributeError) as error:
        log.warning("%s is passed over: %s", _path(home), error)
        return Settings()
    if known.get("appearance") not in APPEARANCES:
        known["appearance"] = Settings.appearance
    return Settings(**known)


def save_settings(home: Path, settings: Settings) -> None:
    try:
        write_private(_path(home), json.dumps(asdict(settings)).encode())
    except OSError as error:
        log.warning("%s could not be kept: %s", _path(home), error.strerror)


def _path(home: Path) -> Path:
    return home / "desktop.json"
