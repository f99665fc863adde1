"""Requests as people and programs send them, so that there is something to see: seeded, and through the front door.

Some talk to one model turn by turn, some to another; an indexer embeds; now and then somebody wants a large model that
is not loaded, and now and then somebody loses patience in the middle of an answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from ollamad.ollama.client import UNTIMED

IN_FLIGHT_MAX: Final = 120
"""Nobody sends more while so many wait: a broken fleet is not buried."""
TALK_MAX_CHARACTERS: Final = 2000
"""A conversation that has grown longer is over: the next question begins another. A context has 4096 tokens."""
LEAVES: Final = 0.02
"""Share of those who chat that go away in the middle of the answer."""
PATIENCE_S: Final = 120.0
BURSTS: Final = 0.6
"""Shape of the gaps between requests (Gamma): below 1 they come in bursts."""
ANSWER_TOKENS_MAX: Final = 500
RATE_MAX_PER_S: Final = 200.0
_RATE: Final = re.compile(r"(\d{1,4}(?:\.\d{1,4})?)(?:/(s|min))?")

TOPICS: Final = (
    "Why is the sky blue?",
    "Write a haiku about a GPU that is never idle.",
    "Explain tail latency to a new colleague, with one example from a kitchen.",
    "Summarize the meeting notes below in five points, and say who has to do what until when.",
    "What does this stack trace mean, and where would you look first? It happens once a day, at night.",
    "Translate this letter into plain English, and keep the dates as they are.",
)
FILLER: Final = "The quick brown fox looks at the queue, sees that it is short, and jumps over the lazy dog. "


@dataclass(frozen=True, slots=True)
class Habit:
    """What one kind of client asks for."""

    model: str
    weight: float
    """How often, beside the others."""
    tokens: float = 0.0
    """Of a usual answer; 0 for one who embeds."""
    filler: int = 2
    """How long a usual prompt is, in sentences."""


HABITS: Final = (
    Habit("llama3.1:8b", 50, tokens=130),
    Habit("qwen3:14b", 24, tokens=180, filler=6),
    Habit("nomic-embed-text", 20, filler=10),
    Habit("gemma3:27b", 5, tokens=220, filler=8),
    Habit("mistral-small:24b", 1, tokens=150),
)
PEOPLE: Final = ("ana", "bela", "chidi", "dana", "emre", "farah", "goran", "hana")


@dataclass(slots=True)
class _Talk:
    """A conversation: what has been said so far."""

    messages: list[dict[str, str]] = field(default_factory=list)


class Traffic:
    """Sends until it is cancelled, `rate_per_s` on average; 0 sends nothing."""

    def __init__(self, rate_per_s: float, seed: int) -> None:
        self.rate_per_s = rate_per_s
        self._luck = random.Random(seed)  # noqa: S311 - luck that can be repeated
        self._talks: dict[tuple[str, str], _Talk] = {}
        self._changed = asyncio.Event()
        self._in_flight = 0
        self.ended: deque[str] = deque(maxlen=1000)
        """How the last requests ended: `served`, `left`, or what went wrong."""

    def set_rate(self, rate_per_s: float) -> None:
        """From now on send so many a second."""
        self.rate_per_s = rate_per_s
        self._changed.set()

    async def run(self, base_url: str) -> None:
        """Send to this address of our own until cancelled. Its certificate, if any, is for another name of it."""
        connector = aiohttp.TCPConnector(limit=0, ssl=False)
        async with (
            aiohttp.ClientSession(base_url, connector=connector, timeout=UNTIMED) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                await self._gap()
                if self._in_flight < IN_FLIGHT_MAX:
                    tasks.create_task(self._send(session))

    async def _gap(self) -> None:
        """Wait until the next one is due; a change of the rate is minded at once."""
        while True:
            self._changed.clear()
            rate = self.rate_per_s
            gap_s = self._luck.gammavariate(BURSTS, 1 / (BURSTS * rate)) if rate else None
            try:
                async with asyncio.timeout(gap_s):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _send(self, session: aiohttp.ClientSession) -> None:
        habit = self._luck.choices(HABITS, [habit.weight for habit in HABITS])[0]
        person = self._luck.choice(PEOPLE)
        self._in_flight += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.ended.append(await (self._chat if habit.tokens else self._embed)(session, habit, person))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:  # a fleet under faults: that is seen
            self.ended.append(type(error).__name__)
        finally:
            self._in_flight -= 1

    async def _chat(self, session: aiohttp.ClientSession, habit: Habit, person: str) -> str:
        talk = self._talk(habit, person)
        question = {"role": "user", "content": self._prompt(habit)}
        length = min(ANSWER_TOKENS_MAX, max(8, round(self._luck.lognormvariate(0.0, 0.6) * habit.tokens)))
        leaves_after = self._luck.randrange(2, 40) if self._luck.random() < LEAVES else None
        body = {
            "model": habit.model,
            "messages": [*talk.messages, question],
            "options": {"num_predict": length},
        }
        said: list[str] = []
        async with session.post("/api/chat", json=body, headers={"X-Ollamad-Client": person}) as answer:
            if not answer.ok:
                return self._refused(answer.status, await answer.text())
            async for line in answer.content:
                record = json.loads(line)
                if "error" in record:
                    return "broken"
                said.append(record["message"]["content"])
                if len(said) == leaves_after:
                    return "left"
        talk.messages += [question, {"role": "assistant", "content": "".join(said)}]
        return "served"

    async def _embed(self, session: aiohttp.ClientSession, habit: Habit, person: str) -> str:
        body: dict[str, Any] = {"model": habit.model, "input": [self._prompt(habit) for _ in range(4)]}
        async with session.post("/api/embed", json=body, headers={"X-Ollamad-Client": person}) as answer:
            said = await answer.text()
            return "served" if answer.ok else self._refused(answer.status, said)

    def _refused(self, status: int, said: str) -> str:
        """A daemon that says that it is going is sent nothing more."""
        if "is stopping" in said:
            self.set_rate(0.0)
        return str(status)

    def _talk(self, habit: Habit, person: str) -> _Talk:
        """The conversation that goes on, or a new one."""
        talk = self._talks.get((person, habit.model))
        if talk is None or sum(len(message["content"]) for message in talk.messages) > TALK_MAX_CHARACTERS:
            talk = self._talks[person, habit.model] = _Talk()
        return talk

    def _prompt(self, habit: Habit) -> str:
        return f"{self._luck.choice(TOPICS)} {FILLER * self._luck.randrange(habit.filler + 1)}"


def parse_rate(text: str) -> float:
    """`5/s`, `30/min` or `5`, in requests a second. Raises ValueError."""
    matched = _RATE.fullmatch(text.strip())
    per_s = float(matched[1]) / (60.0 if matched[2] == "min" else 1.0) if matched else -1.0
    if not 0 <= per_s <= RATE_MAX_PER_S:
        raise ValueError(f"a rate from 0 to {RATE_MAX_PER_S:g}/s is expected, such as 5/s or 30/min")
    return per_s
