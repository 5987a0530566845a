"""Proof: whatever is asked of a program, in whatever surroundings, it does or refuses: never an internal fault.

    command lines    drawn by hypothesis from the options that the programs have: names, targets, numbers, hashes,
                     variables, a home that is damaged, a stdout that is full or gone, locales, signals

Promised: every run ends, with a documented exit code, and says neither "internal fault" nor a traceback. The runs are
processes of their own, forked under each locale (`tests/support/fork_server.py`), against a real cluster of three
devices, one vault of which is used up by them. What is drawn comes from the seed alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import typer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import admin.command
import broker.command
import consumer.command
import producer.command
import worker.command
from cluster.local import program_command
from common.process.program import INTERRUPTED
from common.vault.folder import VaultFolder
from tests.soak.ground import PASSPHRASE, SoakCluster, new_cluster, new_user
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.fork_server import Start
from tests.support.forked_programs import ForkServer, umask

RUNS = 2000
DEADLINE = 60.0  # seconds within which any of these must end
DOCUMENTED = frozenset({0, *range(2, 11), INTERRUPTED})
_LOCALES = {  # what `localedef` makes each of; None where every system has it
    "C.UTF-8": None,
    "POSIX": None,
    "en_US.ISO-8859-1": ("en_US", "ISO-8859-1"),
    "ja_JP.EUC-JP": ("ja_JP", "EUC-JP"),
}
_COMMANDS = {
    "producer": producer.command.commands,
    "consumer": consumer.command.commands,
    "admin": admin.command.commands,
    "broker": broker.command.commands,
    "worker": worker.command.commands,
}
_ENDLESS = 1.5  # seconds after which a program that serves, or waits for a writer, is asked to end
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Leaf:
    """One command: its program, the words that lead to it, and its parameters as click has them."""

    program: str
    words: tuple[str, ...]
    parameters: tuple[Any, ...]

    @property
    def serves(self) -> bool:
        return self.program in ("broker", "worker") and not self.words


def leaves() -> list[Leaf]:
    """Every command of every program: a new one is fuzzed without a word here."""
    found: list[Leaf] = []

    def walk(program: str, command: Any, words: tuple[str, ...]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(program, inner, (*words, name))
        found.append(Leaf(program, words, tuple(each for each in command.params if each.name != "help")))

    for program, commands in _COMMANDS.items():
        walk(program, typer.main.get_command(commands), ())
    return found


@dataclass
class Case:
    """One run of a program."""

    leaf: Leaf
    locale: str
    arguments: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    home: str = "good"
    stdin: str = "/dev/null"
    stdout: str = "out"
    signal: int = 0
    after: float = 0.0

    def line(self) -> str:
        """As it would be typed, nearly."""
        words = [*(f"{name}={value!r}" for name, value in self.variables.items()), f"LC_ALL={self.locale}"]
        words += [f"{self.leaf.program}.py", *map(repr, self.arguments)]
        words += [f"<{self.stdin} >{self.stdout} home={self.home} signal={self.signal} after={self.after:.2f}"]
        return " ".join(words)


# Names in the folder that each run works in: see `_furnish`.
_FILES = ("picture.png", "写真.png", "caf\udce9.bin", "-n", "new line\n.bin", "empty", "key", "kit", "passphrase")
_OTHERS = (".", "folder", "folder/inner", "nowhere", "nowhere/deeper", "dangling", "loop", "link", "socket", "\x1b[31m")
_TARGETS = ("-", "null", "full", "", "a" * 300, "folder/", "..", "~", "~nobody", "CON", "a:b", "[x]")
_NUMBERS = ("-1", "0", "1", "2", "3", "4", "64", "65", str(10**30), "1.5", "nan", "0x2", "٣", "")
_SIZES = ("1", "10M", "0", "-1M", "1e3", "10QB", "9" * 40, "5d", "0s", "inf", "7 d")
# What is really asked of these programs: `@` stands for a value of that kind.
_ASKED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("producer",): ("@file", "@file @file @file", "--json -k 2 -n 3 @file", "--images-only .", "-", "--for anna @file"),
    ("consumer",): (
        "--list",
        "--list --json",
        "--hash @hash --output @file",
        "--hash @hash --output @file --force",
        "--hash @hash --hash @hash --force",
        "--hash @hash --output -",
        "--all --output @file",
        "--all --output folder --force --json",
    ),
    ("admin", "verify"): ("--all", "--all --deep", "--hash @hash --json"),
    ("admin", "repair"): ("--all", "--hash @hash", "--hash @hash --to device-1"),
    ("admin", "delete"): ("--yes --hash @hash", "--hash @hash"),
    ("admin", "undelete"): ("--list", "--hash @hash"),
    ("admin", "share"): ("--hash @hash --with anna",),
    ("admin", "unshare"): ("--hash @hash --with Anna",),
    ("admin", "strengthen"): ("--all", "--hash @hash", "--all -k @number -n @number"),
    ("admin", "retire"): ("device-9", "device-1 --cancel"),
    ("admin", "vault", "export"): ("@file",),
    ("admin", "vault", "import"): ("@file", "key --passphrase-file passphrase"),
    ("admin", "vault", "restore"): ("@file",),
    ("admin", "vault", "recovery"): ("--of 3 --need 2 --file @file", "--of @number --need @number"),
    ("admin", "vault", "rotate"): ("--yes --backup @file",),
    ("admin", "vault", "passphrase"): ("--new-passphrase-file passphrase", "--new-passphrase-file @file"),
    ("admin", "contacts", "card"): ("", "--name anna"),
    ("admin", "contacts", "remove"): ("anna",),
    ("broker", "invite"): ("worker", "client", "admin", "broker"),
    ("broker", "rename"): ("device-1 device-7", "device-1 @file"),
    ("broker", "revoke"): ("device-3",),
    ("broker",): ("--host 127.0.0.1 --client-port 1 --worker-port 1", "--host @file"),
    ("worker",): ("--store @file", "--capacity @size", "--store folder --join tessera-worker-aaaa"),
}
_OF_SIZE = ("capacity", "owner_quota", "memory", "repair_rate", "scrub_every", "repair_after", "repair_laptops_after")
_ROLES = ("worker", "client", "admin", "broker")


def _values(name: str, kind: str, hashes: tuple[str, ...]) -> st.SearchStrategy[str]:
    """What to put for a parameter of this name and type: mostly what is meant for it, now and then anything."""
    files = st.sampled_from(_FILES + _OTHERS + _TARGETS)
    meant: st.SearchStrategy[str]
    if name == "hashes" or name == "leave":
        meant = st.sampled_from(hashes)
    elif "Path" in kind or name in ("images", "output", "file", "store"):
        meant = files
    elif "Int" in kind or "INT" in kind or "FLOAT" in kind or "Float" in kind:
        meant = st.sampled_from(_NUMBERS)
    elif name in (
        "capacity",
        "owner_quota",
        "memory",
        "repair_rate",
        "scrub_every",
        "repair_after",
        "repair_laptops_after",
    ):
        meant = st.sampled_from(_SIZES)
    elif name == "role":
        meant = st.sampled_from(_ROLES)
    elif name in ("device", "to", "name", "new_name", "with_", "for_"):
        meant = st.sampled_from(("device-1", "device-2", "anna", "Anna", "ANNA", "", "x" * 500, "\x1b[2J", "\udcff"))
    else:
        meant = st.sampled_from(("tessera-client-aaaa", "tessera-", "TESS-ERA", "127.0.0.1", "::1", "[::1]", "*", ""))
    # No path of these may lead out of the folder: no slash. No NUL: no argument can have one.
    anything = st.text(st.characters(exclude_characters="/\x00", exclude_categories=()), max_size=12)
    return st.one_of(meant, meant, meant, files, anything.map(lambda text: text.replace("..", "")))


@st.composite
def _cases(draw: st.DrawFn, choices: list[Leaf], locales: list[str], hashes: tuple[str, ...]) -> Case:
    case = Case(draw(st.sampled_from(choices)), draw(st.sampled_from(locales)))
    asked = _ASKED.get((case.leaf.program, *case.leaf.words), ())
    sensible = draw(st.integers(0, 3)) > 0
    if asked and sensible:
        case.arguments = [*case.leaf.words, *_as_asked(draw, draw(st.sampled_from(asked)), hashes)]
    else:
        case.arguments = _anyhow(draw, case, hashes)
    if draw(st.integers(0, 15)) == 0:
        case.arguments.append(draw(st.sampled_from(("--debug", "--help", "--no-such-option", "--", "superfluous"))))
    if case.leaf.serves and case.leaf.program == "broker":
        case.arguments.append("--no-announce")
    case.home = draw(st.sampled_from(_HOMES))
    case.stdin = draw(st.sampled_from(("/dev/null", "picture.png", "empty")))
    case.stdout = draw(st.sampled_from(("out", "out", "out", "out", "full", "gone", "closed")))
    _draw_surroundings(draw, case)
    _draw_signal(draw, case)
    return case


def _as_asked(draw: st.DrawFn, words: str, hashes: tuple[str, ...]) -> list[str]:
    kinds: dict[str, tuple[str, ...]] = {
        "@hash": hashes,
        "@file": _FILES + _OTHERS + _TARGETS,
        "@number": _NUMBERS,
        "@size": _SIZES,
    }
    return [draw(st.sampled_from(kinds[word])) if word in kinds else word for word in words.split()]


def _anyhow(draw: st.DrawFn, case: Case, hashes: tuple[str, ...]) -> list[str]:
    """Any of the command's options, with any values; in the environment, too."""
    options: list[str] = []
    arguments = list(case.leaf.words)
    for parameter in case.leaf.parameters:
        wanted = (parameter.required and draw(st.integers(0, 9))) or draw(st.integers(0, 3)) == 0
        if not wanted or "supervis" in parameter.name:
            continue
        values = _values(parameter.name, str(parameter.type) + type(parameter.type).__name__, hashes)
        many = parameter.multiple or parameter.nargs == -1
        for _ in range(draw(st.integers(1, 4)) if many else 1):
            if parameter.param_type_name == "argument":
                arguments.append(draw(values))
            elif getattr(parameter, "is_flag", False):
                options.append(parameter.opts[0])
            else:
                options += [parameter.opts[0], draw(values)]
        if isinstance(parameter.envvar, str) and draw(st.integers(0, 7)) == 0:
            value = draw(values)
            case.variables[parameter.envvar] = value if _is_encodable(value) else "x"
    return options + arguments if not case.leaf.words else arguments + options


