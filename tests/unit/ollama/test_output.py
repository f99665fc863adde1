from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.ollama.output import (
    FRESH_S,
    LINE_MAX_BYTES,
    LINES_TOLD,
    LastWords,
    LineSplitter,
    OutputLine,
    is_of_a_probe,
    parse_line,
)

LENGTHS = st.sampled_from([0, 1, 5, LINE_MAX_BYTES - 1, LINE_MAX_BYTES, LINE_MAX_BYTES + 1, 3 * LINE_MAX_BYTES])
LINES = st.builds(
    lambda fill, length, end: (fill * length)[:length] + end,
    st.sampled_from([b"a", b"xy", "é".encode(), "€".encode(), b"\xff", b"\r"]),
    LENGTHS,
    st.sampled_from([b"", b"\r", b"\r\r"]),
)
OUTPUTS = st.builds(
    lambda lines, end: b"\n".join(lines) + end, st.lists(LINES, max_size=4), st.sampled_from([b"", b"\n"])
)


@st.composite
def outputs_in_pieces(draw: st.DrawFn) -> list[bytes]:
    """An output, cut wherever it may be: often by a byte around the limit, or inside a character."""
    whole = draw(OUTPUTS)
    near = [at + by for at in range(0, len(whole), LINE_MAX_BYTES) for by in (-1, 0, 1) if 0 <= at + by <= len(whole)]
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)) | st.sampled_from(near or [0]), max_size=8)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def lines_of(whole: bytes) -> list[str]:
    """What any way of cutting must come to: each line, its first bytes only where it is too long."""
    lines = whole.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line[:LINE_MAX_BYTES].decode("utf-8", "replace").rstrip("\r") for line in lines]


def split(pieces: list[bytes]) -> list[str]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.end()


@given(outputs_in_pieces())
def test_however_an_output_is_cut_into_pieces_its_lines_are_the_same(pieces: list[bytes]) -> None:
    assert split(pieces) == lines_of(b"".join(pieces))


@given(outputs_in_pieces())
def test_never_more_than_one_line_at_its_longest_is_held(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    for piece in pieces:
        splitter.feed(piece)
        assert len(splitter._held) <= LINE_MAX_BYTES


@given(st.lists(st.binary(max_size=6), max_size=6))
def test_small_output_byte_by_byte_is_the_same_as_at_once(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert split([whole[at : at + 1] for at in range(len(whole))]) == split(pieces) == lines_of(whole)


def test_a_line_comes_out_as_soon_as_it_ends() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.feed(b"o\n\nthree") == ["two", ""]
    assert splitter.end() == ["three"]
    assert splitter.end() == []


def test_a_line_that_is_too_long_is_cut_once_and_the_next_is_whole() -> None:
    splitter = LineSplitter()
    piece = b"x" * 3_000
    said = [line for _ in range(100) for line in splitter.feed(piece)]
    assert said == ["x" * LINE_MAX_BYTES]
    assert splitter.feed(b"the end of it\nthe ne") == []
    assert splitter.feed(b"xt\n") == ["the next"]
    assert splitter.feed(b"y" * LINE_MAX_BYTES + b"\n") == ["y" * LINE_MAX_BYTES]


def test_an_output_that_ends_inside_a_line_that_was_cut_says_no_more() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * (LINE_MAX_BYTES + 1)) == ["x" * LINE_MAX_BYTES]
    assert splitter.feed(b"y" * (LINE_MAX_BYTES + 1)) == []
    assert splitter.feed(b"rest") == []
    assert splitter.end() == []


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        (
            'time=2026-11-24T03:16:00.374Z level=INFO source=images.go:757 msg="total blobs: 0"',
            "info",
            "total blobs: 0",
        ),
        (
            (
                "time=2026-11-24T03:16:00.374Z level=INFO source=routes.go:1339"
                ' msg="Dynamic LLM libraries" runners=[ipex_llm]'
            ),
            "info",
            "Dynamic LLM libraries runners=[ipex_llm]",
        ),
        (
            (
                "time=2026-11-24T03:16:43.974Z level=WARN source=runner.go:892"
                ' msg="%s: warming up the model with an empty run - please wait ... " !BADKEY=loadModel'
            ),
            "warning",
            "%s: warming up the model with an empty run - please wait ...  !BADKEY=loadModel",
        ),
        (
            (
                "time=2026-11-24T03:16:43.962Z level=INFO source=runner.go:968"
                ' msg=system info="CPU : SSE3 = 1 | SSSE3 = 1" threads=2'
            ),
            "info",
            'system info="CPU : SSE3 = 1 | SSSE3 = 1" threads=2',
        ),
        (
            'time=2026-11-24T03:16:43.936Z level=ERROR source=server.go:104 msg="no \\"cuda\\" here" total="23.5 GiB"',
            "error",
            'no "cuda" here total="23.5 GiB"',
        ),
        ("time=2026-11-24T03:16:43.936Z level=DEBUG msg=short", "debug", "short"),
        ("time=2026-11-24T03:16:43.936Z level=DEBUG-4 source=x.go:1 msg=deep", "debug", "deep"),
        ("time=2026-11-24T03:16:43.936Z level=TRACE source=x.go:1 msg=deeper", "debug", "deeper"),
        ("time=2026-11-24T03:16:43.936Z level=NOTICE source=x.go:1 msg=new", "info", "new"),
        ('time=2026-11-24T03:16:43.936Z level=INFO source=x.go:1 msg="cut sho', "info", '"cut sho'),
        (
            '2026/11/24 03:16:00 routes.go:1259: INFO server config env="map[OLLAMA_DEBUG:false]"',
            "info",
            'server config env="map[OLLAMA_DEBUG:false]"',
        ),
        ("2026/11/24 03:16:00 gpu.go:1: WARN no driver", "warning", "no driver"),
    ],
)
def test_ollamas_own_lines_keep_their_level_and_lose_what_a_log_event_has_anyway(
    line: str, level: str, text: str
) -> None:
    assert parse_line(line) == OutputLine(level, text)


