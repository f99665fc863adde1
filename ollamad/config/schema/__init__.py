"""Every key that exists, with its type, its limits, its default and a line of why.

A module a table. This is the one place where a key is declared: `load` checks against it, `config.example.toml` and
`ollamad check` are drawn from it. Times are seconds (`_s`), sizes say their unit; each bound of the daemon is a key here.
"""

from __future__ import annotations

from msgspec import Struct

from ollamad.config.schema.access import Access
from ollamad.config.schema.control import Control
from ollamad.config.schema.gpus import Gpus
from ollamad.config.schema.log import Log
from ollamad.config.schema.models import Models
from ollamad.config.schema.ollama import Ollama
from ollamad.config.schema.proxy import Proxy
from ollamad.config.schema.routing import ModelSettings, Routing
from ollamad.config.schema.service import Service
from ollamad.config.schema.status import Status
from ollamad.config.schema.supervision import Supervision

__all__ = [
    "Access",
    "Config",
    "Control",
    "Gpus",
    "Log",
    "ModelSettings",
    "Models",
    "Ollama",
    "Proxy",
    "Routing",
    "Service",
    "Status",
    "Supervision",
]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole, checked configuration. Nothing in it changes while the daemon runs."""

    proxy: Proxy = Proxy()
    status: Status = Status()
    access: Access = Access()
    control: Control = Control()
    ollama: Ollama = Ollama()
    supervision: Supervision = Supervision()
    gpus: Gpus = Gpus()
    models: Models = Models()
    routing: Routing = Routing()
    log: Log = Log()
    service: Service = Service()