def _draw_surroundings(draw: st.DrawFn, case: Case) -> None:
    odd = {
        "TERM": ("dumb", "", "xterm-256color"),
        "COLUMNS": ("0", "1", "-5", "x"),
        "HOME": ("", "nowhere", "/"),
        "TMPDIR": ("nowhere", "full", ""),
        "TZ": ("Asia/Tokyo", "nonsense", ""),
        "NO_COLOR": ("1",),
        "TESSERA_PASSPHRASE": ("", "wrong", "\udcff", "x" * 5000, "\ufeffthe passphrase"),
        "TESSERA_DEBUG": ("0", "x"),
    }
    for name in draw(st.lists(st.sampled_from(sorted(odd)), max_size=2)):
        case.variables[name] = draw(st.sampled_from(odd[name]))


def _draw_signal(draw: st.DrawFn, case: Case) -> None:
    waits = case.leaf.serves or any("fifo" in each for each in case.arguments)
    if waits or draw(st.integers(0, 6)) == 0:
        case.signal = draw(st.sampled_from(_SIGNALS))
        case.after = _ENDLESS if waits else draw(st.floats(0.05, 1.0))


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
    return True


def _no_home(home: Path) -> None:
    shutil.rmtree(home)


def _file_as_home(home: Path) -> None:
    shutil.rmtree(home)
    home.write_bytes(b"x")


