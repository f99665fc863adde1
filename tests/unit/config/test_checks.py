"""What no key's type can say: that keys agree, and that paths can be used."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config import Setting, load
from ollamad.config.checks import FIXED_VARIABLES, OWNED_VARIABLES, expand
from ollamad.errors import ConfigError
from tests.unit.config.loading import HOME, KEYS, SELECTORS, loaded, outcome, problems


def test_proxy_and_status_cannot_share_an_address() -> None:
    (problem,) = problems(("proxy.listen", "127.0.0.1:8000"), ("status.listen", "127.0.0.1:8000"))
    assert (problem.key, problem.value, problem.origin) == ("status.listen", '"127.0.0.1:8000"', "test")
    assert problem.message == "is also proxy.listen; each needs an address of its own"


def test_the_agent_s_listener_needs_an_address_of_its_own_too() -> None:
    (problem,) = problems(("proxy.listen", "127.0.0.1:1"), ("status.agent_listen", "127.0.0.1:1"))
    assert problem.key == "status.agent_listen"
    assert problem.message == "is also proxy.listen; each needs an address of its own"


CPU = ("gpus.require_gpu", True), ("gpus.cpu_children", 2)
PER_CHILD = ("models.store", "per-child")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((("proxy.listen", "nowhere"),), ('proxy.listen = "nowhere" (test): expected "HOST:PORT", such as ',)),
        (
            (("proxy.trusted_proxies", ["::1", "x"]),),
            ('proxy.trusted_proxies = "x" (test): is no address or network such as "10.0.0.0/8" or "::1"',),
        ),
        (
            (("proxy.allowed_origins", ["*", "x"]),),
            ('proxy.allowed_origins = "x" (test): is no origin such as "https://chat.example.com"; "*" may stand in',),
        ),
        (
            (("gpus.groups", [["GPU-A"]]), ("gpus.exclude", ["gpu-a"])),
            ('gpus.exclude = "gpu-a" (test): is in gpus.groups too; take it out of one of them',),
        ),
        (CPU, ("gpus.cpu_children = 2 (test): gpus.require_gpu = true leaves no place for CPU children",)),
        (
            (("ollama.env", {"HOME": "x", "OLLAMA_VULKAN": "1", "=": "é"}),),
            (
                'ollama.env = {"HOME": "x"} (test): HOME is set by ollamad; use the key ollama.home',
                'ollama.env = {"OLLAMA_VULKAN": "1"} (test): OLLAMA_VULKAN can\'t be set: Vulkan ignores the pinning',
                'ollama.env = {"=": "é"} (test): is no name and value that an environment can hold',
            ),
        ),
        (
            (("supervision.backoff_max_s", 0.1),),
            ("supervision.backoff_max_s = 0.1 (test): must be at least supervision.backoff_initial_s (0.5)",),
        ),
        (
            (("models.retry_initial_s", 9), ("models.retry_max_s", 8)),
            ("models.retry_max_s = 8.0 (test): must be at least models.retry_initial_s (9.0)",),
        ),
        (
            (("routing.models", {"m": {"min_replicas": 3, "max_replicas": 2}}),),
            ('routing.models = {"m": {"max_replicas": 2}} (test): is less than the 3 that are always wanted',),
        ),
        (
            (PER_CHILD, ("models.per_child_path", f"{HOME}/x")),
            (f'models.per_child_path = "{HOME}/x" (test): must hold {{child}}, or all children would have one store',),
        ),
        (
            (PER_CHILD, ("models.per_child_path", "x/{child}")),
            ('models.per_child_path = "x/gpu0" (test): must be an absolute path, or start with ~',),
        ),
        (
            (("models.path", "/proc/sys/kernel/x"),),
            ('models.path = "/proc/sys/kernel/x" (test): /proc/sys/kernel can\'t be read and written by',),
        ),
        (
            (("control.socket", "x"),),
            ('control.socket = "x" (test): must be "auto", an absolute path, or start with ~',),
        ),
        (
            (("control.socket", "/\0"),),
            ('control.socket = "/\\u0000" (test): holds a NUL character, which no path can',),
        ),
        (
            (("control.socket", f"/{'x' * 107}"),),
            (f'control.socket = "/{"x" * 107}" (test): is 108 bytes long; the path of a unix socket can have 107',),
        ),
        (
            (("control.mode", "0662"),),
            ('control.mode = "0662" (test): would let every user connect; set control.group instead',),
        ),
        ((("control.owner", "no such one"),), ('control.owner = "no such one" (test): there is no such user here',)),
        ((("control.group", "no such one"),), ('control.group = "no such one" (test): there is no such group here',)),
    ],
)
def test_a_contradiction_reads_as_a_line_with_the_key_the_value_and_what_to_do(
    settings: tuple[tuple[str, object], ...], said: tuple[str, ...]
) -> None:
    found = problems(*settings)
    assert len(found) == len(said)
    for problem, line in zip(found, said, strict=True):
        assert str(problem).startswith(line)


def test_an_address_taken_by_a_default_is_told_with_who_set_what() -> None:
    (problem,) = problems(("proxy.listen", "127.0.0.1:11480"))
    assert str(problem).startswith('status.listen = "127.0.0.1:11480" (default): is also proxy.listen')


def test_two_ports_that_the_kernel_chooses_are_two_addresses() -> None:
    assert loaded(("proxy.listen", "127.0.0.1:0"), ("status.listen", "127.0.0.1:0")).origins


def test_a_bad_address_does_not_hide_the_other() -> None:
    found = problems(("proxy.listen", "nowhere"), ("status.listen", "host:99999"))
    assert [problem.key for problem in found] == ["proxy.listen", "status.listen"]


@pytest.mark.parametrize(
    ("key", "value", "twice"),
    [
        ("gpus.include", [0, 1, 0], "0"),
        ("gpus.include", ["GPU-AB", "gpu-ab"], '"gpu-ab"'),
        ("gpus.exclude", [3, 3], "3"),
        ("gpus.groups", [[0, 1], [2, 1]], "1"),
        ("gpus.groups", [[2, 2]], "2"),
        ("gpus.groups", [[0], ["0"]], '"0"'),
    ],
)
def test_a_gpu_is_named_once(key: str, value: object, twice: str) -> None:
    (problem,) = problems((key, value))
    assert (problem.key, problem.value) == (key, twice)
    assert problem.message == "names one GPU twice; a GPU can have one child"


@given(st.lists(SELECTORS, max_size=6))
def test_a_list_of_gpus_is_refused_exactly_when_one_is_in_it_twice(selectors: list[int | str]) -> None:
    repeated = len({str(selector).lower() for selector in selectors}) < len(selectors)
    found = outcome(("gpus.include", selectors))
    assert isinstance(found, ConfigError) == repeated


def test_a_gpu_that_is_grouped_cannot_be_left_out() -> None:
    (problem,) = problems(("gpus.groups", [[0, 1], [2]]), ("gpus.exclude", [7, 1]))
    assert (problem.key, problem.value) == ("gpus.exclude", '"1"')
    assert "is in gpus.groups too" in problem.message


@pytest.mark.parametrize("children", [0, "auto"])
def test_a_required_gpu_goes_with_no_cpu_children_of_ones_own(children: object) -> None:
    assert loaded(("gpus.require_gpu", True), ("gpus.cpu_children", children)).config.gpus.require_gpu


def test_a_required_gpu_and_cpu_children_contradict_each_other() -> None:
    (problem,) = problems(("gpus.require_gpu", True), ("gpus.cpu_children", 1))
    assert (problem.key, problem.value) == ("gpus.cpu_children", "1")
    assert loaded(("gpus.require_gpu", False), ("gpus.cpu_children", 1)).config.gpus.cpu_children == 1


@pytest.mark.parametrize(("name", "owner"), OWNED_VARIABLES.items())
def test_a_variable_that_a_key_decides_is_refused_with_that_key(name: str, owner: str) -> None:
    (problem,) = problems(("ollama.env", {"GOOD": "1", name: "x"}))
    assert (problem.key, problem.value) == ("ollama.env", f'{{"{name}": "x"}}')
    assert problem.message == f"{name} is set by ollamad; use the key {owner}"
    assert owner in KEYS


@pytest.mark.parametrize(("name", "why"), FIXED_VARIABLES.items())
def test_a_variable_that_must_stay_as_it_is_is_refused_with_the_reason(name: str, why: str) -> None:
    (problem,) = problems(("ollama.env", {name: "1"}))
    assert problem.message == f"{name} can't be set: {why}"


@pytest.mark.parametrize("variable", [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")])
def test_what_no_environment_can_hold_is_refused(variable: tuple[str, str]) -> None:
    assert "is no name and value" in problems(("ollama.env", dict([variable])))[0].message


def test_every_bad_variable_is_told() -> None:
    assert len(problems(("ollama.env", {"HOME": "x", "OLLAMA_NOPRUNE": "0", "=": "x", "FINE": "x"}))) == 3


@pytest.mark.parametrize(("initial_s", "max_s"), [(5, 4), (61, None), (None, 0.4)])
def test_the_longest_backoff_is_no_shorter_than_the_first(initial_s: float | None, max_s: float | None) -> None:
    chosen = [("supervision.backoff_initial_s", initial_s), ("supervision.backoff_max_s", max_s)]
    (problem,) = problems(*((key, value) for key, value in chosen if value is not None))
    assert problem.key == "supervision.backoff_max_s"
    assert "must be at least supervision.backoff_initial_s" in problem.message


def test_backoffs_that_are_equal_are_in_order() -> None:
    assert loaded(("supervision.backoff_initial_s", 3), ("supervision.backoff_max_s", 3)).origins


@pytest.mark.parametrize("key", ["models.path", "ollama.home"])
@pytest.mark.parametrize("path", ["models", "./models", "~other/models", "~x"])
def test_a_path_that_depends_on_where_one_stands_is_refused(key: str, path: str) -> None:
    assert [(problem.key, problem.message) for problem in problems((key, path))] == [
        (key, "must be an absolute path, or start with ~")
    ]


@pytest.mark.parametrize("key", ["models.path", "ollama.home"])
@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_a_path_at_or_below_a_file_is_refused_by_the_name_of_that_file(tmp_path: Path, key: str, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    assert [problem.message for problem in problems((key, f"{file}{below}"))] == [
        f"{file} is not a directory that can be entered"
    ]


def test_a_path_below_a_link_to_nowhere_is_refused_by_the_name_of_that_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert problems(("models.path", f"{link}/x"))[0].message == f"{link} is not a directory that can be entered"


def test_a_directory_that_this_user_may_not_write_to_is_refused() -> None:
    (problem,) = problems(("models.path", "/proc/sys/kernel/ollama"))  # nobody makes anything there, not even root
    told = f"/proc/sys/kernel can't be read and written by this user (uid {os.getuid()}); give it to that user"
    assert problem.message == told


def test_a_store_of_which_a_part_belongs_to_somebody_else_is_refused_by_the_name_of_that_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "manifests").mkdir()
    loaded(("models.path", str(tmp_path)))
    kinds: dict[object, int] = {}

    def access(path: object, kind: int) -> bool:
        kinds[path] = kind
        return path != tmp_path / "manifests"

    monkeypatch.setattr(os, "access", access)  # root may do everything
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    (problem,) = problems(("models.path", str(tmp_path)))
    told = "can't be read and written by this user (uid 4711): chown -R 4711"
    assert problem.message == f"{tmp_path}/manifests {told} {tmp_path}"
    assert kinds[tmp_path / "blobs"] == kinds[tmp_path] == os.R_OK | os.W_OK | os.X_OK


def test_in_a_service_it_says_what_of_its_sandbox_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOCATION_ID", "0123456789abcdef")
    monkeypatch.setattr(os, "access", lambda *_: False)
    told = {problem.key: problem.message for problem in problems(("models.path", "/home/llm/models"))}
    assert "a service sees no homes: `systemctl edit ollamad`, ProtectHome=no and" in told["models.path"]
    assert told["models.path"].endswith("ReadWritePaths=/home/llm/models")


def test_a_path_with_a_nul_is_refused() -> None:
    assert problems(("models.path", f"{HOME}/a\0b"))[0].message == "holds a NUL character, which no path can"


def test_a_path_that_is_still_to_be_made_is_fine_and_so_is_a_link_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "a" / "b", tmp_path / "link" / "c"):
        assert loaded(("models.path", str(path))).config.models.path == str(path)


def test_a_home_that_cannot_be_used_is_found_through_the_default_paths(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError) as caught:
        load([Setting("log.level", "debug", "test")], home=str(file))
    assert [(problem.key, problem.origin) for problem in caught.value.problems] == [
        ("models.path", "default"),
        ("ollama.home", "default"),
    ]


@pytest.mark.parametrize(
    ("text", "path"), [("~", "/h"), ("~/m", "/h/m"), ("~x/m", "~x/m"), ("/a/~/b", "/a/~/b"), ("a", "a")]
)
def test_only_a_tilde_of_ones_own_is_expanded(text: str, path: str) -> None:
    assert expand(text, "/h") == Path(path)


def test_a_variable_that_is_no_text_is_named_and_no_value_of_its_table_is_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load([Setting("ollama.env", {"TOKEN": "s3cret", "LEVEL": 1}, "here")], home=HOME)
    assert str(caught.value) == "ollama.env (here): expected text in quotes as the value of LEVEL"
    with pytest.raises(ConfigError, match=r"as the value of LEVEL, OTHER$"):
        load([Setting("ollama.env", {"TOKEN": "s3cret", "LEVEL": 1, "OTHER": 2}, "here")], home=HOME)


@pytest.mark.parametrize("network", ["10.0.0.0/33", "proxy.example.com", "", "10.0.0.1:80"])
def test_a_trusted_proxy_is_an_address_or_a_network(network: str) -> None:
    (problem,) = problems(("proxy.trusted_proxies", [network]))
    assert (problem.key, "10.0.0.0/8" in problem.message) == ("proxy.trusted_proxies", True)


@pytest.mark.parametrize("origin", ["chat.example.com", "", "https://*.*", "**"])
def test_an_origin_has_a_scheme_and_one_star_at_most(origin: str) -> None:
    (problem,) = problems(("proxy.allowed_origins", ["https://chat.example.com", origin]))
    assert (problem.key, "https://chat" in problem.message) == ("proxy.allowed_origins", True)


def test_children_with_stores_of_their_own_need_a_path_each() -> None:
    own = [("models.store", "per-child"), ("models.per_child_path", f"{HOME}/models")]
    (problem,) = problems(*own)
    assert (problem.key, problem.message) == (
        "models.per_child_path",
        "must hold {child}, or all children would have one store",
    )
    assert loaded(own[1]).config.models.store == "shared"  # where it is not used, it is no trouble


@pytest.mark.parametrize("path", ["{path}/{child}", "~/x/{child}/y"])
def test_a_child_s_own_path_must_be_one_that_can_be_used(tmp_path: Path, path: str) -> None:
    """Judged by that of the first child, which has a file in its way here."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "gpu0").touch()
    said = ("models.path", f"{tmp_path}/x"), PER_CHILD, ("models.per_child_path", path)
    with pytest.raises(ConfigError) as caught:
        load([Setting(key, value, "test") for key, value in said], home=str(tmp_path))
    (problem,) = caught.value.problems
    assert problem.key == "models.per_child_path"
    assert problem.message == f"{tmp_path}/x/gpu0 is not a directory that can be entered"


