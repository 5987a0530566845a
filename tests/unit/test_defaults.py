"""config.toml: options by their own names become defaults, and what is no option is refused."""

from __future__ import annotations

import pytest
import typer

from admin.command import commands as admin
from common.errors import UsageError
from common.program import defaults
from consumer.command import commands as consumer


def test_options_stand_under_their_own_names() -> None:
    command = typer.main.get_command(consumer)
    assert defaults(command, {"json": True, "output": "pictures"}) == {"as_json": True, "output": "pictures"}


def test_a_commands_options_stand_in_a_table_of_its_name() -> None:
    command = typer.main.get_command(admin)
    table = {"status": {"json": True}, "vault": {"create": {"passphrase-file": "x"}}}
    expected = {"status": {"as_json": True}, "vault": {"create": {"passphrase_file": "x"}}}
    assert defaults(command, table) == expected


@pytest.mark.parametrize("table", [{"jsno": True}, {"status": {"josn": True}}, {"status": 3}])
def test_what_is_no_option_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="has no option"):
        defaults(typer.main.get_command(admin), table)
