"""The broker's command line: serve, alone or beside others; invite, list, withdraw and revoke."""

from __future__ import annotations

import enum
import logging
import secrets
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Callable, NamedTuple, NoReturn, Optional

import typer

from broker.announcer import Announcer
from broker.audit import AuditLog, record_now, verify
from broker.catalog_file import FILE, CatalogFile
from broker.catalog_rows import CatalogDamaged, Storage
from broker.folder import folder_of_broker
from broker.inviting import SERVING_OPTIONS, as_served, named
from broker.listening import ALL, CLIENT_PORT, LANE_PORT, WORKER_PORT, Listening, parse_listening_host, save
from broker.members import INVITE_LIFETIME, Member, MemberList, MembersFile
from broker.memory import cap_memory, forbid_core_dumps, memory_exceeded, watch_memory
from broker.own_entry import enter_self, join_cluster
from broker.server import Server
from broker.steward.steward import Settings
from broker.supervisor import stop_with_supervisor, supervise
from broker.syslog import Place, Syslog, parse_place
from broker.vault_origins import VaultOrigins
from common.discovery.addresses import is_loopback, parse_host
from common.errors import UsageError
from common.files import lock, locked
from common.home import home
from common.link.joining import read_invite
from common.membership.identity import KeyPair, load_key_pair, save_key_pair
from common.membership.invite import Invite
from common.membership.short_invite import ShortInvite
from common.process.program import application, run, warn
from common.process.progress import Printer
from common.process.stopping import stop_on_signals
from common.protocol.identifiers import shown_key
from common.protocol.operations import Role
from common.text import parse_duration, parse_size, printable

log = logging.getLogger(__name__)
_SCRIPT = Path(__file__).resolve().parent / "broker.py"
commands = application("Run a Tessera broker, or let a device or a client into its cluster.")

invites = typer.Typer(help="List the invites that can still be used, or withdraw one.", no_args_is_help=False)
commands.add_typer(invites, name="invites")
audit = typer.Typer(help="Check the audit log.", no_args_is_help=True)
commands.add_typer(audit, name="audit")

_HOST = typer.Option(
    ALL,  # a broker is there for the LAN; CURVE keeps out who is not invited
    envvar="TESSERA_HOST",
    help="Address, host name or interface to listen at; * is every address of this machine, IPv4 and IPv6.",
)
_CLIENT_PORT = typer.Option(CLIENT_PORT, envvar="TESSERA_CLIENT_PORT", min=1, max=65535, help="Port for clients.")
_JOIN = typer.Option(
    None, "--join", envvar="TESSERA_JOIN", help="Another broker's invite, needed once: to be one of its cluster."
)
_ADDRESS = typer.Option(
    None, envvar="TESSERA_ADDRESS", help="Host name or address that others reach this broker at; found out if left out."
)
_ANNOUNCE = typer.Option(
    True,
    "--announce/--no-announce",
    envvar="TESSERA_ANNOUNCE",
    help="Tell the LAN by mDNS that there is a broker, and its ports and public key; never at a loopback address.",
)
_REPAIR_AFTER = typer.Option(
    "15m",
    envvar="TESSERA_REPAIR_AFTER",
    help="How long a device may be away before its shares are rebuilt elsewhere, such as 15m; surplus copies are kept "
    "as long.",
)
_REPAIR_LAPTOPS_AFTER = typer.Option(
    "3d",
    envvar="TESSERA_REPAIR_LAPTOPS_AFTER",
    help="The same for laptops (worker.py --kind laptop), which are off at night or taken along.",
)
_REPAIR_RATE = typer.Option(
    "50M", envvar="TESSERA_REPAIR_RATE", help="Bytes a second that rebuilding may fetch and send, such as 50M."
)
_OWNER_QUOTA = typer.Option(
    None,
    envvar="TESSERA_OWNER_QUOTA",
    help="Most that the shares of one vault, or of all that one client brought, may take in the cluster, such as 2T; "
    "any size if left out.",
)
_AUDIT_ACCESS = typer.Option(
    False,
    "--audit-access",
    envvar="TESSERA_AUDIT_ACCESS",
    help="Record in the audit log also who stores and who reads which image.",
)
_AUDIT_SYSLOG = typer.Option(
    None,
    envvar="TESSERA_AUDIT_SYSLOG",
    help="Send each line of the audit log to this syslog, too: HOST:PORT (UDP), or a socket such as /dev/log.",
)
_MEMORY = typer.Option(
    "384MiB", envvar="TESSERA_MEMORY", help="Most memory that this process may have; near it, it ends to be restarted."
)
_SUPERVISED = typer.Option(
    False,
    "--supervised",
    envvar="TESSERA_SUPERVISED",
    help="Run the broker in a child process that is started again whenever it fails; for where no systemd does that.",
)
_UNDER_SUPERVISOR = "--under-supervisor"
_IS_CHILD = typer.Option(False, _UNDER_SUPERVISOR, hidden=True)
_LEAST_MEMORY = 128 << 20  # bytes; a broker at rest has some 50 MiB
_WORKER_PORT = typer.Option(WORKER_PORT, envvar="TESSERA_WORKER_PORT", min=1, max=65535, help="Port for workers.")


