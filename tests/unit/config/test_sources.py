"""Where settings come from: a file, the environment, a flag."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config import Config, Loaded, Setting, load, parse_flag, read
from ollamad.config.load import NOT_KEYS, from_environment
from ollamad.errors import ConfigError
from tests.unit.config.loading import HOME, KEYS, TEXTS, outcome


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ollamad.toml"


def from_file(path: Path, text: str) -> Loaded:
    path.write_text(text, encoding="utf-8")
    return load(read(path), home=HOME)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.key == str(path)
    return problem.message


def test_a_file_sets_keys_and_its_lines_are_their_origins(file: Path) -> None:
    found = from_file(file, '# mine\n[proxy]\nlisten = "127.0.0.9:1"\n\n[ollama.env]\nA = "1"\n[gpus]\ninclude = [0]\n')
    assert found.config.proxy.listen == "127.0.0.9:1"
    assert found.config.ollama.env == {"A": "1"}
    assert found.config.gpus.include == (0,)
    assert found.origins == {"proxy.listen": f"{file}:3", "ollama.env": f"{file}:5", "gpus.include": f"{file}:8"}


def test_dotted_and_inline_forms_of_a_table_are_the_same_to_it(file: Path) -> None:
    found = from_file(
        file, 'proxy.attempts_max = 5\nollama = { num_parallel = 4, env = { A = "1" } }\nlog.level="error"'
    )
    config = found.config
    assert (config.proxy.attempts_max, config.ollama.num_parallel, config.log.level) == (5, 4, "error")
    assert found.origins["proxy.attempts_max"] == f"{file}:1"
    assert found.origins["ollama.num_parallel"] == f"{file}:2"


def test_everything_wrong_in_a_file_is_told_at_once_with_its_lines(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(
            file,
            'logs = "debug"\nlog = "debug"\n'
            '[proxi]\nlisten = "127.0.0.1:1"\n'
            "[ollama]\nnum_parallel = 100\nnum_paralel = 5\n"
            "[gpus]\ngroups = [\n  [0, 1],\n  [2, 3]\n]\ncpu_children = -1\n",
        )
    assert [str(problem).replace(f"{file}:", "line ") for problem in caught.value.problems] == [
        "gpus.cpu_children = -1 (line 13): expected int >= 0",
        'log = "debug" (line 2): is a table: write it as [log]',
        'logs (line 1): there is no table [logs], did you mean "log"?',
        'ollama.num_paralel = 5 (line 7): there is no such key, did you mean "num_parallel"?',
        "ollama.num_parallel = 100 (line 6): expected int <= 64",
        'proxi.listen (line 4): there is no table [proxi], did you mean "proxy"?',
    ]


def test_an_empty_table_is_refused_only_when_there_is_none_of_its_name(file: Path) -> None:
    assert from_file(file, "[proxy]\n").config == Config()
    with pytest.raises(ConfigError, match=r':1\): there is no table \[proxi\], did you mean "proxy"'):
        from_file(file, "[proxi]\n")


def test_a_list_of_tables_is_no_table(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(file, "[[gpus]]\ninclude = [0]\n")
    assert str(caught.value) == f'gpus = [{{"include": [0]}}] ({file}): is a table: write it as [gpus]'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[proxy\nlisten = 1\n", "is not valid TOML: .*line 1"),
        (b"[proxy]\nlisten = 127.0.0.1:80\n", "is not valid TOML: .*line 2"),
        ("[proxy]\nlisten = 'höst:80'\n".encode("latin-1"), "is not valid TOML: .*utf-8"),
        (b"a = " + b"[" * 5_000, "is not valid TOML: .*recursion"),
        (b"a = " + b"9" * 5_000, "is not valid TOML: .*digits"),
    ],
)
def test_what_is_no_toml_is_refused_with_the_reason(file: Path, content: bytes, says: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        read(file)
    assert caught.value.problems[0].key == str(file)


def test_a_number_of_more_digits_than_python_prints_is_refused_as_any_other(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"attempts_max = a number of .*: expected int <= 16"):
        from_file(file, f"[proxy]\nattempts_max = 0x{'f' * 5_000}\n")


def test_a_file_that_is_missing_or_a_directory_is_refused_by_its_name(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == "can't be read: No such file or directory"
    assert refusal(tmp_path) == "can't be read: Is a directory"


def test_every_key_has_a_variable_of_its_name() -> None:
    variables = {f"OLLAMAD_{key.replace('.', '_').upper()}": "x" for key in KEYS}
    assert {setting.key: setting.origin for setting in from_environment(variables)} == {
        key: f"OLLAMAD_{key.replace('.', '_').upper()}" for key in KEYS
    }


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("OLLAMAD_GPUS_INCLUDE", "[0, 1]", [0, 1]),
        ("OLLAMAD_GPUS_INCLUDE", "all", "all"),
        ("OLLAMAD_GPUS_GROUPS", '[[0, "GPU-1"]]', [[0, "GPU-1"]]),
        ("OLLAMAD_GPUS_REQUIRE_GPU", "true", True),
        ("OLLAMAD_OLLAMA_CONTEXT_LENGTH", "8192", 8192),
        ("OLLAMAD_OLLAMA_CONTEXT_LENGTH", "auto", "auto"),
        ("OLLAMAD_OLLAMA_ENV", '{A = "1"}', {"A": "1"}),
        ("OLLAMAD_OLLAMA_KEEP_ALIVE", "300", "300"),
        ("OLLAMAD_OLLAMA_BINARY", "[0]", "[0]"),
        ("OLLAMAD_PROXY_READY_WAIT_S", "1.5", 1.5),
        ("OLLAMAD_PROXY_READY_WAIT_S", "soon", "soon"),
        ("OLLAMAD_PROXY_ATTEMPTS_MAX", "1\nproxy = 2", "1\nproxy = 2"),
        ("OLLAMAD_GPUS_INCLUDE", "[" * 5_000, "[" * 5_000),
        ("OLLAMAD_PROXY_ATTEMPTS_MAX", "9" * 5_000, "9" * 5_000),
    ],
)
def test_a_variable_is_text_where_its_key_takes_the_text_and_toml_where_not(
    variable: str, text: str, value: object
) -> None:
    (setting,) = from_environment({variable: text})
    assert (setting.value, setting.origin) == (value, variable)
    (flag,) = [parse_flag(f"{setting.key}={text}")]
    assert (flag.key, flag.value, flag.origin) == (setting.key, value, "--set")


def test_a_variable_that_is_no_key_is_told_and_others_are_not_looked_at() -> None:
    settings = from_environment({"OLLAMAD_PROXY_LISTNE": "x", "OLLAMAD_TYPO": "1", "PATH": "x", "OLLAMA_HOST": "y"})
    with pytest.raises(ConfigError) as caught:
        load(settings, home=HOME)
    assert [(problem.key, problem.origin) for problem in caught.value.problems] == [
        ("proxy.listne", "OLLAMAD_PROXY_LISTNE"),
        ("typo.", "OLLAMAD_TYPO"),
    ]


@pytest.mark.parametrize("name", ["OLLAMAD_CONFIG", "OLLAMAD_SOCKET", "OLLAMAD_INSTANCE", "OLLAMAD_CHILD"])
def test_the_variables_that_ollamad_sets_itself_are_no_keys(name: str) -> None:
    assert name in NOT_KEYS
    assert from_environment({name: "x"}) == ()


@pytest.mark.parametrize("flag", ["proxy.listen", "listen=127.0.0.1:1", "=x", ""])
def test_a_flag_of_another_form_is_refused_with_the_form(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"\(--set\): expected TABLE\.KEY=VALUE, such as proxy\.listen=") as caught:
        parse_flag(flag)
    assert caught.value.problems[0].key == flag


def test_a_flag_may_have_blanks_around_and_equals_signs_in_its_value() -> None:
    assert parse_flag(' ollama.env = {A = "b=c"} ') == Setting("ollama.env", {"A": "b=c"}, "--set")
    assert parse_flag(" ollama.keep_alive = 300 ") == Setting("ollama.keep_alive", "300", "--set")


@given(st.sampled_from(KEYS), TEXTS)
def test_no_text_of_a_variable_or_a_flag_is_more_than_a_configuration_problem(key: str, text: str) -> None:
    for settings in (
        from_environment({f"OLLAMAD_{key.replace('.', '_').upper()}": text}),
        [parse_flag(f"{key}={text}")],
    ):
        found = outcome(*((setting.key, setting.value) for setting in settings))
        if isinstance(found, ConfigError):
            assert [problem.key for problem in found.problems] == [key]
        else:
            assert set(found.origins) == {key}
