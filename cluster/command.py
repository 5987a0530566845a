"""The command: run the demo, start a cluster and leave it running (`--detach`), or end it (`--stop`)."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import Callable, NoReturn, Optional

import typer

from cluster.demo import Demo
from cluster.interruption import interruptible
from cluster.local import CHECKOUT, DEFAULT_BASE_PORT, DEFAULT_WORKERS, LocalCluster, stop_cluster
from common.errors import NotFoundError, UsageError
from common.process.program import application, run
from common.process.progress import Waiting

SAMPLE = CHECKOUT / "samples" / "hubble_deep_field.jpg"


_IMAGE = typer.Argument(None, help="What the demo stores; by default a photograph that ships with Tessera.")
_WORKERS = typer.Option(None, min=1, help=f"Devices of a new cluster; by default {DEFAULT_WORKERS}.")
_DIRECTORY = typer.Option(
    None, "--dir", help="Keep the cluster there; by default in a temporary folder, removed afterwards."
)
_BASE_PORT = typer.Option(
    None,
    min=1,
    max=65528,
    help=f"Clients' port on 127.0.0.1, workers use the next; by default {DEFAULT_BASE_PORT}.",
)
_BROKERS = typer.Option(None, min=1, max=4, help="Brokers of a new cluster, two ports each; by default one.")
_DETACH = typer.Option(False, "--detach", help="Start the cluster in --dir and leave it running.")
_STOP = typer.Option(False, "--stop", help="End the cluster in --dir.")


def main() -> NoReturn:
    commands = application("A whole Tessera cluster on this machine, each part a process of its own.")
    commands.command()(cluster)
    run(commands, "cluster")


def cluster(
    image: Optional[Path] = _IMAGE,
    workers: Optional[int] = _WORKERS,
    directory: Optional[Path] = _DIRECTORY,
    base_port: Optional[int] = _BASE_PORT,
    brokers: Optional[int] = _BROKERS,
    detach: bool = _DETACH,
    stop: bool = _STOP,
) -> None:
    """Store a photograph on six devices, kill two, restore it from the other four, and compare."""

    def local(place: Path) -> LocalCluster:
        return LocalCluster(place, workers=workers, base_port=base_port, brokers=brokers)

    if not (stop or detach):
        _demo(image or SAMPLE, directory, local)
        return
    if directory is None or image is not None or (stop and detach):
        raise UsageError("--detach and --stop each go with --dir DIR, and without an image")
    if stop:
        _stop(directory)
    else:
        _detach(local(directory))


def _demo(image: Path, directory: Optional[Path], local: Callable[[Path], LocalCluster]) -> None:
    if not image.is_file():
        raise NotFoundError(f"no such image: {image}")
    with interruptible(), tempfile.TemporaryDirectory(prefix="tessera-demo-") as scratch:
        place = directory or Path(scratch) / "cluster"
        Demo(local(place), image.resolve(), Path(scratch)).run()


def _detach(local: LocalCluster) -> None:
    with interruptible(), Waiting(f"starting {len(local.devices)} devices and what they need"):
        local.start()
    python, producer = Path(sys.executable), CHECKOUT / "producer" / "producer.py"
    ports = local.ports[::2]
    where = f"broker on port {ports[0]}" if len(ports) == 1 else f"brokers on ports {', '.join(map(str, ports))}"
    print(f"{len(local.devices)} devices are registered with the {where}.")
    print(f"use it:  set -a; . {_shown(local.environment_file)}; set +a")
    print(f"         {_shown(python)} {_shown(producer)} IMAGE")
    print(f"end it:  {_shown(CHECKOUT / 'run_cluster.sh')} --stop --dir {_shown(local.directory)}")


def _stop(directory: Path) -> None:
    with Waiting(f"ending the cluster in {directory}"):
        running = stop_cluster(directory)
    print(f"stopped {running} processes" if running else f"no cluster is running in {directory}")


def _shown(path: Path) -> str:
    return shlex.quote(str(path))
