"""What is printed of a configuration is pasted elsewhere: no secret is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config import Setting, load, parse_flag
from ollamad.config.load import from_environment
from ollamad.config.render import render_effective
from ollamad.config.secrets import HIDDEN, hidden_in, is_secret, secrets_in, shown
from ollamad.errors import ConfigError
from tests.unit.config.loading import HOME

SECRETS = ["OLLAMA_API_KEY", "HF_TOKEN", "hf_token", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "OLLAMA_AUTH"]
PLAIN = ["OLLAMA_KEEP_ALIVE", "OLLAMA_DEBUG", "OLLAMA_FLASH_ATTENTION", "HTTP_PROXY", "LD_LIBRARY_PATH"]


def test_a_secret_is_known_by_its_name() -> None:
    assert all(map(is_secret, SECRETS))
    assert not any(map(is_secret, PLAIN))


@pytest.mark.parametrize("name", SECRETS)
def test_check_shows_that_there_is_one_and_not_which(name: str) -> None:
    found = load([Setting("ollama.env", {name: "geheim", "A": "1"}, "test")], home=HOME)
    text = render_effective(found)
    assert f'{name} = "{HIDDEN}"' in text
    assert 'A = "1"' in text
    assert "geheim" not in text


def test_a_secret_that_is_not_set_is_shown_as_such() -> None:
    assert shown("HF_TOKEN", "") == ""


def test_a_text_of_four_characters_can_be_a_secret_and_a_shorter_one_would_tear_holes_into_words() -> None:
    assert secrets_in({"HF_TOKEN": "abcd", "OLLAMA_API_KEY": "abc"}) == ("abcd",)


def test_a_password_in_an_address_is_hidden_too() -> None:
    assert shown("HTTPS_PROXY", "http://me:geheim@proxy:3128/") == f"http://{HIDDEN}@proxy:3128/"
    assert shown("HTTPS_PROXY", "http://proxy:3128/a@b") == "http://proxy:3128/a@b"


@pytest.mark.parametrize(
    "settings",
    [
        [Setting("ollama.envv", {"OLLAMA_API_KEY": "geheim"}, "f:1")],
        [Setting("olama.env", {"OLLAMA_API_KEY": "geheim"}, "f:1")],
        [Setting("ollama.env", {"OLLAMA_API_KEY": "geheim\0"}, "f:1")],
        [Setting("ollama.env", {"OLLAMA_API_KEY": ["geheim"]}, "f:1")],
        [Setting("proxy", "geheim", "f:1"), Setting("access", {"key": "geheim"}, "f:1")],
        [parse_flag("ollama.env.OLLAMA_API_KEY=geheim")],
        from_environment({"OLLAMAD_OLLAMA_ENV_OLLAMA_API_KEY": "geheim"}),
        from_environment({"OLLAMAD_OLLAMA_ENV": '{OLLAMA_API_KEY = "geheim", OLLAMA_HOST = "x"}'}),
    ],
)
def test_no_problem_of_a_configuration_tells_a_secret(settings: list[Setting]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(settings, home=HOME)
    assert "geheim" not in str(caught.value).replace('proxy = "geheim"', "")


@given(st.sampled_from(SECRETS), st.text(min_size=1, max_size=20))
def test_whatever_it_is_it_is_not_shown(name: str, value: str) -> None:
    assert shown("env", {name: value}) == {name: HIDDEN}


def test_a_child_that_prints_its_environment_tells_no_secret() -> None:
    environment = {"OLLAMA_API_KEY": "geheim", "HTTPS_PROXY": "http://me:geheim2@proxy:1", "PATH": "/bin", "A_KEY": "1"}
    found = secrets_in(environment)
    assert found == ("me:geheim2", "geheim")
    line = f"server config env={environment}"
    assert "geheim" not in hidden_in(line, found)
    assert "http://(hidden)@proxy:1" in hidden_in(line, found)
    assert "/bin" in hidden_in(line, found)
