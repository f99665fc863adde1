from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from ollamad.errors import GpuError, GpuSilent
from ollamad.gpu.model import Gpu, Inventory, Sample
from ollamad.gpu.thread import EVENTS_KEPT, GpuThread
from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind

ONE = Inventory((Gpu(0, "GPU-0", "NVIDIA H100", 80 << 30),), "570.124.06")
XID = GpuEvent("GPU-0", GpuEventKind.XID, "Xid 79", xid=79)
LATE = "has not answered for 0.05 s"


class Provider:
    """A driver that counts its calls, and hangs while `gate` is shut."""

    def __init__(self) -> None:
        self.busy_with: str | None = None
        self.reported: list[GpuEvent] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = threading.Event()
        self.calls = 0
        self.threads: set[threading.Thread] = set()
        self.error: Exception | None = None

    def discover(self) -> Inventory:
        self._call()
        return ONE

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        self._call()
        return tuple(Sample(uuid, float(self.calls), 1, 2, 3, 4) for uuid in uuids)

    def events(self) -> tuple[GpuEvent, ...]:
        events, self.reported = tuple(self.reported), []
        return events

    def close(self) -> None:
        self.threads.add(threading.current_thread())
        self.closed.set()

    def ended(self) -> bool:
        """Waits until the thread that made the calls is over."""
        assert self.closed.wait(60)
        for thread in self.threads:
            thread.join(60)
        return not any(thread.is_alive() for thread in self.threads)

    def _call(self) -> None:
        self.calls += 1
        self.threads.add(threading.current_thread())
        self.entered.set()
        self.gate.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    yield provider
    provider.gate.set()


async def until_it_answers(thread: GpuThread) -> tuple[Sample, ...]:
    while True:
        try:
            return await thread.sample(("GPU-0",))
        except GpuError:
            await asyncio.sleep(0.001)


async def until_entered(provider: Provider) -> None:
    assert await asyncio.to_thread(provider.entered.wait, 60)


async def test_all_calls_are_made_in_one_thread_which_is_not_the_loops(provider: Provider) -> None:
    thread = GpuThread(provider)
    assert await thread.discover() == ONE
    assert [sample.uuid for sample in await thread.sample(("b", "a"))] == ["b", "a"]
    thread.close()
    assert provider.ended()
    assert len(provider.threads) == 1
    assert threading.current_thread() not in provider.threads


async def test_calls_asked_at_once_are_made_one_after_the_other(provider: Provider) -> None:
    thread = GpuThread(provider)
    answers = await asyncio.gather(*(thread.sample(("GPU-0",)) for _ in range(5)))
    assert [sample.taken_at_s for (sample,) in answers] == [1, 2, 3, 4, 5]
    thread.close()


@pytest.mark.parametrize("error", [GpuError("no NVIDIA driver on this machine"), RuntimeError("a bug"), TimeoutError()])
async def test_what_the_provider_raises_reaches_whoever_asked_and_the_next_call_works(
    provider: Provider, error: Exception
) -> None:
    thread = GpuThread(provider)
    provider.error = error
    with pytest.raises(type(error)) as caught:
        await thread.discover()
    assert caught.value is error
    provider.error = None
    assert await thread.discover() == ONE
    thread.close()


async def test_a_call_that_hangs_ends_at_the_deadline_and_nothing_is_asked_until_it_returns(provider: Provider) -> None:
    thread = GpuThread(provider, timeout_s=0.05)
    provider.gate.clear()
    messages = set()
    for _ in range(20):
        with pytest.raises(GpuError, match=LATE) as caught:
            await thread.sample(("GPU-0",))
        messages.add(str(caught.value))
    assert provider.calls == 1
    assert len(messages) == 1, "a fault that keeps its text is reported once"

    provider.gate.set()
    (sample,) = await until_it_answers(thread)
    assert sample.taken_at_s > 1, "the answer of the call that hung is stale"
    assert sample.taken_at_s < 20, "nothing was kept to be asked later"
    thread.close()
    assert provider.ended()
    assert len(provider.threads) == 1


async def test_those_who_ask_while_a_call_hangs_all_get_the_same_error(provider: Provider) -> None:
    thread = GpuThread(provider, timeout_s=0.05)
    provider.gate.clear()
    answers = await asyncio.gather(*(thread.discover() for _ in range(5)), return_exceptions=True)
    assert [LATE in str(answer) for answer in answers] == [True] * 5
    assert await asyncio.to_thread(provider.entered.wait, 60)  # the machine may be busier than the timeout is long
    assert provider.calls == 1
    thread.close()