class Wire(enum.Enum):
    """What messages travel on, once CURVE has admitted their peer."""

    LANE = "lane"
    CURVE = "curve"


_WIRE = typer.Option(
    Wire.LANE.value,
    envvar="TESSERA_WIRE",
    help="What messages travel on: a lane of AES-256-GCM beside the CURVE connection that grants it, or CURVE alone, "
    "which needs no third port and is slower.",
)
_LANE_PORT = typer.Option(
    LANE_PORT,
    envvar="TESSERA_LANE_PORT",
    min=0,
    max=65535,
    help="Port for the lanes of clients and workers; for 0 any that is free.",
)


@commands.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: str = _HOST,
    client_port: int = _CLIENT_PORT,
    worker_port: int = _WORKER_PORT,
    lane_port: int = _LANE_PORT,
    wire: Wire = _WIRE,
    invite: Optional[str] = _JOIN,
    address: Optional[str] = _ADDRESS,
    announce: bool = _ANNOUNCE,
    repair_after: str = _REPAIR_AFTER,
    repair_laptops_after: str = _REPAIR_LAPTOPS_AFTER,
    repair_rate: str = _REPAIR_RATE,
    owner_quota: Optional[str] = _OWNER_QUOTA,
    audit_access: bool = _AUDIT_ACCESS,
    audit_syslog: Optional[str] = _AUDIT_SYSLOG,
    memory: str = _MEMORY,
    supervised: bool = _SUPERVISED,
    is_child: bool = _IS_CHILD,
) -> None:
    """Serve until interrupted (without a command), or run one of the commands below."""
    if context.invoked_subcommand is not None:
        context.obj = {name: context.params[name] for name in SERVING_OPTIONS if not _is_default(context, name)}
        return
    said = parse_listening_host(host)
    reached_at = parse_host(address) if address is not None else None
    lanes_at = lane_port if wire is Wire.LANE else None
    announced = announce and not is_loopback(said)
    listening = Listening(said, client_port, worker_port, announced, reached_at, lanes_at)
    rate, most = parse_size(repair_rate), parse_size(memory)
    if rate < 1:
        raise UsageError("--repair-rate must be at least a byte a second")
    if most < _LEAST_MEMORY:
        raise UsageError(f"--memory must be at least {_LEAST_MEMORY >> 20}MiB")
    quota = parse_size(owner_quota) if owner_quota is not None else None
    syslog = parse_place(audit_syslog) if audit_syslog is not None else None
    servers, laptops = parse_duration(repair_after), parse_duration(repair_laptops_after)
    forbid_core_dumps()
    stopping = stop_on_signals()
    if supervised and not is_child:
        raise typer.Exit(supervise(_as_child(sys.argv), stopping))
    if is_child:
        stop_with_supervisor(stopping, sys.stdin.fileno())
    settings = Settings(servers, rate, repair_laptops_after=laptops)
    _serve(listening, invite, settings, quota, Auditing(audit_access, syslog), most, stopping)


class Auditing(NamedTuple):
    """What is recorded in the audit log beside what always is, and who else is to have its lines."""

    access: bool
    syslog: Optional[Place]


