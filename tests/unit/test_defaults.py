"""config.toml: options by their own names become defaults, and what is no option is refused."""

from __future__ import annotations

import pytest
import typer

from admin.command import commands as admin
from common.errors import UsageError
from common.process.program import defaults
from consumer.command import commands as consumer


def test_options_stand_under_their_own_names() -> None:
    command = typer.main.get_command(consumer)
    assert defaults(command, {"json": True, "output": "pictures"}, "consumer") == {
        "as_json": True,
        "output": "pictures",
    }


def test_a_commands_options_stand_in_a_table_of_its_name() -> None:
    command = typer.main.get_command(admin)
    table = {"status": {"json": True}, "vault": {"create": {"passphrase-file": "x"}}}
    expected = {"status": {"as_json": True}, "vault": {"create": {"passphrase_file": "x"}}}
    assert defaults(command, table, "admin") == expected


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"jsno": True}, '[admin] has no option "jsno"'),
        ({"stauts": {"json": True}}, '[admin] has no command "stauts"'),
        ({"status": {"josn": True}}, '[admin.status] has no option "josn"'),
        ({"vault": {"recovery": {"nede": 3}}}, '[admin.vault.recovery] has no option "nede"'),
        ({"status": 3}, '"status" is a command: its options stand in [admin.status]'),
        ({"status": {"json": "yes"}}, "[admin.status]: \"json\" is true or false, not 'yes'"),
        ({"status": {"json": {}}}, '[admin.status]: "json" is true or false'),
        ({"verify": {"hash": "5a224ac4"}}, '[admin.verify]: "hash" is a list'),
        ({"vault": {"recovery": {"need": [3]}}}, '[admin.vault.recovery]: "need" is one value'),
        ({"vault": {"recovery": {"need": "three"}}}, '[admin.vault.recovery]: "need"'),
        ({"delete": {"trash_days": 366}}, '[admin.delete]: "trash_days"'),
    ],
)
def test_what_is_no_option_or_no_value_for_it_is_refused_with_its_section(table: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        defaults(typer.main.get_command(admin), table, "admin")
    assert said in str(raised.value)