def _damage(name: str, content: Optional[bytes]) -> Callable[[Path], None]:
    """Has a file of a home be this content, or a folder."""

    def damage(home: Path) -> None:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)

    return damage


_DAMAGE: dict[str, Callable[[Path], None]] = {
    "good": lambda home: None,
    "missing": _no_home,
    "a file": _file_as_home,
    **{
        f"{name} {'a folder' if content is None else content[:20]!r}": _damage(name, content)
        for name in ("config.toml", "vault/vault.key", "client/brokers.json", "client/client.key", "vault/index")
        for content in (None, b"", b"\xff\xfe\x00junk")
    },
    "vault a file": _damage("vault", b"x"),
    "client a file": _damage("client", b"x"),
    "broker a file": _damage("broker", b"x"),
    "store a file": _damage("store", b"x"),
    "wrong option": _damage("config.toml", b"[producer]\nkk = 1\n[consumer]\nall = 5\n[admin.verify]\ndeep = 'x'\n"),
    "wrong type": _damage("config.toml", b"producer = 1\nconsumer = []\n[admin]\nverify = 3\n[worker]\nstore = [1]\n"),
}
_HOMES = ["good"] * (3 * len(_DAMAGE)) + list(_DAMAGE)


class Arena:
    """A cluster, a vault in it, and the processes that fork: one a locale."""

    def __init__(self, folder: Path, cluster: SoakCluster) -> None:
        self._folder = folder
        user = new_user(cluster, "fuzzed")
        self._environment = user.environment
        self._home = user.home
        (folder / "stored").mkdir()
        for number in range(3):
            (folder / "stored" / f"写真 {number}.bin").write_bytes(bytes([number]) * (1000 + number))
        stored = user.store("-k", "2", "-n", "3", str(folder / "stored"))
        whole = tuple(each["sha256"] for each in stored)
        self.hashes = (*whole, whole[0][:8], whole[1][:16].upper(), "0" * 64, "abc", "g" * 64, "", whole[0] + "0")
        self._key = (VaultFolder(user.home).key_path).read_bytes()
        self._servers = {name: _fork_server(name, folder) for name in _LOCALES if _have(name, folder)}
        self.exits: Counter[int] = Counter()
        self._count = 0

    @property
    def locales(self) -> list[str]:
        return sorted(self._servers)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()

    def run(self, case: Case) -> None:
        """Run a case in a folder and home of its own, and hold it to the promise."""
        self._count += 1
        folder, home = self._folder / f"run-{self._count}", self._folder / f"home-{self._count}"
        _furnish(folder, self._key)
        shutil.copytree(self._home, home, ignore=shutil.ignore_patterns("work"))
        _DAMAGE[case.home](home)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **_own(self._environment)}
        environment.update({"TESSERA_HOME": str(home), **case.variables})
        arguments = [each for each in case.arguments if _is_encodable(each)]
        start = Start(
            command=program_command(case.leaf.program, *arguments)[1:],
            environment=environment,
            folder=str(folder),
            umask=umask(),
            new_session=True,
            closed=[1] if case.stdout == "closed" else [],
            silent=True,
        )
        with _streams(case, folder) as streams:
            pid = self._servers[case.locale].start(start, streams)
        status = _status(pid, case)
        said = (folder / "err").read_bytes().decode("utf-8", "replace")
        self._judge(case, status, said)
        shutil.rmtree(folder)
        if home.is_dir():
            shutil.rmtree(home)
        else:
            home.unlink(missing_ok=True)

    def _judge(self, case: Case, status: Optional[int], said: str) -> None:
        told = f"{case.line()}\nended with {status}\n{said[-4000:]}"
        assert status is not None, f"did not end within {DEADLINE:.0f} s: {told}"
        assert "internal fault" not in said, told
        assert "Traceback" not in said or "--debug" in case.arguments, told
        assert "Exception ignored" not in said and "never awaited" not in said, told
        # While it is being loaded, and once it has said all, it ends by the signal itself.
        assert status in DOCUMENTED or (case.signal and status == -case.signal), told
        self.exits[status] += 1