def _is_default(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"


def _as_child(arguments: list[str]) -> list[str]:
    """The command line of the process that a supervisor with these `sys.argv` starts."""
    options = [argument for argument in arguments[1:] if argument != "--supervised"]
    return [sys.executable, str(_SCRIPT), *options, _UNDER_SUPERVISOR]


def _serve(
    listening: Listening,
    invite: Optional[str],
    settings: Settings,
    quota: Optional[int],
    auditing: Auditing,
    memory: int,
    stopping: threading.Event,
) -> None:
    """Serve in this process until the event is set; TesseraError where it came near its `memory` (bytes)."""
    folder = home() / "broker"
    with lock(folder / "broker.lock"):
        pair, members = _key_pair(folder), MembersFile(folder)
        reached_at = listening.entry(pair.public, members.members.brokers().get(pair.public))
        members.begin_run(secrets.token_bytes(8))
        if invite is not None:
            printer = Printer("joining")
            decoded = read_invite(invite, Role.BROKER, emit=printer)
            join_cluster(members, pair, reached_at, decoded, int(time.time()), printer)
        enter_self(members, pair, reached_at, int(time.time()))
        cap_memory(memory)
        syslog = Syslog(auditing.syslog) if auditing.syslog is not None else None
        audit_log = AuditLog(folder, forward=syslog.send if syslog is not None else None)
        origins = VaultOrigins(folder / "vaults.json")
        cache = CatalogFile(folder / FILE)

        def make_server(storage: Storage) -> Server:
            return Server(
                listening,
                pair,
                members,
                settings,
                audit_log,
                quota,
                origins,
                storage=storage,
                budget=memory // 2,
                record_accesses=auditing.access,
            )

        server = _with_catalog(cache, make_server)
        save(folder, listening)
        log.info(
            "broker listens at %s, ports %d (clients), %d (workers), %s",
            "all addresses" if listening.host == ALL else listening.host,
            listening.client_port,
            listening.worker_port,
            "no lanes" if server.lane_port is None else f"{server.lane_port} (lanes)",
        )
        if not listening.reached_at():
            log.warning("this machine has no network address yet, so nobody else reaches the broker")
        exceeded = watch_memory(memory, stopping)
        announcer = Announcer(listening, pair.public) if listening.announced else None
        try:
            while not _served(server, stopping, cache):
                server = _with_catalog(cache, make_server)
        finally:
            cache.close()
            if syslog is not None:
                syslog.close()
            if announcer is not None:
                announcer.close()
    if exceeded.is_set():
        raise memory_exceeded(memory)
    log.info("broker stopped")


def _with_catalog(cache: CatalogFile, make_server: Callable[[Storage], Server]) -> Server:
    """A server with the catalog as it was left, or an empty one where that is damaged."""
    try:
        return make_server(cache.open())
    except CatalogDamaged as damaged:
        cache.lose(damaged)
        return make_server(cache.open())


def _served(server: Server, stopping: threading.Event, cache: CatalogFile) -> bool:
    """Serve until the event is set; False where another server has to go on, since the catalog was damaged."""
    try:
        server.serve(stopping)
    except CatalogDamaged as damaged:
        cache.lose(damaged)
        return False
    finally:
        server.close()
    return True


class _InvitedAs(enum.Enum):
    """What may be said of who is invited; a client by `--add-only` has a role of its own."""

    WORKER = Role.WORKER.value
    CLIENT = Role.CLIENT.value
    ADMIN = Role.ADMIN.value
    BROKER = Role.BROKER.value


@commands.command()
def invite(
    context: typer.Context,
    role: _InvitedAs = typer.Argument(
        ...,
        help="worker: a device that keeps shares; client: a machine that stores; admin: a client that also retires "
        "devices; broker: one more broker.",
    ),
    add_only: bool = typer.Option(
        False,
        "--add-only",
        help="Of a client: it stores and restores, and can neither delete nor change what is stored.",
    ),
    address: Optional[str] = _ADDRESS,
) -> None:
    """Print an invite: it lets one device, one client or admin, or one more broker in, once, within an hour."""
    if add_only and role is not _InvitedAs.CLIENT:
        raise UsageError(f"--add-only is for a client, not for a {role.value}")
    invited = Role.ADD_ONLY if add_only else Role(role.value)
    folder = folder_of_broker("invite", role.value, *(["--add-only"] if add_only else []))
    listening = as_served(folder, context.obj, address)
    pair, file = load_key_pair(folder / "broker.key"), MembersFile(folder)
    brokers = named(listening, pair.public, file.members)
    short = ShortInvite.generate(invited, pair.public)
    one_time = short.one_time(pair.public)
    file.change(lambda members: members.invite(one_time.public, invited, int(time.time())))
    until = _moment(int(time.time()) + INVITE_LIFETIME)
    record_now(folder, "invited", role=invited.value, key=shown_key(one_time.public), until=until)
    reached_at = ", ".join(broker.host for broker in brokers if broker.public_key == pair.public)
    who = "add-only client" if add_only else role.value
    warn(f"invites one {who} to the broker at {reached_at}, once, within an hour:")
    print(Invite(invited, brokers, one_time).encode(), flush=True)
    if listening.announced and listening.announced_at():
        # On stderr: a script that passes the line on gets one line, wherever the broker listens.
        warn(f"or, typed on a machine of this LAN, the same invite as a code:\n{short.encode()}")


@commands.command()
def members() -> None:
    """Print who is admitted: name, role, since when, and the beginning of the key."""
    admitted = [member for member in MembersFile(folder_of_broker("members")).members.all() if member.expires is None]
    for member in admitted:
        key = shown_key(member.public_key)
        print(f"{printable(member.name)}\t{member.standing.value}\t{_moment(member.added)}\t{key}")
    if not admitted:
        warn("nobody is admitted yet")


@invites.callback(invoke_without_command=True)
def list_invites(context: typer.Context) -> None:
    """Print the invites that can still be used: role, when made, when over, and the beginning of the one-time key."""
    if context.invoked_subcommand is not None:
        return
    open_invites = MembersFile(folder_of_broker("invites")).members.open_invites(int(time.time()))
    for member in open_invites:
        made, over = _moment(member.added), _moment(member.expires or member.added)
        print(f"{_role_of(member)}\t{made}\t{over}\t{shown_key(member.public_key)}")
    if not open_invites:
        warn("no invite is open")


@invites.command()
def withdraw(
    key: str = typer.Argument(..., help="The beginning of the invite's key, as `invites` prints it."),
) -> None:
    """Take an invite back that nobody has used yet."""
    folder = folder_of_broker("invites", "withdraw", key)
    member = MembersFile(folder).change(lambda members: members.withdraw(key, int(time.time())))
    record_now(folder, "withdrawn", role=_role_of(member), key=shown_key(member.public_key))
    print(f"withdrew the invite {shown_key(member.public_key)} ({_role_of(member)})")


@commands.command()
def revoke(
    name: str = typer.Argument(..., help="The member's name, or the beginning of its key, as `members` prints them."),
) -> None:
    """Take a device, a client or a broker off the list; a live connection of it is cut within a second."""
    folder = folder_of_broker("revoke", name)
    ours = load_key_pair(folder / "broker.key").public.hex()

    def change(members: MemberList) -> Member:
        revoked = members.revoke(name, int(time.time()))
        if revoked.public_key == ours:
            raise UsageError(f"{name} is this very broker", advice="revoke it at another broker of the cluster")
        return revoked

    member = MembersFile(folder).change(change)
    facts = {"name": printable(member.name), "role": member.standing.value, "key": shown_key(member.public_key)}
    record_now(folder, "revoked", **facts)
    print(f"revoked {printable(member.name)} ({member.standing.value})")


@commands.command("accept-members")
def accept_members() -> None:
    """Go on with this list of members, though it is an older copy. Whoever was revoked since is to be revoked again."""
    folder = folder_of_broker("accept-members")
    MembersFile(folder).accept()
    record_now(folder, "accepted members")
    print("this list of members holds from now on")
    warn("whoever was revoked since it was copied is in again, unless another broker knows: see broker.py members")


@commands.command()
def rename(
    name: str = typer.Argument(..., help="The member's name, or the beginning of its key, as `members` prints them."),
    new_name: str = typer.Argument(..., help="What it is to be called."),
) -> None:
    """Call a device, a client or a broker by another name."""
    folder = folder_of_broker("rename", name, new_name)
    member = MembersFile(folder).change(lambda members: members.rename(name, new_name))
    record_now(folder, "renamed", was=printable(name), name=member.name, key=shown_key(member.public_key))
    print(f"{printable(name)} is called {member.name} now")


@audit.command("verify")
def verify_audit_log(
    includes: Optional[str] = typer.Option(
        None, help="The SHA-256 of a line, as this command printed it once or a syslog has it, that must be there."
    ),
) -> None:
    """Check that no line of the audit log was changed, taken out or put in."""
    chain = verify(folder_of_broker("audit", "verify"), includes)
    print(f"{chain.lines} lines from {chain.begin} to {chain.end}, each behind the one that it names")
    print(f"SHA-256 of the last: {chain.digest}")


_CLIENT = typer.Argument(..., help="The client's name, or the beginning of its key, as `members` prints them.")


@commands.command()
def promote(name: str = _CLIENT) -> None:
    """Let a client also retire devices and rebalance, as one that joined by an admin's invite; `demote` ends it."""
    folder = folder_of_broker("promote", name)
    member = MembersFile(folder).change(lambda members: members.promote(name))
    record_now(folder, "promoted", name=printable(member.name), key=shown_key(member.public_key))
    print(f"{printable(member.name)} is an admin now")


@commands.command()
def demote(name: str = _CLIENT) -> None:
    """Take from an admin what a client may not do; it goes on storing and restoring."""
    folder = folder_of_broker("demote", name)
    member = MembersFile(folder).change(lambda members: members.demote(name))
    record_now(folder, "demoted", name=printable(member.name), key=shown_key(member.public_key))
    print(f"{printable(member.name)} is a client now")


def _role_of(invite: Member) -> str:
    return invite.standing.value.replace("invited ", "")


def _moment(unix: int) -> str:
    return datetime.fromtimestamp(unix).astimezone().strftime("%Y-%m-%d %H:%M")


def _key_pair(folder: Path) -> KeyPair:
    """The broker's permanent key, made when it is first needed."""
    path = folder / "broker.key"
    with locked(folder / "key.lock"):
        if not path.exists():
            save_key_pair(path, KeyPair.generate())
        return load_key_pair(path)


def main() -> NoReturn:
    run(commands, "broker", serves=True)
