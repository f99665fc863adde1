"""The composition root: builds every part once, runs them in one TaskGroup, and stops them in order.

Start: what systemd hands over; the control socket, which only one ollamad can have; then GPUs (`gpus.call_timeout_s`),
the plan of children, the listeners (a client that comes early waits for a child instead of being refused); then what a
killed ollamad left is ended (10 s); then the warden, and the children (`ollama.start_timeout_s` each, all at once).

Stop, on SIGTERM or SIGINT: no new requests, and streams may finish (`proxy.shutdown_grace_s`); then the children get
TERM, which ends what still streams with an error object, and KILL (`ollama.stop_timeout_s`); what outlives even that is
left to the kernel (10 s); the warden finds nothing left to do, and the listeners go. Each further signal goes on to the
next stage at once. A listener that systemd holds is left alone from the first signal on: who connects then waits in it
for the next ollamad.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from ollamad import __version__
from ollamad.access.access import Access
from ollamad.config import Config
from ollamad.control.face import Claim, ControlFace, claim
from ollamad.control.operations import Demo
from ollamad.errors import OllamadError
from ollamad.fleet.devices import Devices
from ollamad.fleet.discovery import Note, discover
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.keeper import keep_warden
from ollamad.fleet.operations import Operations
from ollamad.fleet.reload import mind_new_gpus
from ollamad.fleet.standing import Standings
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.model import GpuProvider
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread
from ollamad.listening import Door, Listening, address_of, answering, open_door
from ollamad.log import set_up as set_up_log
from ollamad.ollama.kinship import adopt_orphans
from ollamad.ollama.leftovers import end_leftovers, own_mark
from ollamad.ollama.program import Program, find_program
from ollamad.proxy.app import ProxyRunner, child_session, proxy_runner
from ollamad.signals import Signals
from ollamad.status.agent import AgentProtocol
from ollamad.status.app import status_runner
from ollamad.status.board import Board
from ollamad.status.guard import Guard
from ollamad.status.metrics import metrics
from ollamad.status.models import whole_status
from ollamad.status.own import OwnProcess
from ollamad.systemd.notify import take_notifier
from ollamad.systemd.presence import Presence
from ollamad.systemd.sockets import Inherited, take_sockets

log = structlog.get_logger()

LEFTOVERS_S: Final = 10.0
"""How long to wait for killed leftovers to be gone; only a process stuck in a driver takes longer."""
ABANDON_AFTER_S: Final = 10.0
"""How long a child may still be there after its TERM should have been followed by KILL."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the daemon stands on that is no configuration; other than the machine itself only in a demo."""

    provider: Callable[[], GpuProvider] = NvmlProvider
    """Where its GPUs come from."""
    demo: Demo | None = None
    """What can be broken by hand."""


