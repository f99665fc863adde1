"""The composition root: builds every part once, runs them in one TaskGroup, and stops them in order.

Start: the control socket, which only one ollamad can have; then GPUs (`gpus.call_timeout_s`), the plan of children, the
listeners (a client that comes early waits for a child instead of being refused); then what a killed ollamad left is
ended (10 s); then the warden, and the children (`ollama.start_timeout_s` each, all at once).

Stop, on SIGTERM or SIGINT: no new requests, and streams may finish (`proxy.shutdown_grace_s`); then the children get
TERM, which ends what still streams with an error object, and KILL (`ollama.stop_timeout_s`); what outlives even that is
left to the kernel (10 s); the warden finds nothing left to do, and the listeners go. Each further signal goes on to the
next stage at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import structlog
from aiohttp import web

from ollamad import __version__
from ollamad.access.access import Access
from ollamad.access.site import SecureSite
from ollamad.config import Config
from ollamad.config.address import Address, parse_address
from ollamad.control.face import Claim, ControlFace, claim
from ollamad.errors import OllamadError, StartError
from ollamad.fleet.devices import Devices
from ollamad.fleet.discovery import discover
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.keeper import keep_warden
from ollamad.fleet.operations import Operations
from ollamad.fleet.reload import mind_new_gpus
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread
from ollamad.log import set_up as set_up_log
from ollamad.ollama.kinship import adopt_orphans
from ollamad.ollama.leftovers import end_leftovers, own_mark
from ollamad.ollama.program import Program, find_program
from ollamad.proxy.app import child_session, proxy_runner
from ollamad.routing.snapshot import Snapshot
from ollamad.signals import Signals
from ollamad.status.agent import AgentProtocol
from ollamad.status.app import status_runner
from ollamad.status.board import Board
from ollamad.status.guard import Guard
from ollamad.status.metrics import metrics
from ollamad.status.models import whole_status
from ollamad.status.own import OwnProcess

log = structlog.get_logger()

LEFTOVERS_S: Final = 10.0
"""How long to wait for killed leftovers to be gone; only a process stuck in a driver takes longer."""
ABANDON_AFTER_S: Final = 10.0
"""How long a child may still be there after its TERM should have been followed by KILL."""

HANDSHAKE_S: Final = 10.0
"""For a client's side of TLS, which takes two round trips."""
BACKLOG: Final = 4096
"""Clients that may connect at once before one of them is looked at; the kernel has a limit of its own (somaxconn)."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the daemon can be reached, ports that the kernel chose included."""

    proxy: Address
    status: Address


async def run(
    config: Config,
    on_listening: Callable[[Listening], None] = lambda _: None,
    reread: Callable[[], Config] | None = None,
) -> None:
    """Run the daemon until it is told to stop. `reread` gives the configuration anew, for a reload.

    Raises ConfigError or StartError where it can't start; nothing is left running then.
    """
    program = Program(find_program(config.ollama.binary, os.environ.get("PATH")))
    with (
        claim(config.control) as ours,  # first of all: of two ollamads on one socket the second starts nothing
        Signals(
            signal.SIGTERM, signal.SIGINT
        ) as stop,  # minded to the very end: one too many must not cut the end short
        Signals(signal.SIGHUP) as hangup,
    ):
        await _run(config, program, ours, on_listening, reread or (lambda: config), (stop, hangup))


async def _run(
    config: Config,
    program: Program,
    ours: Claim,
    on_listening: Callable[[Listening], None],
    reread: Callable[[], Config],
    signals: tuple[Signals, Signals],
) -> None:
    adopt_orphans()
    gpu_thread = GpuThread(NvmlProvider(), timeout_s=config.gpus.call_timeout_s)
    try:
        plans, notes = await discover(config.gpus, gpu_thread)
        gpus = [gpu for child in plans for gpu in child.gpus]
        devices = Devices(Telemetry.configured(gpu_thread, gpus, config.gpus), config.gpus.sample_interval_s)
        instance = own_mark()
        access = Access(config, str(Path.home()))
        async with child_session(config.proxy) as session:
            fleet = Fleet(config, plans, program=program, instance=instance, session=session, devices=devices)
            operations = Operations(fleet, access.reread(reread), _applied(access))
            proxy = proxy_runner(fleet, session, parse_address(config.proxy.listen), access.keyring)
            board, own = Board(fleet.whole_snapshot, fleet.tallies, config.status), OwnProcess()
            status = status_runner(
                fleet.whole_snapshot,
                fleet.synchronizer.view,
                lambda: metrics(fleet.whole_snapshot(), fleet.tallies, own.read()),
                board,
                Guard(
                    access.keyring,
                    parse_address(config.status.listen),
                    config.status.allow_unauthenticated,
                    lambda: fleet.config.proxy.allowed_hosts,
                ),
                config.status.connections_max,
            )
            control = ControlFace(
                ours,
                config.control,
                operations,
                lambda: whole_status(fleet.whole_snapshot(), fleet.synchronizer.view()),
                access.keyring,
            )
            try:
                await control.open()
                listening = Listening(
                    proxy=await _listen(proxy, "proxy.listen", config.proxy.listen, access.proxy_tls),
                    status=await _listen(status, "status.listen", config.status.listen, access.status_tls),
                )
                control.about.proxy, control.about.status = str(listening.proxy), str(listening.status)
                control.about.tls = access.proxy_tls is not None
                on_listening(listening)
                for note in notes:
                    note.tell()
                log.info(
                    "ollamad starts",
                    version=__version__,
                    pid=os.getpid(),
                    proxy=str(listening.proxy),
                    status=str(listening.status),
                    control=str(ours.path),
                    ollama=str(program.path),
                    children=[child.id for child in plans],
                )
                for leftover in await end_leftovers(LEFTOVERS_S):
                    log.warning("ended what a killed ollamad left", pid=leftover.pid, child=leftover.child)
                async with _telling_agents(fleet.whole_snapshot, config.status.agent_listen):
                    await _run_fleet(fleet, operations, control, board, access, instance, signals)
            finally:
                await proxy.cleanup()
                await status.cleanup()
                await control.close()
    finally:
        gpu_thread.close()
    log.info("ollamad stopped")