def _own(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("TESSERA_")}


def _furnish(folder: Path, key: bytes) -> None:
    """The folder that a run works in: what its names stand for."""
    (folder / "folder" / "inner").mkdir(parents=True)
    for name in _FILES:
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape") * 100)
    (folder / "empty").write_bytes(b"")
    (folder / "key").write_bytes(key)
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    (folder / "folder" / "one.bin").write_bytes(b"one")
    (folder / "folder" / "two\udcff.bin").write_bytes(b"two")
    (folder / "dangling").symlink_to("nothing")
    (folder / "loop").symlink_to("loop")
    (folder / "link").symlink_to("picture.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(folder / "socket"))
    # Devices of the same kind as the system's, which a program that went wrong may replace.
    for name, minor in (("null", 3), ("full", 7)):
        os.mknod(folder / name, 0o020666, os.makedev(1, minor))


def _have(locale: str, folder: Path) -> bool:
    """Whether the locale is here: those that are made are made into the folder."""
    made_of = _LOCALES[locale]
    if made_of is None:
        return True
    if shutil.which("localedef") is None:
        return False
    (folder / "locales").mkdir(exist_ok=True)
    command = ["localedef", "-i", made_of[0], "-f", made_of[1], str(folder / "locales" / locale)]
    return subprocess.run(command, capture_output=True, check=False).returncode in (0, 1)  # 1: with warnings


def _fork_server(locale: str, folder: Path) -> ForkServer:
    environment = {**os.environ, "LC_ALL": locale, "LOCPATH": str(folder / "locales")}
    environment.pop("PYTHONUTF8", None)
    return ForkServer(environment)


@contextlib.contextmanager
def _streams(case: Case, folder: Path) -> Iterator[list[int]]:
    """The descriptors of stdin, stdout and stderr of a run."""
    with (folder / case.stdin).open("rb") as stdin, (folder / "err").open("ab") as stderr:
        if case.stdout == "gone":
            reader, stdout = os.pipe()
            os.close(reader)
        else:
            written = os.devnull if case.stdout == "closed" else folder / case.stdout
            stdout = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            yield [stdin.fileno(), stdout, stderr.fileno()]
        finally:
            os.close(stdout)


def _status(pid: int, case: Case) -> Optional[int]:
    """How a run ended, as `Popen.returncode` has it, sent its signal on the way; None where it did not in time."""
    descriptor = os.pidfd_open(pid)
    try:
        if case.signal and not select.select([descriptor], [], [], case.after)[0]:
            os.kill(pid, case.signal)
        ended = select.select([descriptor], [], [], DEADLINE)[0]
        if not ended:
            os.killpg(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status if ended else None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    """A cluster of three devices and all that is needed to run programs against it."""
    with new_cluster(folder, 3) as cluster:
        place = folder / "arena"
        place.mkdir()
        stage = Arena(place, cluster)
        try:
            yield stage
        finally:
            stage.close()


def never_an_internal_fault(terms: Terms) -> Figures:
    """Run what hypothesis draws, as many as are wanted or there is time for."""
    wanted, choices = terms.goal(RUNS), leaves()
    with arena(terms.folder) as stage:
        done = 0

        @seed(terms.seed)
        @settings(
            max_examples=wanted,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(_cases(choices, stage.locales, stage.hashes))
        def run(case: Case) -> None:
            nonlocal done
            if not done or terms.time_left:
                stage.run(case)
                done += 1

        run()
    return {
        "runs": done,
        "of": wanted,
        "internal faults": 0,
        "commands": len(choices),
        "locales": len(stage.locales),
        **{f"exit {code}": count for code, count in sorted(stage.exits.items())},
    }


PARTS = [Part("command lines", never_an_internal_fault, 3)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Command lines of every program, drawn at random."))
