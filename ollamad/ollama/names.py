"""Model names as Ollama resolves them: `llama3.2`, `library/llama3.2:latest` and `LLAMA3.2` are one model.

The rules are those of its own parser (types/model/name.go, alike in 0.5.4 and 0.33): cut from the right, first the tag,
then model, namespace and host; what is left out has a default; what a part may hold depends on which part it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"
HOST_MAX: Final = 350
PART_MAX: Final = 80
KNOWN_MAX: Final = 128
"""Names up to this length are remembered; a client can write longer ones, and many."""

_FIRST: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_NAMESPACE: Final = _FIRST | {"-"}
_PART: Final = _NAMESPACE | {"."}
_HOST: Final = _PART | {":"}


@dataclass(frozen=True, slots=True)
class Name:
    """A valid name, with nothing left out, written as its author did."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def path(self) -> str:
        """Where its manifest lies below `manifests/`."""
        return f"{self.host}/{self.namespace}/{self.model}/{self.tag}"

    @property
    def key(self) -> str:
        """What two names of one model have in common: Ollama finds an existing model whatever the case."""
        return self.path.lower()

    @property
    def short(self) -> str:
        """The name with the default host and namespace left out, and always a tag: as Ollama lists it.

        But for its case: Ollama (0.5.4) writes each part as some name that it has already writes it.
        """
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"


def parse(text: str) -> Name | None:
    """The name that Ollama reads in a text; None where it would refuse it."""
    return _known(text) if len(text) <= KNOWN_MAX else _parse(text)


def _parse(text: str) -> Name | None:
    rest, tag = text, DEFAULT_TAG
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    rest, slash, model = rest.rpartition("/")
    if not slash:
        return _valid(Name(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag))
    above, slash, namespace = rest.rpartition("/")
    if not slash:
        return _valid(Name(DEFAULT_HOST, namespace, model, tag))
    scheme, cut, host = above.partition("://")
    return _valid(Name(host if cut else scheme, namespace, model, tag))


_known: Final = lru_cache(maxsize=1024)(_parse)  # every request names a model twice or thrice, mostly the same


def from_path(path: str) -> Name | None:
    """The name of a manifest's path below `manifests/`; None where it is none."""
    parts = path.split("/")
    return _valid(Name(*parts)) if len(parts) == len(Name.__slots__) else None


def canonical(name: str) -> str:
    """The form in which two names of one model are equal: no default registry or namespace, a tag, lower case.

    What is no valid name comes back as it is, and equals no model's; judging it is the child's affair.
    """
    parsed = parse(name)
    return parsed.short.lower() if parsed else name


def is_cloud(name: str) -> bool:
    """Whether a model runs at ollama.com, by its tag (0.33, internal/modelref:99): it needs no GPU here."""
    parsed = parse(name)
    return parsed is not None and (parsed.tag.lower() == "cloud" or parsed.tag.lower().endswith("-cloud"))


def _valid(name: Name) -> Name | None:
    fits = (
        _fits(name.host, HOST_MAX, _HOST)
        and _fits(name.namespace, PART_MAX, _NAMESPACE)
        and _fits(name.model, PART_MAX, _PART)
        and _fits(name.tag, PART_MAX, _PART)
    )
    return name if fits else None


def _fits(part: str, length_max: int, allowed: frozenset[str]) -> bool:
    return 0 < len(part) <= length_max and part[0] in _FIRST and allowed.issuperset(part)
