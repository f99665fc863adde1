"""A stand-in for `ollama serve` that fails on command, for what the real one can't be made to do when a test wants it.

Its orders are files in the folder ODD_ORDERS, named `<child>.<order>` or `all.<order>`, looked at when they matter:

    exit        print an error and exit with status 3 before listening
    idle        do not listen at all
    deaf        listen, accept, never answer
    stubborn    ignore SIGTERM
    runner      start a process in our group, as Ollama starts its runners
    forget      answer the next inference with what the file holds, a status and a text, and take the order back
    refuse      answer inference with 500
    hang-up     close the connection of an inference request before any byte
    no-load     answer a request that only loads a model with 500
    endless-load  answer one that loads only when the order is taken back
    wait        send no byte of an answer until the order is taken back
    endless     stream records without end
    beat        stream twenty records, ten milliseconds apart
    gate        stream one record, and the next only when the order is taken back
    cut         stream half a record, then die
    short       end a stream as if it were whole, without its last record
    hold        put that death off until the order is taken back
    flood       print 4 MiB on starting, some of it in one line
    last-deed   delete the model that is to be deleted, then die without a word
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import web

ORDERS = Path(os.environ["ODD_ORDERS"])
CHILD = os.environ.get("OLLAMAD_CHILD", "none")


def ordered(order: str) -> bool:
    return any((ORDERS / f"{who}.{order}").exists() for who in (CHILD, "all"))


async def while_ordered(order: str) -> None:
    while ordered(order):
        await asyncio.sleep(0.01)


async def version(_request: web.Request) -> web.Response:
    if ordered("deaf"):
        await asyncio.Event().wait()
    return web.json_response({"version": "0.0.0-odd"})


LOADED: list[str] = []


async def ps(_request: web.Request) -> web.Response:
    return web.json_response({"models": [{"name": name} for name in LOADED]})


def load(body: bytes) -> web.Response | None:
    """The answer to a request that only loads or unloads a model, as ollamad's own do; None to any other."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    if not isinstance(asked, dict) or asked.keys() - {"options", "keep_alive"} != {"model", "stream"}:
        return None
    (ORDERS / f"{CHILD}.loads").open("ab").write(body + b"\n")
    if asked.get("keep_alive") == 0:
        LOADED.remove(asked["model"])
    elif ordered("no-load"):
        return web.json_response({"error": f"{CHILD} can't load"}, status=500)
    else:
        LOADED.append(asked["model"])
    return web.json_response({"model": asked["model"], "done": True})


def refused() -> web.Response | None:
    for path in ORDERS.glob("*.forget"):
        status, text = path.read_text().split(" ", 1)
        path.unlink()
        return web.json_response({"error": text}, status=int(status))
    return web.json_response({"error": f"{CHILD} can't"}, status=500) if ordered("refuse") else None


async def infer(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    if (answer := load(body)) is not None:
        await while_ordered("endless-load")
        return answer
    (ORDERS / f"{CHILD}.seen").open("ab").write(body + b"\n")
    await while_ordered("wait")
    if ordered("hang-up"):
        assert request.transport is not None
        request.transport.abort()
    if (refusal := refused()) is not None:
        return refusal
    response = web.StreamResponse(headers={"Content-Type": _kind(request.path)})
    await response.prepare(request)
    await response.write(_record(request.path, "one"))
    if ordered("beat"):
        for _ in range(20):
            await response.write(_record(request.path, "beat"))
            await asyncio.sleep(0.01)
    while ordered("endless"):
        await response.write(_record(request.path, "x" * 10_000))
    await while_ordered("gate")
    if ordered("cut"):
        await response.write(b'{"response":"hal')
        await while_ordered("hold")
        os.kill(os.getpid(), signal.SIGKILL)
    await _end(response, request.path)
    return response


async def _end(response: web.StreamResponse, path: str) -> None:
    if not ordered("short"):
        await response.write(_record(path, "two", done=True))
    await response.write_eof()


def _kind(path: str) -> str:
    return "text/event-stream" if path.startswith("/v1/") else "application/x-ndjson"


def _record(path: str, text: str, *, done: bool = False) -> bytes:
    record = json.dumps({"response": text, "child": CHILD, **({"done": True} if done else {})}, separators=(",", ":"))
    if not path.startswith("/v1/"):
        return f"{record}\n".encode()
    last = '{"type":"message_stop"}' if path == "/v1/messages" else "[DONE]"
    return f"data: {record}\n\n{f'data: {last}' + chr(10) * 2 if done else ''}".encode()


async def echo(request: web.Request) -> web.Response:
    """What arrived, so that a test sees what the proxy sends."""
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": [[name, value] for name, value in request.headers.items()],
            "body": body.decode("latin-1"),
            "child": CHILD,
        }
    )


async def delete(request: web.Request) -> web.Response:
    name = (await request.json())["model"]
    manifest = Path(os.environ["OLLAMA_MODELS"]) / "manifests/registry.ollama.ai/library" / name / "latest"
    if ordered("last-deed") and manifest.exists():
        manifest.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return web.json_response({"error": f"model '{name}' not found"}, status=404)


async def size(request: web.Request) -> web.Response:
    """How much arrived, none of it kept."""
    total = 0
    async for part in request.content.iter_any():
        total += len(part)
    return web.json_response({"size": total})


def main() -> None:
    if ordered("exit"):
        sys.exit("Error: told to fail")
    if ordered("flood"):
        sys.stdout.write("x" * (2 << 20) + "\n")
        sys.stdout.write("a line of the flood\n" * 100_000)
        sys.stdout.flush()
    if ordered("runner"):
        subprocess.Popen(["sleep", "600"])
    application = web.Application(client_max_size=1 << 30)
    application.router.add_get("/api/version", version)
    application.router.add_get("/api/ps", ps)
    for path in ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages"):
        application.router.add_post(path, infer)
    application.router.add_post("/api/blobs/{digest}", size)
    application.router.add_delete("/api/delete", delete)
    application.router.add_route("*", "/{path:.*}", echo)
    while ordered("idle"):
        time.sleep(0.01)
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    loop = asyncio.new_event_loop()
    if ordered("stubborn"):
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
    web.run_app(
        application,
        host=host,
        port=int(port),
        print=None,
        loop=loop,
        handle_signals=not ordered("stubborn"),
        shutdown_timeout=0.0,
    )


if __name__ == "__main__":
    main()