def test_a_path_of_all_that_is_bad_is_told_once_and_not_again_for_each_child() -> None:
    (problem,) = problems(("models.path", "models"), PER_CHILD, ("models.per_child_path", "{path}/{child}"))
    assert problem.key == "models.path"
    assert len(problems(("models.path", "models"), PER_CHILD, ("models.per_child_path", "own/{child}"))) == 2


def test_a_socket_may_be_under_ones_home_and_its_path_as_long_as_the_kernel_allows() -> None:
    assert loaded(("control.socket", "~/ollamad.sock")).origins
    assert loaded(("control.socket", f"/{'x' * 106}")).origins
    with pytest.raises(ConfigError, match="is 108 bytes long"):
        load([Setting("control.socket", f"~/{'x' * 101}", "test")], home="/home1")


@pytest.mark.parametrize("mode", ["0660", "0661", "0610", "0644"])
def test_a_mode_that_lets_no_other_user_write_is_fine(mode: str) -> None:
    assert loaded(("control.mode", mode)).origins


@pytest.mark.parametrize("mode", ["0662", "0636", "0667", "0666"])
def test_a_mode_that_lets_every_user_write_is_not(mode: str) -> None:
    assert problems(("control.mode", mode))[0].key == "control.mode"


def test_waits_that_are_equal_are_in_order_and_a_number_of_nine_digits_is_a_user() -> None:
    assert loaded(("models.retry_initial_s", 9), ("models.retry_max_s", 9)).origins
    assert loaded(("control.owner", "9" * 9)).origins