@pytest.mark.parametrize(
    "line",
    [
        "Error: listen tcp 127.0.0.1:11999: bind: address already in use",
        "fatal error: concurrent map read and map write",
        "panic: runtime error: index out of range",
    ],
)
def test_last_words_are_errors(line: str) -> None:
    assert parse_line(line) == OutputLine("error", line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Your new public key is: ",
        "[GIN-debug] POST   /api/pull                 --> ollama/server.(*Server).PullHandler-fm (5 handlers)",
        '[GIN] 2026/11/24 - 03:16:44 | 200 |  280.334127ms |       127.0.0.1 | POST     "/api/generate"',
        "llama_model_loader: - kv   0:                       general.architecture str              = llama",
        "llm_load_tensors:          CPU model buffer size =     3.52 MiB",
        "goroutine 1 [running]: level=ERROR msg=not-a-log-line",
    ],
)
def test_every_other_voice_is_shown_as_it_is_to_who_wants_all(line: str) -> None:
    assert parse_line(line) == OutputLine("debug", line)


@given(st.text() | st.text().map('time=1 level=INFO msg="{}'.format))
def test_no_line_is_too_odd_to_be_shown(line: str) -> None:
    parsed = parse_line(line)
    assert parsed.level in {"debug", "info", "warning", "error"}
    assert len(parsed.text) <= len(line)


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ('[GIN] 2026/11/24 - 13:19:14 | 200 |      82.813µs |       127.0.0.1 | GET      "/api/version"', True),
        ('[GIN] 2026/11/24 - 13:19:14 | 200 |       5.919µs |       127.0.0.1 | GET      "/api/ps"', True),
        ('[GIN] 2026/11/24 - 13:19:14 | 500 |       5.919µs |       127.0.0.1 | GET      "/api/ps"', False),
        ('[GIN] 2026/11/24 - 13:19:14 | 200 |       60.55µs |       127.0.0.1 | GET      "/api/tags"', False),
        ('[GIN] 2026/11/24 - 03:16:44 | 200 |  280.334127ms |       127.0.0.1 | POST     "/api/generate"', False),
    ],
)
def test_what_only_says_that_a_probe_was_answered_is_known_as_such(line: str, *, ours: bool) -> None:
    assert is_of_a_probe(line) is ours


def words(*lines: tuple[float, str]) -> LastWords:
    found = LastWords()
    for at_s, line in lines:
        found.add(parse_line(line), at_s)
    return found


def test_a_process_that_fails_without_an_error_of_ollama_s_is_explained_by_its_last_line() -> None:
    linker = "ollama: error while loading shared libraries: libfoo.so: cannot open shared object file"
    assert words((0.0, linker)).explain(0.1, failed=True) == linker
    assert words((0.0, linker)).explain(0.1, failed=False) == ""
    assert LastWords().explain(0.1, failed=True) == ""


def test_a_fresh_error_explains_an_end_and_an_old_one_does_not() -> None:
    said = words((0.0, "Error: first"), (1.0, "goroutine 1 [running]:"))
    assert said.explain(FRESH_S, failed=True) == "Error: first"
    assert said.explain(FRESH_S + 1, failed=False) == ""


def test_only_so_many_last_lines_are_kept() -> None:
    said = words(*((0.0, str(number)) for number in range(LINES_TOLD + 5)))
    assert list(said.lines) == [str(number) for number in range(5, LINES_TOLD + 5)]