async def test_an_error_that_comes_after_the_deadline_is_dropped(provider: Provider) -> None:
    thread = GpuThread(provider, timeout_s=0.05)
    provider.gate.clear()
    provider.error = GpuError("too late")
    with pytest.raises(GpuError, match=LATE):
        await thread.discover()
    provider.error = None
    provider.gate.set()
    assert await until_it_answers(thread)
    thread.close()


async def test_whoever_asks_after_a_cancelled_call_gets_its_own_answer(provider: Provider) -> None:
    thread = GpuThread(provider)
    provider.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        left = tasks.create_task(thread.discover())
        await until_entered(provider)
        left.cancel()
        after = tasks.create_task(thread.sample(("GPU-0",)))
        await asyncio.wait({left})
        assert provider.calls == 1
        provider.gate.set()
    (sample,) = after.result()
    assert sample.taken_at_s == 2
    thread.close()


async def test_after_close_the_provider_is_closed_the_thread_ends_and_calls_say_why(provider: Provider) -> None:
    thread = GpuThread(provider)
    thread.close()
    thread.close()
    assert provider.ended()
    with pytest.raises(GpuError, match="closed"):
        await thread.discover()
    assert provider.calls == 0


async def test_close_waits_for_no_call_that_hangs_and_the_thread_ends_once_it_returns(provider: Provider) -> None:
    thread = GpuThread(provider, timeout_s=0.05)
    provider.gate.clear()
    with pytest.raises(GpuError, match=LATE):
        await thread.discover()
    thread.close()
    assert not provider.closed.is_set()
    provider.gate.set()
    assert provider.ended()


def test_a_call_may_return_after_its_loop_is_gone() -> None:
    provider = Provider()
    provider.gate.clear()

    async def ask() -> None:
        thread = GpuThread(provider, timeout_s=0.05)
        with pytest.raises(GpuError, match=LATE):
            await thread.discover()
        thread.close()

    asyncio.run(ask())
    provider.gate.set()
    assert provider.ended()


async def test_what_the_driver_reports_comes_with_the_samples_each_event_once(provider: Provider) -> None:
    thread = GpuThread(provider)
    provider.reported = [XID]
    assert thread.take_events() == (), "nothing is asked but by a sample"
    await thread.sample(("GPU-0",))
    assert thread.take_events() == (XID,)
    await thread.sample(("GPU-0",))
    assert thread.take_events() == ()
    thread.close()


async def test_events_are_kept_although_the_answer_they_came_with_is_too_late(provider: Provider) -> None:
    thread = GpuThread(provider, timeout_s=0.05)
    provider.gate.clear()
    provider.reported = [XID]
    with pytest.raises(GpuError, match=LATE):
        await thread.sample(("GPU-0",))
    async with asyncio.timeout(10):  # on a busy machine the thread may not even have begun by the deadline
        while not (kept := thread.take_events()):
            await asyncio.sleep(0.01)
    assert kept == (XID,)
    thread.close()


async def test_events_that_nobody_takes_are_bounded_and_the_newest_stay(provider: Provider) -> None:
    thread = GpuThread(provider)
    provider.reported = [XID] * EVENTS_KEPT + [GpuEvent("GPU-1", GpuEventKind.ECC, "last")]
    await thread.sample(("GPU-0",))
    events = thread.take_events()
    assert (len(events), events[-1].text) == (EVENTS_KEPT, "last")
    thread.close()


async def test_a_call_that_hangs_says_which_gpu_it_is_about(provider: Provider) -> None:
    thread = GpuThread(provider, timeout_s=0.05)
    provider.gate.clear()
    provider.busy_with = "GPU-1"
    with pytest.raises(GpuSilent) as caught:
        await thread.sample(("GPU-0", "GPU-1"))
    assert caught.value.uuid == "GPU-1"
    thread.close()


async def test_gpus_are_found_anew_between_two_samples(provider: Provider) -> None:
    thread = GpuThread(provider)
    await thread.sample(("GPU-0",))
    assert await thread.discover() == ONE
    assert [sample.uuid for sample in await thread.sample(("GPU-0",))] == ["GPU-0"]
    thread.close()
