"""All that can be asked over the control socket, in one table: routes, description and documentation follow it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from msgspec import Struct

from ollamad.access.key import Grant


class Answer(Enum):
    """What an endpoint answers with."""

    DOCUMENT = "JSON"
    STREAM = "NDJSON, as it happens"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a query."""

    name: str
    meaning: str
    is_flag: bool = True
    """Whether it is 0 or 1, and 0 where it is left out; else it is text."""
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path."""

    method: str
    path: str
    handler: str
    """The name of the method of `Handlers` that answers it."""
    meaning: str
    changes: bool = False
    """Whether it changes something, so that only operators may ask."""
    answers: str = ""
    """The keys of the answer, for people."""
    query: tuple[Parameter, ...] = ()
    body: type[Struct] | None = None
    """What the request carries, as JSON; None where it carries nothing."""
    errors: tuple[tuple[int, str], ...] = field(default=())
    answer: Answer = Answer.DOCUMENT


FOLLOW: Final = Parameter("follow", "1: go on telling what comes, one JSON object a line, until the end")
DETACH: Final = Parameter("detach", "1: answer 202 at once with the operation's id, instead of its progress")
DRY_RUN: Final = Parameter("dry_run", "1: only say what would be taken away")
NOW: Final = Parameter("now", "1: also what changed within models.prune_grace_s")
LET_FINISH: Final = Parameter("let_finish", "1: let what it has in flight go on to its end")
MODEL: Final = Parameter("model", "the model's name", is_flag=False, is_required=True)
INSECURE: Final = Parameter("insecure", "1: from a registry without TLS, or whose certificate nobody vouches for, too")
ON: Final = Parameter("child", "the children, with commas between them", is_flag=False)
KEEP_ALIVE: Final = Parameter("keep_alive", "how long it stays while idle, as Ollama takes it", is_flag=False)
ACT: Final = Parameter("act", "what to do, such as kill or heal", is_flag=False, is_required=True)
TARGET: Final = Parameter("target", "to which GPU or child", is_flag=False)
VALUE: Final = Parameter("value", "how much", is_flag=False)
NO_DEMO: Final = (409, "it is no demo, or can't be done to it now")
NO_CHILD: Final = (404, "no child of this name; the error says which is near")
NOT_NOW: Final = (409, "it can't be done now; the error says why")

ENDPOINTS: Final = (
    Endpoint("GET", "/v1/status", "status", "The status document, and what is true of the daemon", answers="daemon, …"),
    Endpoint("GET", "/v1/children", "children", "All children", answers="children"),
    Endpoint("GET", "/v1/children/{id}", "child", "One child", errors=(NO_CHILD,)),
    Endpoint(
        "GET", "/v1/gpus", "gpus", "All GPUs with their latest readings, and which child has them", answers="gpus"
    ),
    Endpoint("GET", "/v1/requests", "requests", "Requests in flight, oldest first", answers="waiting, requests"),
    Endpoint(
        "GET",
        "/v1/children/{id}/logs",
        "logs",
        "The last lines that a child printed",
        answers="child, lines",
        query=(FOLLOW,),
        errors=(NO_CHILD,),
    ),
    Endpoint(
        "POST",
        "/v1/children/{id}/drain",
        "drain",
        "Give a child nothing new; it stops once it is idle",
        changes=True,
        answers="child",
        errors=(NO_CHILD, NOT_NOW),
    ),
    Endpoint(
        "POST",
        "/v1/children/{id}/undrain",
        "undrain",
        "Take a drained child into use again",
        changes=True,
        answers="child",
        errors=(NO_CHILD, NOT_NOW),
    ),
    Endpoint(
        "POST",
        "/v1/children/{id}/restart",
        "restart",
        "Drain a child, then give it a new process",
        changes=True,
        answers="child",
        errors=(NO_CHILD, NOT_NOW),
    ),
    Endpoint(
        "POST",
        "/v1/children/{id}/reset",
        "reset",
        "Forget a child's deaths: it leaves `failed` and is started now",
        changes=True,
        answers="child",
        errors=(NO_CHILD, NOT_NOW),
    ),
    Endpoint(
        "POST",
        "/v1/restart",
        "restart_all",
        "Restart all children, one after the other",
        changes=True,
        query=(DETACH,),
        errors=(NOT_NOW,),
        answer=Answer.STREAM,
    ),
    Endpoint(
        "POST",
        "/v1/reload",
        "reload",
        "Read the configuration again and apply what differs",
        changes=True,
        query=(DETACH,),
        errors=(NOT_NOW, (422, "the configuration has problems, all of them told; nothing has changed")),
        answer=Answer.STREAM,
    ),
    Endpoint(
        "GET",
        "/v1/route",
        "route",
        "What would be decided now on a request for `?model=`, and how each child stands to it",
        answers="model, verdict, child, reason, expected_s, children",
        query=(MODEL,),
    ),
    Endpoint(
        "POST",
        "/v1/pull",
        "pull",
        "Get a model from its registry, for all children",
        changes=True,
        query=(DETACH, MODEL, INSECURE),
        errors=(NOT_NOW,),
        answer=Answer.STREAM,
    ),
    Endpoint(
        "POST",
        "/v1/load",
        "load",
        "Load a model, on the children that are named or where routing wants it",
        changes=True,
        query=(DETACH, MODEL, ON, KEEP_ALIVE),
        errors=(NOT_NOW, NO_CHILD),
        answer=Answer.STREAM,
    ),
    Endpoint(
        "POST",
        "/v1/sync",
        "sync",
        "Make all stores equal",
        changes=True,
        query=(DETACH,),
        errors=(NOT_NOW,),
        answer=Answer.STREAM,
    ),
    Endpoint(
        "POST",
        "/v1/prune",
        "prune",
        "Take away what no model needs",
        changes=True,
        query=(DETACH, DRY_RUN, NOW),
        errors=(NOT_NOW,),
        answer=Answer.STREAM,
    ),
    Endpoint("GET", "/v1/keys", "keys", "All API keys, without what opens a door", answers="keys"),
    Endpoint(
        "POST",
        "/v1/keys",
        "create_key",
        "Make an API key, which is told this once",
        changes=True,
        answers="id, name, key",
        body=Grant,
        errors=((400, "a body that grants nothing"), NOT_NOW),
    ),
    Endpoint(
        "POST",
        "/v1/keys/{id}/revoke",
        "revoke_key",
        "Take an API key, by its id or its name, out of force, and end what it has in flight",
        changes=True,
        answers="id, name, requests_ended",
        query=(LET_FINISH,),
        errors=((404, "no key of this id or name"), NOT_NOW),
    ),
    Endpoint(
        "GET",
        "/v1/key",
        "lend_key",
        "A key for the next minute, for what the user who asks may do anyway; null where none is needed",
        answers="key",
        errors=(NOT_NOW,),
    ),
    Endpoint("GET", "/v1/operations", "operations", "Long operations, those over and still kept included"),
    Endpoint(
        "GET",
        "/v1/operations/{id}",
        "operation",
        "One long operation, with its progress",
        answers="operation, kind, state, seconds, uid, progress",
        query=(FOLLOW,),
        errors=((404, "no operation of this id, or none that is kept"),),
    ),
    Endpoint(
        "GET",
        "/v1/demo",
        "demo",
        "What is broken by hand in a demo",
        answers="gpus, faults, requests_per_s, last_requests",
        errors=(NO_DEMO,),
    ),
    Endpoint(
        "POST",
        "/v1/demo",
        "demo_do",
        "Break something in a demo, or mend it",
        changes=True,
        answers="done, and all that GET has",
        query=(ACT, TARGET, VALUE),
        errors=(NO_DEMO,),
    ),
    Endpoint("GET", "/v1/openapi.json", "description", "This table, as OpenAPI 3.1"),
)
