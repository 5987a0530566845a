"""Writes docs/options.md: every command of every program with its options, as the programs themselves declare them.

    python docs/make_options.py [FILE]

`tests/unit/project/test_options_page.py` fails where the page is not what this writes.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import typer

import admin.command
import broker.command
import consumer.command
import producer.command
import worker.command

PAGE = Path(__file__).with_name("options.md")
_PROGRAMS = {
    "producer": producer.command.commands,
    "consumer": consumer.command.commands,
    "admin": admin.command.commands,
    "broker": broker.command.commands,
    "worker": worker.command.commands,
}
_HEAD = """\
# Options

Made by `python docs/make_options.py` from the programs; change them there.

All programs have `--help`, `--version` (first), `--debug` (or `TESSERA_DEBUG=1`: tracebacks and more log), and
`TESSERA_HOME` (Tessera's folder). A vault's passphrase comes from a file, from `TESSERA_PASSPHRASE`, from the system's
keyring or from a prompt, never from an argument.

An option can also come from its variable, where it has one, or, below that, from `config.toml` in Tessera's folder: a
table a program, one below it for a command, with the options' names as keys (`-` or `_` between words). A key that is
no option is refused:

```toml
[producer]
k = 3
n = 5

[worker]
store = "/data/tessera"
capacity = "500G"

[broker]
client_port = 5570
worker_port = 5571
lane_port = 5572

[broker.invite]
address = "broker.lan"
```
"""


def page() -> str:
    """The whole page."""
    commands = [
        (" ".join((f"{name}.py", *words, *_arguments_shown(command))), command)
        for name, program in _PROGRAMS.items()
        for words, command in _leaves(typer.main.get_command(program), ())
    ]
    index = [f"| [`{title}`](#{_anchor(title)}) | {_about(command)} |" for title, command in commands]
    contents = "\n".join(["| command | what it does |", "|---|---|", *index, ""])
    return "\n".join([_HEAD, contents, *(_section(title, command) for title, command in commands)])


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command that does something, and those below it, in the order of --help."""
    if command.callback is not None and (not hasattr(command, "commands") or command.invoke_without_command):
        yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, (*words, name))


def _section(title: str, command: Any) -> str:
    lines = [f"## `{title}`", "", _about(command), ""]
    rows = [_row(each) for each in command.params if each.name != "help" and not getattr(each, "hidden", False)]
    if rows:
        lines += ["| option | variable | default | what |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _about(command: Any) -> str:
    return inspect.cleandoc(command.help or "").split("\n\n")[0]


def _anchor(title: str) -> str:
    """Where a heading of this title is jumped to, as GitHub names it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _arguments_shown(command: Any) -> list[str]:
    return [_argument_shown(each) for each in command.params if each.param_type_name == "argument"]


def _argument_shown(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]")
    shown = f"{name}…" if argument.nargs == -1 else name
    return shown if argument.required else f"[{shown}]"


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    names = [_argument_shown(parameter)] if argument else [*parameter.opts, *parameter.secondary_opts]
    option = ", ".join(f"`{name}`" for name in names)
    variable = f"`{parameter.envvar}`" if isinstance(parameter.envvar, str) else ""
    default = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    told = "" if default is None or isinstance(default, bool) or callable(default) or argument else f"`{default}`"
    what = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| {option} | {variable} | {told} | {what} |"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
