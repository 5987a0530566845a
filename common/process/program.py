"""Runs a program's commands: options' defaults, its memory, and how an error becomes an exit.

Results go to stdout, everything else to stderr (`streams`). An error is one or two lines, what happened and what to do
next; a traceback is shown only with `--debug` (or TESSERA_DEBUG=1), and never for an interruption.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import traceback
from typing import Any, NoReturn

import typer

from common.errors import NoRoomError, TesseraError, UsageError, refused_by_system
from common.home import configured
from common.process.stopping import end_as_interrupted, end_at_once
from common.process.streams import LineFormatter, fault_of, prepare_streams
from common.text import printable

VERSION = "0.1.0"  # as in pyproject.toml
INTERRUPTED = 130
_MIB = 1 << 20
# From malloc.h of glibc: what, and bytes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = (-1, 128 * _MIB), (-2, 4 * _MIB), (-3, 32 * _MIB)
# Objects between two looks for cycles, of which nearly none are left behind; 700 is Python's own.
_COLLECT_AFTER = 5000
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def application(about: str) -> typer.Typer:
    """A typer application with the settings that all programs share."""
    return typer.Typer(
        help=about,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
        no_args_is_help=False,
        epilog="--debug shows what led to an error, --version which Tessera this is. "
        "Defaults may stand in config.toml in Tessera's folder.",
    )


def run(commands: typer.Typer, name: str, *, serves: bool = False, keeps_memory: bool = False) -> NoReturn:
    """Run a program's commands with the process's arguments and exit with the code of what happened.

    A program that `serves` logs what it does, with the time; any other prints warnings and errors. One that serves, or
    `keeps_memory`, does not give what it freed back to the system.
    """
    prepare_streams()
    gc.set_threshold(_COLLECT_AFTER)
    arguments = sys.argv[1:]
    debug = "--debug" in arguments or os.environ.get("TESSERA_DEBUG") == "1"
    arguments = [argument for argument in arguments if argument != "--debug"]
    if arguments[:1] == ["--version"]:
        print(f"{name}.py (Tessera) {VERSION}")
        _end(0 if fault_of(sys.stdout) is None else NoRoomError.exit_code)
    level = logging.DEBUG if debug else logging.INFO if serves else logging.WARNING
    style = "%(asctime)s %(levelname)s %(message)s" if serves or debug else f"{name}: %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(style, tracebacks=debug))
    logging.basicConfig(level=level, handlers=[handler])
    if serves or keeps_memory:
        keep_freed_memory()
    # numpy handles bytes here: threads for linear algebra only slow the start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        end_as_interrupted()
        code = exit_code(commands, name, arguments, debug=debug)
        end_at_once()
    except KeyboardInterrupt:  # while an error was printed, or just after
        code = INTERRUPTED
    _end(code)


def _end(code: int) -> NoReturn:
    """End the process once all is printed, without finalizing the interpreter; a signal meanwhile ends it at once.

    Finalizing was seen to hang on CPython 3.13.0, twice in thousands of runs.
    """
    end_at_once()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as where Windows runs a program without a console
            stream.flush()
    os._exit(code)


def exit_code(commands: typer.Typer, name: str, arguments: list[str], *, debug: bool) -> int:
    """Run the commands and print errors on stderr; returns the exit code."""
    code = _outcome(commands, name, arguments, debug)
    fault = fault_of(sys.stdout)
    if fault is None:
        return code
    if not isinstance(fault, BrokenPipeError):  # whose reader knows that it went away, as in `| head`
        warn(f"{name}: cannot write to stdout: {fault.strerror}; results are lost, and nothing else is")
    return code or NoRoomError.exit_code


def _outcome(commands: typer.Typer, name: str, arguments: list[str], debug: bool) -> int:
    try:
        command = typer.main.get_command(commands)
        outcome = command.main(
            args=arguments,
            prog_name=f"{name}.py",
            standalone_mode=False,
            default_map=defaults(command, configured(name), name),
        )
        if outcome == INTERRUPTED:  # what the command-line library makes of Ctrl-C
            warn(f"{name}: interrupted")
        return outcome if isinstance(outcome, int) else 0
    except TesseraError as error:
        return _report(error, name, debug)
    except (KeyboardInterrupt, typer.Abort):
        warn(f"{name}: interrupted")
        return INTERRUPTED
    except Exception as error:
        return _unexpected(error, name, debug)


def defaults(command: Any, table: dict[str, Any], section: str) -> dict[str, Any]:
    """A program's table of `config.toml`, by options' names, as the defaults of its parameters.

    A command's options stand in a table of the command's name. UsageError where a key is no option, or its value none
    for it; it names the key and the `section`.
    """
    options = {name.lstrip("-").replace("-", "_"): parameter for parameter in command.params for name in parameter.opts}
    inner = getattr(command, "commands", {})
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key in inner and isinstance(value, dict):
            table_below = {name.replace("-", "_"): each for name, each in value.items()}
            found[key] = defaults(inner[key], table_below, f"{section}.{key}")
        elif key in inner:
            raise UsageError(f'config.toml: [{section}]: "{key}" is a command: its options stand in [{section}.{key}]')
        elif key not in options:
            what = "command" if isinstance(value, dict) else "option"
            raise UsageError(f'config.toml: [{section}] has no {what} "{key}"')
        else:
            found[options[key].name] = _checked(options[key], value, f'config.toml: [{section}]: "{key}"')
    return found


def _checked(parameter: Any, value: Any, where: str) -> Any:
    """A value that the option takes, as the command line would; UsageError, which says `where`, if it does not."""
    several = parameter.multiple or parameter.nargs != 1
    if several != isinstance(value, list):
        raise UsageError(f"{where} is {'a list' if several else 'one value'}: {'[…]' if several else 'without [ ]'}")
    for each in value if several else [value]:
        if isinstance(each, (dict, list)) or isinstance(each, bool) != (parameter.type.name == "boolean"):
            kind = "true or false" if parameter.type.name == "boolean" else f"a {parameter.type.name}"
            raise UsageError(f"{where} is {kind}, not {each!r}")
        try:
            parameter.type.convert(str(each), parameter, None)
        except typer.BadParameter as error:
            raise UsageError(f"{where}: {error.message}") from None
    return value


def _report(error: TesseraError, name: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    warn(f"{name}: {error}")
    if error.advice:
        warn(f"  {error.advice}")
    return error.exit_code


def _unexpected(error: Exception, name: str, debug: bool) -> int:
    """The exit code of a usage error, of what the system refused (as a full disk), or else of a fault of ours."""
    show = getattr(error, "show", None)
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    refused = refused_by_system(error) if isinstance(error, OSError) else None
    if refused is not None:
        return _report(refused, name, debug)
    if debug:
        traceback.print_exc()
    warn(f"{name}: internal fault: {type(error).__name__}: {error}")
    warn("  run it again with --debug and report what it prints")
    return TesseraError.exit_code


def warn(text: str) -> None:
    """Print a line on stderr."""
    print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr, flush=True)


def keep_freed_memory() -> None:
    """Keep up to 128 MiB of freed memory in each heap from now on; only with glibc.

    A program that serves or restores gets and frees blocks of 1 MiB all the time. glibc gives each back to the system,
    which clears its pages anew at the next: a sixth of the processor time of broker and workers (docs/performance.md).
    One that stores has whole images in memory, too, and would take a tenth more.
    """
    if not sys.platform.startswith("linux"):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # musl has none
        return
    for option, size in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD):
        set_option(option, size)
