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
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ollamad import __version__
from ollamad.access.access import Access
from ollamad.config import Config
from ollamad.config.address import Address
from ollamad.control.face import Claim, ControlFace, claim
from ollamad.control.operations import Demo
from ollamad.errors import OllamadError
from ollamad.fleet.devices import Devices
from ollamad.fleet.discovery import discover
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.keeper import keep_warden
from ollamad.fleet.operations import Operations
from ollamad.fleet.reload import mind_new_gpus
from ollamad.fleet.standing import Standings
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.model import GpuProvider
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread
from ollamad.listening import Door, address_of, answering, open_door
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
class Listening:
    """Where the daemon can be reached, ports that the kernel chose included."""

    proxy: Address
    status: Address


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
        Signals(signal.SIGTERM, signal.SIGINT) as stop,  # to the very end: one too many must not cut the end short
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
        inherited = world.inherited
        proxy_at = address_of("proxy.listen", config.proxy.listen, inherited.proxy)
        status_at = address_of("status.listen", config.status.listen, inherited.status)
        access = Access(config, str(Path.home()))

        def applied(new: Config) -> None:
            set_up_log(new.log)
            access.renew()
            world.presence.reloaded()

        async with child_session(config.proxy) as session:
            fleet = Fleet(config, plans, program=program, instance=instance, session=session, devices=devices)
            operations = Operations(fleet, access.reread(world.reread), applied, world.presence.reloading)
            proxy = proxy_runner(fleet, session, proxy_at, access.keyring)
            board, own = Board(fleet.whole_snapshot, fleet.tallies, config.status), OwnProcess()
            status = status_runner(
                fleet.whole_snapshot,
                fleet.synchronizer.view,
                lambda: metrics(fleet.whole_snapshot(), fleet.tallies, own.read()),
                board,
                Guard(
                    access.keyring,
                    status_at,
                    config.status.allow_unauthenticated,
                    lambda: fleet.config.proxy.allowed_hosts,
                ),
                config.status.connections_max,
            )
            control = ControlFace(
                world.control,
                config.control,
                operations,
                lambda: whole_status(fleet.whole_snapshot(), fleet.synchronizer.view()),
                access.keyring,
                world.machine.demo,
            )
            try:
                await control.open()
                door = await open_door(proxy, "proxy.listen", proxy_at, inherited.proxy, access.proxy_tls)
                listening = Listening(
                    proxy=door.address,
                    status=(
                        await open_door(status, "status.listen", status_at, inherited.status, access.status_tls)
                    ).address,
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
                    control=str(world.control.path),
                    ollama=str(program.path),
                    children=[child.id for child in plans],
                )
                for leftover in await end_leftovers(LEFTOVERS_S):
                    log.warning("ended what a killed ollamad left", pid=leftover.pid, child=leftover.child)
                agents = answering(
                    lambda: AgentProtocol(fleet.whole_snapshot), "status.agent_listen", config.status.agent_listen
                )
                async with agents:
                    await _run_fleet(
                        fleet,
                        instance,
                        {
                            "stop": _stop_when_asked(fleet, world, proxy, door),
                            "reload": _reload_when_asked(control, world.hangup),
                            "new gpus": mind_new_gpus(fleet),
                            "control": control.run(),
                            "dashboard": board.run(),
                            "access": access.run(),
                            "presence": world.presence.run(Standings(fleet).look),
                        },
                    )
            finally:
                await proxy.cleanup()
                await status.cleanup()
                await control.close()
    finally:
        gpu_thread.close()
    log.info("ollamad stopped")


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
    grace_s = fleet.config.proxy.shutdown_grace_s
    world.presence.stops()
    log.info("stopping", grace_s=grace_s)
    await door.shut()
    if not door.outlives_us:
        fleet.refuse()
    running_out = proxy.run_out(grace_s) if door.outlives_us else fleet.idle(grace_s)
    if not (idle := await stop.heard_before(running_out)):
        log.warning("streams cut", reason="a second signal" if idle is None else "the grace is over")
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
