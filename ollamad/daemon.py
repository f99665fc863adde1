"""The composition root: builds every part once, runs them in one TaskGroup, and stops them in order.

Start: GPUs, then the plan of children, then the listeners (a client that comes early waits for a child instead of being
refused), then what a killed ollamad left is ended, then the warden, then the children. Stop, on SIGTERM or SIGINT: no
new requests, streams may finish for `proxy.shutdown_grace_s`, then the children are stopped, which ends what still
streams with an error object; the warden finds nothing left to do, and the listeners go.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil
import structlog
from aiohttp import web

from ollamad import __version__
from ollamad.config import Config
from ollamad.config.address import Address, parse_address
from ollamad.errors import StartError
from ollamad.fleet.discovery import discover
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.keeper import keep_warden
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread
from ollamad.ollama.binary import find_binary
from ollamad.ollama.leftovers import end_leftovers, own_mark
from ollamad.proxy.app import child_session, proxy_runner
from ollamad.status.app import status_runner

log = structlog.get_logger()

LEFTOVERS_S: Final = 10.0
"""How long to wait for killed leftovers to be gone; only a process stuck in a driver takes longer."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the daemon can be reached, ports that the kernel chose included."""

    proxy: Address
    status: Address


async def run(config: Config, on_listening: Callable[[Listening], None] = lambda _: None) -> None:
    """Run the daemon until it is told to stop.

    Raises ConfigError or StartError where it can't start; nothing is left running then.
    """
    program = find_binary(config.ollama.binary, os.environ.get("PATH"))
    gpu_thread = GpuThread(NvmlProvider(), timeout_s=config.gpus.call_timeout_s)
    try:
        plans, notes = await discover(config.gpus, gpu_thread)
        gpus = [gpu for child in plans for gpu in child.gpus]
        telemetry = Telemetry(gpu_thread, gpus, config.gpus.sample_interval_s)
        instance = own_mark()
        async with child_session(config.proxy) as session:
            fleet = Fleet(config, plans, program=program, instance=instance, session=session, telemetry=telemetry)
            proxy = proxy_runner(fleet, session, config.proxy, parse_address(config.proxy.listen))
            status = status_runner(fleet.snapshot)
            try:
                listening = Listening(
                    proxy=await _listen(proxy, "proxy.listen", config.proxy.listen),
                    status=await _listen(status, "status.listen", config.status.listen),
                )
                on_listening(listening)
                for note in notes:
                    note.tell()
                log.info(
                    "ollamad starts",
                    version=__version__,
                    pid=os.getpid(),
                    proxy=str(listening.proxy),
                    status=str(listening.status),
                    ollama=str(program),
                    children=[child.id for child in plans],
                )
                for leftover in await end_leftovers(LEFTOVERS_S):
                    log.warning("ended what a killed ollamad left", pid=leftover.pid, child=leftover.child)
                await _run_fleet(fleet, instance, config.proxy.shutdown_grace_s)
            finally:
                await proxy.cleanup()
                await status.cleanup()
    finally:
        gpu_thread.close()
    log.info("ollamad stopped")


async def _run_fleet(fleet: Fleet, instance: str, grace_s: float) -> None:
    """Run the children until a signal, then stop them; the warden lives longest."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            warden = tasks.create_task(keep_warden(instance), name="warden")
            children = tasks.create_task(fleet.run(), name="fleet")
            stopping = tasks.create_task(_stop_when_asked(fleet, stop, grace_s), name="stop")
            await children
            stopping.cancel()
            warden.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _stop_when_asked(fleet: Fleet, stop: asyncio.Event, grace_s: float) -> None:
    await stop.wait()
    fleet.refuse()
    log.info("stopping", grace_s=grace_s)
    stop.clear()
    async with asyncio.TaskGroup() as tasks:
        hurried = tasks.create_task(stop.wait(), name="second signal")
        idle = tasks.create_task(fleet.idle(grace_s), name="grace")
        await asyncio.wait({hurried, idle}, return_when=asyncio.FIRST_COMPLETED)
        if not idle.done() or not idle.result():
            log.warning("streams cut", why="a second signal" if hurried.done() else "the grace is over")
        hurried.cancel()
        idle.cancel()
    fleet.stop()


async def _listen(runner: web.AppRunner, key: str, text: str) -> Address:
    """Open one listener. Raises StartError where the address can't be had, naming who has it."""
    address = parse_address(text)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        holder = _holder(address.port)
        raise StartError(
            f"can't listen on {address} ([{key.replace('.', '] ')}): {error.strerror or error}{holder};"
            f" stop that, or choose another address, such as --set {key}={Address(address.host, address.port + 1)}"
        ) from error
    host, port = runner.addresses[0][:2]
    return Address(host, port)


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
