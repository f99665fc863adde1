"""The three ways in which a request is refused for who asks: no key, not this key, too often."""

from __future__ import annotations

from http import HTTPStatus

from ollamad.errors import ClientError, TurnedAway


def unauthorized(message: str) -> ClientError:
    """Nobody knows who asks."""
    return ClientError(HTTPStatus.UNAUTHORIZED, message, why=TurnedAway.NO_KEY)


def forbidden(message: str) -> ClientError:
    """Who asks is known, and may not."""
    return ClientError(HTTPStatus.FORBIDDEN, message, why=TurnedAway.NOT_ALLOWED)


def too_many(message: str, retry_after_s: int) -> ClientError:
    """Who asks may, but not now."""
    text = f"{message}; come back in {retry_after_s} s"
    return ClientError(HTTPStatus.TOO_MANY_REQUESTS, text, why=TurnedAway.TOO_MANY, retry_after_s=retry_after_s)
