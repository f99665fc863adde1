"""What `ollama.names` makes of a name, held against the real server: a copy is made under it, and listed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamad.ollama.names import parse
from tests.support.real_ollama import RECITE, RECITE_B, bare_ollama

ODD = st.text(st.sampled_from('abzAZ09_-./:@~ é\\"%'), min_size=1, max_size=14)
PART = st.text(st.sampled_from("aZ0_-."), min_size=1, max_size=5)
BUILT = st.builds(
    lambda parts, tag, scheme: f"{scheme}{'/'.join(parts)}{tag}",
    st.lists(PART | st.sampled_from(["library", "registry.ollama.ai", "h:1", "LIBRARY"]), min_size=1, max_size=4),
    st.just("") | PART.map(":{}".format) | st.just(":latest"),
    st.sampled_from(["", "", "", "http://", "x://"]),
)


@pytest.fixture(scope="module")
def client(ollama_binary: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ollama.Client]:
    """A client of a real server that runs in a loop of another thread: hypothesis has none of its own."""
    folder = tmp_path_factory.mktemp("names")
    shutil.copytree(model_store, folder / "store")
    with ThreadPoolExecutor(1) as apart, ExitStack() as stack:
        ready, done, urls = Event(), Event(), list[str]()

        async def serve() -> None:
            async with bare_ollama(ollama_binary, folder / "store", folder / "home") as server:
                urls.append(server.base_url)
                ready.set()
                await asyncio.get_running_loop().run_in_executor(apart, done.wait)

        thread = Thread(target=asyncio.run, args=[serve()])
        thread.start()
        stack.callback(thread.join)
        stack.callback(done.set)
        assert ready.wait(30)
        yield stack.enter_context(ollama.Client(urls[0]))


@settings(max_examples=150)
@given(ODD | BUILT)
def test_a_name_is_valid_and_means_what_ollama_says(client: ollama.Client, text: str) -> None:
    for model in client.list().models:
        if model.model not in {RECITE, RECITE_B}:
            client.delete(str(model.model))  # of an example that failed
    ours = parse(text)
    if ours is None:
        with pytest.raises(ollama.ResponseError) as refused:
            client.copy(RECITE, text)
        assert refused.value.status_code == 400
        return
    client.copy(RECITE, text)
    listed = {str(model.model).lower() for model in client.list().models}
    if ours.key != "registry.ollama.ai/library/recite/latest":
        assert ours.short.lower() in listed
        shown = client.show(ours.short.upper())
        assert shown.details
        client.delete(text)
