"""Model names, read as Ollama reads them (0.5.4, types/model/name.go): parts with defaults, and what is no name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

HOST: Final = "registry.ollama.ai"
NAMESPACE: Final = "library"
TAG: Final = "latest"

_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,349}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class Name:
    """A model's full name. Case is kept; names of one model may differ in it."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = "https"
    """How its registry is asked; no part of what makes two names equal."""

    @property
    def valid(self) -> bool:
        """Whether every part may be what it is."""
        parts = ((_HOST, self.host), (_NAMESPACE, self.namespace), (_PART, self.model), (_PART, self.tag))
        return all(pattern.fullmatch(part) for pattern, part in parts)

    @property
    def path(self) -> PurePosixPath:
        """Where the manifest lies, under `manifests/`."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    @property
    def folded(self) -> str:
        """The same text for all names that differ in case only."""
        return str(self.path).lower()

    @property
    def shortest(self) -> str:
        """As `ollama list` shows it: defaults left out, the tag never."""
        host = "" if self.host == HOST else f"{self.host}/"
        namespace = "" if not host and self.namespace == NAMESPACE else f"{self.namespace}/"
        return f"{host}{namespace}{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """With every part."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"


def parse(text: str) -> Name:
    """Read a name; a part that is promised by a separator and missing makes it invalid."""
    rest, tag = text, TAG
    if text.rfind(":") > text.rfind("/"):
        rest, _, tag = text.rpartition(":")
    rest, has_namespace, model = rest.rpartition("/")
    if not has_namespace:
        return Name(HOST, NAMESPACE, model, tag)
    rest, has_host, namespace = rest.rpartition("/")
    if not has_host:
        return Name(HOST, namespace, model, tag)
    scheme, has_scheme, host = rest.partition("://")
    return Name(host, namespace, model, tag, scheme) if has_scheme else Name(rest, namespace, model, tag)