@dataclass(frozen=True, slots=True)
class World:
    """What is outside of the daemon: who started it, what it was given, and who tells it what to do."""

    inherited: Inherited
    control: Claim
    presence: Presence
    stop: Signals
    hangup: Signals
    reread: Callable[[], Config]
    """The configuration anew, for a reload."""
    machine: Machine


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon is made of: the fleet, and the faces over it."""

    fleet: Fleet
    access: Access
    board: Board
    proxy: ProxyRunner
    status: web.AppRunner
    control: ControlFace
    wanted: Listening
    """Where the configuration has it listen."""


async def run(
    config: Config,
    on_listening: Callable[[Listening], None] = lambda _: None,
    reread: Callable[[], Config] | None = None,
    machine: Machine = Machine(),
) -> None:
    """Run the daemon until it is told to stop. `reread` gives the configuration anew, for a reload.

    Raises ConfigError or StartError where it can't start; nothing is left running then.
    """
    with _world(config, reread or (lambda: config), machine) as world:
        await _run(config, Program(find_program(config.ollama.binary, os.environ.get("PATH"))), world, on_listening)


@contextmanager
def _world(config: Config, reread: Callable[[], Config], machine: Machine) -> Iterator[World]:
    with (
        closing(take_notifier(os.environ)) as manager,
        closing(take_sockets(os.environ)) as inherited,
        claim(config.control, inherited.control) as ours,  # of two ollamads on one socket the second starts nothing
        Signals(signal.SIGTERM, signal.SIGINT, deaf_after=True) as stop,  # one too many must not cut the end short
        Signals(signal.SIGHUP) as hangup,
    ):
        presence = Presence(manager, config.service.ready_wait_s)
        yield World(inherited, ours, presence, stop, hangup, reread, machine)


async def _run(config: Config, program: Program, world: World, on_listening: Callable[[Listening], None]) -> None:
    adopt_orphans()
    gpu_thread = GpuThread(world.machine.provider(), timeout_s=config.gpus.call_timeout_s)
    try:
        plans, notes = await discover(config.gpus, gpu_thread)
        gpus = [gpu for child in plans for gpu in child.gpus]
        devices = Devices(Telemetry.configured(gpu_thread, gpus, config.gpus), config.gpus.sample_interval_s)
        instance = own_mark()
        async with child_session(config.proxy) as session:
            fleet = Fleet(config, plans, program=program, instance=instance, session=session, devices=devices)
            parts = _build(config, fleet, world)
            try:
                door, listening = await _open(parts, world)
                on_listening(listening)
                _tell(fleet, notes, listening, world)
                for leftover in await end_leftovers(LEFTOVERS_S):
                    log.warning("ended what a killed ollamad left", pid=leftover.pid, child=leftover.child)
                agents = answering(
                    lambda: AgentProtocol(fleet.whole_snapshot), "status.agent_listen", config.status.agent_listen
                )
                async with agents:
                    await _run_fleet(fleet, instance, _minding(parts, world, door))
            finally:
                await parts.proxy.cleanup()
                await parts.status.cleanup()
                await parts.control.close()
    finally:
        gpu_thread.close()
    log.info("ollamad stopped")


def _build(config: Config, fleet: Fleet, world: World) -> Parts:
    """The faces over a fleet, none of them listening yet. Raises ConfigError."""
    proxy_at = address_of("proxy.listen", config.proxy.listen, world.inherited.proxy)
    status_at = address_of("status.listen", config.status.listen, world.inherited.status)
    access = Access(config, str(Path.home()))

    def applied(new: Config) -> None:
        set_up_log(new.log)
        access.renew()
        world.presence.reloaded()

    board, own = Board(fleet.whole_snapshot, fleet.tallies, config.status), OwnProcess()
    guard = Guard(
        access.keyring, status_at, config.status.allow_unauthenticated, lambda: fleet.config.proxy.allowed_hosts
    )
    status = status_runner(
        fleet.whole_snapshot,
        fleet.synchronizer.view,
        lambda: metrics(fleet.whole_snapshot(), fleet.tallies, own.read()),
        board,
        guard,
        config.status.connections_max,
    )
    control = ControlFace(
        world.control,
        config.control,
        Operations(fleet, access.reread(world.reread), applied, world.presence.reloading),
        lambda: whole_status(fleet.whole_snapshot(), fleet.synchronizer.view()),
        access.keyring,
        world.machine.demo,
    )
    proxy = proxy_runner(fleet, fleet.session, proxy_at, access.keyring)
    listening = Listening(proxy_at, status_at, access.proxy_tls is not None, access.status_tls is not None)
    return Parts(fleet, access, board, proxy, status, control, listening)


async def _open(parts: Parts, world: World) -> tuple[Door, Listening]:
    """Let operators in, then clients, then monitors; the clients' door, and where all can be reached.

    Raises StartError where an address can't be had.
    """
    wanted, access, inherited = parts.wanted, parts.access, world.inherited
    await parts.control.open()
    door = await open_door(parts.proxy, "proxy.listen", wanted.proxy, inherited.proxy, access.proxy_tls)
    status = await open_door(parts.status, "status.listen", wanted.status, inherited.status, access.status_tls)
    listening = replace(wanted, proxy=door.address, status=status.address)
    about = parts.control.about
    about.proxy, about.status = str(listening.proxy), str(listening.status)
    about.tls = listening.proxy_tls
    return door, listening


def _tell(fleet: Fleet, notes: Iterable[Note], listening: Listening, world: World) -> None:
    for note in notes:
        note.tell()
    log.info(
        "ollamad starts",
        version=__version__,
        pid=os.getpid(),
        proxy=str(listening.proxy),
        status=str(listening.status),
        control=str(world.control.path),
        ollama=str(fleet.program.path),
        children=list(fleet.children),
    )


def _minding(parts: Parts, world: World, door: Door) -> Mapping[str, Coroutine[object, object, None]]:
    """What goes on beside the children, by name."""
    return {
        "stop": _stop_when_asked(parts.fleet, world, parts.proxy, door),
        "reload": _reload_when_asked(parts.control, world.hangup),
        "new gpus": mind_new_gpus(parts.fleet),
        "control": parts.control.run(),
        "dashboard": parts.board.run(),
        "access": parts.access.run(),
        "presence": world.presence.run(Standings(parts.fleet).look),
    }


async def _run_fleet(fleet: Fleet, instance: str, minding: Mapping[str, Coroutine[object, object, None]]) -> None:
    """Run the children until they are stopped, and meanwhile what minds them; the warden lives longest."""
    async with asyncio.TaskGroup() as tasks:
        warden = tasks.create_task(keep_warden(instance), name="warden")
        children = tasks.create_task(fleet.run(), name="fleet")
        minders = [tasks.create_task(minder, name=name) for name, minder in minding.items()]
        await children
        for minder in minders:
            minder.cancel()
        warden.cancel()


async def _stop_when_asked(fleet: Fleet, world: World, proxy: ProxyRunner, door: Door) -> None:
    """Stop in stages, each with a deadline; one more signal goes on to the next at once."""
    stop = world.stop
    await stop.heard(None)
    notice_s, grace_s = fleet.config.proxy.shutdown_notice_s, fleet.config.proxy.shutdown_grace_s
    world.presence.stops()
    fleet.leave()
    streams = sum(child.in_flight for child in fleet.snapshot().children)
    advice = "a second signal cuts them" if streams else None
    log.info("stopping", streams=streams, notice_s=notice_s or None, grace_s=grace_s, advice=advice)
    hurried = await stop.heard(notice_s)
    left_s = 0.0 if hurried else grace_s
    await door.shut()
    if not door.outlives_us:
        fleet.refuse()
    idle = await stop.heard_before(proxy.run_out(left_s) if door.outlives_us else fleet.idle(left_s))
    if not idle:
        log.warning("streams cut", reason="a second signal" if hurried or idle is None else "the grace is over")
    fleet.refuse()
    fleet.stop()
    patience_s = fleet.config.ollama.stop_timeout_s + ABANDON_AFTER_S
    hurried = await stop.heard(patience_s)
    log.warning("children abandoned", reason="a signal" if hurried else f"they are still there after {patience_s:g} s")
    fleet.abandon()


async def _reload_when_asked(control: ControlFace, hangup: Signals) -> None:
    """On SIGHUP read the configuration again, as an operation that can be asked for; one at a time."""
    while True:
        await hangup.heard(None)
        try:
            await control.reload()
        except OllamadError as error:
            log.warning("reload refused", reason=str(error))
