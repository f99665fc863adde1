"""Requests in their order. Each scenario leaves models as it found them; what is asked is answered alike everywhere."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from tests.contract.asking import Ask

GO: Final = [{"role": "user", "content": "go"}]
THREE: Final = {"num_predict": 3}
NO_BLOB: Final = f"sha256:{'0' * 64}"
BYTES: Final = b"some bytes that are no model"
NO_MODEL: Final = b"bytes of this scenario alone: a refused upload leaves its bytes under their own digest"
BAD_BODIES: Final = ("", "{", "[]", "nonsense", '{"model": 3}')
NAMES: Final = (
    "recite",
    "recite:latest",
    "RECITE",
    "Recite:LATEST",
    "library/recite",
    "registry.ollama.ai/library/recite:latest",
    "https://registry.ollama.ai/library/recite",
    "http://registry.ollama.ai/library/recite",
    "nobody",
    "recite:nobody",
    "ns/recite",
    "example.com/a/b",
    "",
    ":latest",
    "recite:",
    "/recite",
    "a b",
    "../recite",
    "x/y/z/w/v",
    "http://x/y",
    "recite@sha256:abc",
)
"""Names as people write them, and some that are none."""


def _generate(**body: Any) -> Ask:
    return Ask("POST", "/api/generate", {"model": "recite", "prompt": "go", "options": THREE, **body})


def _chat(**body: Any) -> Ask:
    return Ask("POST", "/api/chat", {"model": "recite", "messages": GO, "options": THREE, **body})


def _openai(path: str = "chat/completions", **body: Any) -> Ask:
    asked = {"messages": GO} if path == "chat/completions" else {"prompt": "go"}
    return Ask("POST", f"/v1/{path}", {"model": "recite", **asked, "max_tokens": 3, **body})


def _bad(path: str, method: str = "POST") -> list[Ask]:
    return [Ask(method, path, body) for body in BAD_BODIES]


SCENARIOS: Final[dict[str, list[Ask]]] = {
    "it lives, and says what it is": [
        Ask("GET", "/"),
        Ask("HEAD", "/"),
        Ask("GET", "/api/version"),
        Ask("HEAD", "/api/version"),
    ],
    "wrong methods": [
        *(Ask(method, "/") for method in ("POST", "PUT", "DELETE", "OPTIONS")),
        *(Ask(method, "/api/tags") for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS")),
        *(Ask(method, "/api/generate") for method in ("GET", "HEAD", "PUT", "DELETE")),
        *(Ask(method, "/api/chat") for method in ("GET", "HEAD")),
        *(Ask(method, "/api/ps") for method in ("HEAD", "POST")),
        *(Ask(method, "/api/delete", {"model": "nobody"}) for method in ("GET", "POST")),
        *(Ask(method, f"/api/blobs/{NO_BLOB}") for method in ("GET", "PUT", "DELETE")),
        Ask("POST", "/api/version"),
        Ask("GET", "/api/show"),
        Ask("HEAD", "/v1/models"),
        Ask("GET", "/v1/chat/completions"),
    ],
    "routes that there are not": [
        Ask("GET", "/api/nosuch"),
        Ask("GET", "/api/nosuch?x=%2F&y=a+b"),
        Ask("GET", "/nosuch"),
        Ask("POST", "/nosuch", {"model": "recite"}),
        Ask("GET", "/API/tags"),
        Ask("GET", "/api/tags/"),
        Ask("GET", "/api//tags"),
        Ask("GET", "/v1/models/"),
        Ask("HEAD", "/api/blobs/"),
        Ask("POST", "/v1/responses", {"model": "recite", "input": "go"}),
        Ask("POST", "/v1/messages", {"model": "recite", "messages": GO, "max_tokens": 3}),
        Ask("POST", "/v1/audio/transcriptions"),
        Ask("GET", "/metrics"),
    ],
    "lists": [
        Ask("GET", "/api/tags"),
        Ask("HEAD", "/api/tags"),
        Ask("GET", "/v1/models"),
        Ask("GET", "/v1/models/recite"),
        Ask("GET", "/v1/models/recite:latest"),
        Ask("GET", "/v1/models/RECITE"),
        Ask("GET", "/v1/models/nobody"),
    ],
    "show": [
        *(Ask("POST", "/api/show", {"model": name}) for name in NAMES),
        Ask("POST", "/api/show", {"name": "recite"}),
        Ask("POST", "/api/show", {"MODEL": "recite"}),
        Ask("POST", "/api/show", '{"model": "nobody", "model": "recite"}'),
        Ask("POST", "/api/show", {"model": "recite", "verbose": True}),
        Ask("POST", "/api/show", {"model": "recite", "system": "be <brief> & kind"}),
        Ask("POST", "/api/show", {}),
        *_bad("/api/show"),
    ],
    "generate": [
        _generate(),
        _generate(stream=False),
        _generate(options={"num_predict": 1}),
        _generate(options={"num_predict": 250}),
        _generate(prompt="a longer prompt, with some words: w5 w6"),
        _generate(system="be brief"),
        _generate(raw=True),
        _generate(template="{{ .Prompt }}!"),
        _generate(options={"num_predict": 9, "stop": ["w3"]}),
        _generate(options={"num_predict": 9, "stop": ["w3"]}, stream=False),
        _generate(options={"num_predict": 3, "nosuch": 1}, stream=False),
        _generate(options={"num_predict": 3, "temperature": 1.5, "seed": 7}, stream=False),
        _generate(model="recite-b", options={"num_predict": 45}, stream=False),
        _generate(images=["AAAA"], stream=False),
        *(_generate(model=name, stream=False) for name in NAMES),
    ],
    "generate, wrongly": [
        _generate(options={"num_predict": "3"}),
        _generate(options={"temperature": "hot"}),
        _generate(raw=True, system="x"),
        _generate(suffix="x"),
        _generate(format="xml", stream=False),
        _generate(keep_alive="x"),
        _generate(keep_alive="5"),
        _generate(keep_alive=True),
        _generate(stream="yes"),
        _generate(prompt=["go"]),
        Ask("POST", "/api/generate", {"prompt": "go"}),
        *_bad("/api/generate"),
    ],
    "chat": [
        _chat(),
        _chat(stream=False),
        _chat(messages=[{"role": "system", "content": "be brief"}, *GO], stream=False),
        _chat(messages=[*GO, {"role": "assistant", "content": "w0 w1"}, *GO], stream=False),
        _chat(messages=[*GO, *GO, {"role": "assistant", "content": "w0"}], stream=False),
        _chat(messages=[{"role": "strange", "content": "x"}], stream=False),
        *(_chat(model=name, stream=False) for name in NAMES),
    ],
    "chat, wrongly": [
        _chat(tools=[{"type": "function", "function": {"name": "f"}}]),
        _chat(messages="go"),
        _chat(options={"stop": "w3"}),
        Ask("POST", "/api/chat", {"messages": GO}),
        *_bad("/api/chat"),
    ],
    "embeddings": [
        *(Ask("POST", "/api/embed", {"model": "recite", "input": given}) for given in ("a", ["a", "bc"], "", [], 3)),
        Ask("POST", "/api/embed", {"model": "recite"}),
        Ask("POST", "/api/embed", {"model": "nobody", "input": "a"}),
        Ask("POST", "/api/embed", {"input": "a"}),
        *_bad("/api/embed"),
        Ask("POST", "/api/embeddings", {"model": "recite-b", "prompt": "a"}),
        Ask("POST", "/api/embeddings", {"model": "recite", "prompt": "w1 w2"}),
        Ask("POST", "/api/embeddings", {"model": "recite"}),
        Ask("POST", "/api/embeddings", {"model": "nobody", "prompt": "a"}),
        Ask("POST", "/api/embeddings", {"prompt": "a"}),
        *_bad("/api/embeddings"),
        *(Ask("POST", "/v1/embeddings", {"model": "recite", "input": given}) for given in ("a", ["a", "b"], "", 3)),
        Ask("POST", "/v1/embeddings", {"model": "nobody", "input": "a"}),
        Ask("POST", "/v1/embeddings", {"model": "recite"}),
        *_bad("/v1/embeddings"),
    ],
    "chat as OpenAI has it": [
        _openai(),
        _openai(stream=True),
        _openai(stream=True, stream_options={"include_usage": True}),
        _openai(stop="w2", max_tokens=9),
        _openai(stop=["w2", "w5"], max_tokens=9, stream=True),
        _openai(temperature=0.5, seed=3),
        _openai(messages=[{"role": "user", "content": [{"type": "text", "text": "go"}]}]),
        _openai(model="RECITE"),
        _openai(model="nobody"),
        _openai(model="nobody", stream=True),
        _openai(model=""),
        _openai(model="a b"),
        _openai(messages=[]),
        _openai(messages=[{"role": "user"}]),
        _openai(messages=[{"role": "user", "content": 3}]),
        _openai(max_tokens="3"),
        *_bad("/v1/chat/completions"),
    ],
    "completions as OpenAI has them": [
        _openai("completions"),
        _openai("completions", stream=True),
        _openai("completions", stream=True, stream_options={"include_usage": True}),
        _openai("completions", prompt=""),
        _openai("completions", prompt=["a", "b"]),
        _openai("completions", model="nobody"),
        *_bad("/v1/completions"),
    ],
    "blobs": [
        *(Ask("HEAD", f"/api/blobs/{digest}") for digest in (NO_BLOB, "nonsense", "sha256:12")),
        *(Ask("POST", f"/api/blobs/{digest}", BYTES) for digest in (NO_BLOB, "nonsense", "sha256:12")),
        Ask("HEAD", f"/api/blobs/{NO_BLOB}"),
        Ask("POST", f"/api/blobs/{NO_BLOB}", b""),
    ],
    "create, copy, delete": [
        Ask("POST", "/api/create", {"model": "made", "modelfile": "FROM recite\nSYSTEM hello\nPARAMETER stop w2"}),
        Ask("POST", "/api/show", {"model": "made"}, made=True),
        Ask("POST", "/api/generate", {"model": "made", "prompt": "go", "stream": False}),
        Ask("POST", "/api/chat", {"model": "made", "messages": GO, "stream": False}),
        Ask("POST", "/api/copy", {"source": "MADE", "destination": "ns/Copy:one"}),
        Ask("POST", "/api/show", {"model": "ns/copy:one"}, made=True),
        Ask("DELETE", "/api/delete", {"model": "made"}),
        Ask("POST", "/api/generate", {"model": "made", "prompt": "go"}),
        _generate(model="NS/copy:ONE", stream=False),
        Ask("GET", "/api/tags", made=True),
        Ask("DELETE", "/api/delete", {"name": "ns/copy:ONE"}),
        Ask("GET", "/api/tags"),
        Ask("POST", "/api/create", {"name": "made", "modelfile": "FROM recite", "stream": False}),
        Ask("DELETE", "/api/delete", {"model": "made"}),
    ],
    "create, wrongly": [
        *(
            Ask("POST", "/api/create", {"model": "made", "modelfile": text})
            for text in (
                "",
                "SYSTEM x",
                "nonsense",
                f"FROM @{NO_BLOB}",
                "FROM recite\nPARAMETER nosuch 3",
                "FROM recite\nPARAMETER num_ctx x",
                "FROM recite\nTEMPLATE {{ .Nope",
            )
        ),
        Ask("POST", "/api/create", {"model": "made", "modelfile": "FROM recite", "quantize": "q4_0"}),
        Ask("POST", "/api/create", {"model": "made"}),
        Ask("POST", "/api/create", {"model": "made", "files": {"a.gguf": NO_BLOB}}),
        Ask("POST", "/api/create", {"model": "", "modelfile": "FROM recite"}),
        Ask("POST", "/api/create", {"model": "a b", "modelfile": "FROM recite"}),
        *_bad("/api/create"),
    ],
    "copy and delete, wrongly": [
        *(
            Ask("POST", "/api/copy", {"source": source, "destination": destination})
            for source, destination in (("nobody", "x"), ("", "x"), ("a b", "x"), ("recite", ""), ("recite", "a b"))
        ),
        Ask("POST", "/api/copy", {"source": "recite"}),
        *_bad("/api/copy")[:-1],
        *(Ask("DELETE", "/api/delete", {"model": name}) for name in ("nobody", "a b", "x/y/z/w/v", "")),
        Ask("DELETE", "/api/delete", {}),
        *_bad("/api/delete", "DELETE"),
    ],
    "pull and push, wrongly": [
        *(Ask("POST", f"/api/{verb}", {"model": ""}) for verb in ("pull", "push")),
        Ask("POST", "/api/pull", {"model": "a b"}),
        Ask("POST", "/api/pull", {"model": "http://127.0.0.1:9/library/x", "insecure": True}),
        Ask("POST", "/api/pull", {"model": "http://127.0.0.1:9/library/x", "insecure": True, "stream": False}),
        Ask("POST", "/api/push", {"model": "nobody"}),
        Ask("POST", "/api/push", {"model": "http://127.0.0.1:9/library/nobody", "insecure": True}),
        *_bad("/api/pull"),
        *_bad("/api/push"),
    ],
}

NEWER_SCENARIOS: Final[dict[str, list[Ask]]] = {
    "create, as 0.5.5 and later have it": [
        Ask("POST", "/api/create", {"model": "made", "from": "recite", "system": "hi", "parameters": {"stop": "w2"}}),
        Ask("POST", "/api/show", {"model": "made"}, made=True),
        Ask("POST", "/api/generate", {"model": "made", "prompt": "go", "stream": False}),
        Ask("POST", "/api/copy", {"source": "MADE", "destination": "ns/Copy:one"}),
        Ask("DELETE", "/api/delete", {"model": "made"}),
        Ask("GET", "/api/tags", made=True),
        *(Ask("DELETE", "/api/delete", {"model": name}) for name in ("ns/copy:ONE", "made")),
        Ask("POST", "/api/create", {"model": "made", "from": "recite", "stream": False}),
        Ask("DELETE", "/api/delete", {"model": "made"}),
    ],
    "create out of a file, wrongly": [
        Ask("POST", "/api/create", {"model": "made", "files": {"a.gguf": NO_BLOB}, "stream": False}),
        Ask("POST", f"/api/blobs/sha256:{hashlib.sha256(NO_MODEL).hexdigest()}", NO_MODEL),
        *(
            Ask("POST", "/api/create", {"model": "made", "files": {name: digest}, "stream": stream})
            for stream in (True, False)
            for name in ("a.gguf", "../a.gguf", "a.txt", "")
            for digest in (f"sha256:{hashlib.sha256(NO_MODEL).hexdigest()}", "sha256:12")
        ),
        Ask("POST", "/api/create", {"model": "made", "from": "nobody"}),
        Ask("POST", "/api/create", {"model": "made", "from": "recite", "parameters": {"nosuch": 1}}),
        Ask("POST", "/api/create", {"model": "made", "from": "recite", "template": "{{ .Nope"}),
        Ask("DELETE", "/api/delete", {"model": "made"}),  # an unknown parameter was taken
        Ask("GET", "/api/tags"),
    ],
}
"""What only a newer Ollama has."""

ALL_SCENARIOS: Final = SCENARIOS | NEWER_SCENARIOS