def test_a_wait_that_doubles_can_t_begin_above_its_end() -> None:
    (problem,) = problems(("models.retry_initial_s", 10), ("models.retry_max_s", 5))
    assert (problem.key, "at least models.retry_initial_s (10" in problem.message) == ("models.retry_max_s", True)


@pytest.mark.parametrize("name", ["", "../x", " a", "a b", "/a"])
def test_what_can_be_no_model_is_told_before_anything_starts(name: str) -> None:
    (problem,) = problems(("models.ensure", [name]))
    assert problem.message == 'expected a list of models, such as ["llama3.2:3b"]'


@pytest.mark.parametrize(
    ("flags", "then"),
    [
        (0, "; give it to that user"),
        (os.ST_NOSUID, "; give it to that user"),
        (
            os.ST_RDONLY,
            "; it is read-only for this service: `systemctl edit ollamad`, ReadWritePaths=/proc/sys/kernel/x",
        ),
    ],
)
def test_in_a_service_only_what_is_read_only_there_is_to_be_opened(
    monkeypatch: pytest.MonkeyPatch, flags: int, then: str
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "0123456789abcdef")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    assert problems(("models.path", "/proc/sys/kernel/x"))[0].message.endswith(then)


def test_as_many_copies_at_most_as_are_always_wanted_is_no_contradiction() -> None:
    loaded(("routing.models", {"m": {"min_replicas": 2, "max_replicas": 2}}))