async def _run_fleet(
    fleet: Fleet,
    operations: Operations,
    control: ControlFace,
    board: Board,
    access: Access,
    instance: str,
    signals: tuple[Signals, Signals],
) -> None:
    """Run the children until a signal, then stop them; the warden lives longest."""
    stop, hangup = signals
    async with asyncio.TaskGroup() as tasks:
        warden = tasks.create_task(keep_warden(instance), name="warden")
        children = tasks.create_task(fleet.run(), name="fleet")
        minders = [
            tasks.create_task(_stop_when_asked(fleet, stop), name="stop"),
            tasks.create_task(_reload_when_asked(operations, hangup), name="reload"),
            tasks.create_task(mind_new_gpus(fleet), name="new gpus"),
            tasks.create_task(control.run(), name="control"),
            tasks.create_task(board.run(), name="dashboard"),
            tasks.create_task(access.run(), name="access"),
        ]
        await children
        for minder in minders:
            minder.cancel()
        warden.cancel()


def _applied(access: Access) -> Callable[[Config], None]:
    """What is to be done with a configuration that is in force from now on."""

    def applied(config: Config) -> None:
        set_up_log(config.log)
        access.renew()

    return applied


async def _stop_when_asked(fleet: Fleet, stop: Signals) -> None:
    """Stop in stages, each with a deadline; one more signal goes on to the next at once."""
    await stop.heard(None)
    grace_s = fleet.config.proxy.shutdown_grace_s
    fleet.refuse()
    log.info("stopping", grace_s=grace_s)
    if not (idle := await stop.heard_before(fleet.idle(grace_s))):
        log.warning("streams cut", reason="a second signal" if idle is None else "the grace is over")
    fleet.stop()
    patience_s = fleet.config.ollama.stop_timeout_s + ABANDON_AFTER_S
    hurried = await stop.heard(patience_s)
    log.warning("children abandoned", reason="a signal" if hurried else f"they are still there after {patience_s:g} s")
    fleet.abandon()


async def _reload_when_asked(operations: Operations, hangup: Signals) -> None:
    """On SIGHUP read the configuration again; one that can't be used is told, and changes nothing."""
    while True:
        await hangup.heard(None)
        try:
            await operations.reload(lambda facts: log.info("reload goes on", **facts))
        except OllamadError as error:
            log.warning("reload refused", reason=str(error))


async def _listen(runner: web.BaseRunner, key: str, text: str, tls: ssl.SSLContext | None) -> Address:
    """Open one listener. Raises StartError where the address can't be had, naming who has it."""
    address = parse_address(text)
    await runner.setup()
    with _address_of_ours(address, key):
        await _site(runner, address, tls).start()
    host, port = runner.addresses[0][:2]
    return Address(host, port)


def _site(runner: web.BaseRunner, address: Address, tls: ssl.SSLContext | None) -> web.BaseSite:
    if tls is None:
        return web.TCPSite(runner, address.host, address.port, backlog=BACKLOG)
    return SecureSite(runner, address.host, address.port, backlog=BACKLOG, tls=tls, handshake_s=HANDSHAKE_S)


@asynccontextmanager
async def _telling_agents(look: Callable[[], Snapshot], text: str) -> AsyncIterator[None]:
    """Answer agent checks meanwhile, where an address is set. Raises StartError where it can't be had."""
    if not text:
        yield
        return
    address = parse_address(text)
    with _address_of_ours(address, "status.agent_listen"):
        server = await asyncio.get_running_loop().create_server(lambda: AgentProtocol(look), address.host, address.port)
    async with server:
        yield


@contextmanager
def _address_of_ours(address: Address, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        holder = _holder(address.port)
        raise StartError(
            f"can't listen on {address} ([{key.replace('.', '] ')}): {error.strerror or error}{holder};"
            f" stop that, or choose another address, such as --set {key}={Address(address.host, address.port + 1)}"
        ) from error


def _holder(port: int) -> str:
    """` (pid 123, ollama)` for who listens on a port, where this user may know."""
    try:
        pids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        }
        return "".join(f" (pid {pid}, {psutil.Process(pid).name()})" for pid in sorted(filter(None, pids)))
    except psutil.Error:
        return ""
