"""How often somebody may ask: a bucket of tokens that fills with time. Pure.

It holds a minute's worth, so that a client that was quiet may ask as often as a minute allows, at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left, and when."""

    tokens: float
    at_s: float


def full(per_minute: int, now_s: float) -> Bucket:
    """The bucket of somebody who has not asked yet."""
    return Bucket(float(per_minute), now_s)


def draw(bucket: Bucket, per_minute: int, now_s: float) -> tuple[Bucket, float]:
    """Ask once: the bucket from now on, and the seconds after which to come back; 0 where it was granted."""
    filled = bucket.tokens + max(0.0, now_s - bucket.at_s) * per_minute / MINUTE_S
    tokens = min(float(per_minute), filled)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, now_s), 0.0
    return Bucket(tokens, now_s), (1.0 - tokens) * MINUTE_S / per_minute
