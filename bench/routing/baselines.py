"""What a general proxy does: choose a child the moment a request comes, knowing nothing of models."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol

from bench.routing.child import Child
from bench.routing.clock import Clock
from bench.routing.parts import Asked


class Balancer(Protocol):
    """Gets every request, and says of each when it has ended."""

    def ask(self, asked: Asked, ended: Callable[[Asked], None]) -> None:
        """A request has come. `ended` is called once it is answered, or has failed for good."""


Pick = Callable[[Asked, Sequence[Child], random.Random, int], Child]


def round_robin(_asked: Asked, children: Sequence[Child], _luck: random.Random, turn: int) -> Child:
    """What nginx does by default."""
    return children[turn % len(children)]


def least_conn(_asked: Asked, children: Sequence[Child], _luck: random.Random, turn: int) -> Child:
    """As nginx `least_conn`: among equals, in turn."""
    rotated = [children[(turn + offset) % len(children)] for offset in range(len(children))]
    return min(rotated, key=lambda child: child.in_flight)


def at_random(_asked: Asked, children: Sequence[Child], luck: random.Random, _turn: int) -> Child:
    """As nginx `random`."""
    return luck.choice(children)


def power_of_two(_asked: Asked, children: Sequence[Child], luck: random.Random, _turn: int) -> Child:
    """As nginx `random two least_conn`."""
    return min(luck.sample(children, 2), key=lambda child: child.in_flight)


def hash_client(asked: Asked, children: Sequence[Child], _luck: random.Random, _turn: int) -> Child:
    """As nginx `ip_hash`, or `hash` of a cookie."""
    return children[_hash(asked.client) % len(children)]


def hash_model(asked: Asked, children: Sequence[Child], _luck: random.Random, _turn: int) -> Child:
    """What nginx can't do by itself, as it does not read bodies: each model has its child."""
    return children[_hash(asked.model.name) % len(children)]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


BASELINES = {
    "round_robin": round_robin,
    "least_conn": least_conn,
    "random": at_random,
    "two_choices": power_of_two,
    "hash_client": hash_client,
    "hash_model": hash_model,
}


class Early:
    """Binds at once; the child queues. A child that answers 5xx is not left out: nginx can't see that it fails."""

    def __init__(self, pick: Pick, children: Sequence[Child], _clock: Clock, seed: int) -> None:
        self._pick = pick
        self._children = children
        self._luck = random.Random(seed)
        self._turn = 0

    def ask(self, asked: Asked, ended: Callable[[Asked], None]) -> None:
        """To the child that the rule picks."""
        child = self._pick(asked, self._children, self._luck, self._turn)
        self._turn += 1

        def over(asked: Asked, well: bool) -> None:  # noqa: FBT001
            asked.failed = not well
            ended(asked)

        child.send(asked, over)
