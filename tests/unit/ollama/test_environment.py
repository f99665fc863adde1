from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config.checks import FIXED_VARIABLES, OWNED_VARIABLES
from ollamad.config.schema import Ollama
from ollamad.ollama.environment import INHERITED, MAKES, Host, Placement, child_environment, context_length

HOST = Host(instance="i1", home="/home/o", store="/models", context_length=8192)
GPU = Placement("gpu0", {"CUDA_VISIBLE_DEVICES": ("GPU-aa",)}, 11_500)
WIDE = Placement("gpu2+3", {"CUDA_VISIBLE_DEVICES": ("GPU-cc", "GPU-dd")}, 11_501)
CPU = Placement("cpu0", {}, 11_502)

UNWANTED = (
    "HTTP_PROXY",
    "http_proxy",
    "OLLAMA_ORIGINS",
    "OLLAMA_HOST",
    "OLLAMA_GPU_OVERHEAD",
    "OLLAMAD_PROXY_LISTEN",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "LLAMA_ARG_PORT",
    "LD_PRELOAD",
    "NOTIFY_SOCKET",
    "HOME",
    "AWS_SECRET_ACCESS_KEY",
)
OWN = st.dictionaries(st.sampled_from([*INHERITED, *UNWANTED]) | st.text(max_size=8), st.text(max_size=8))
PLACEMENTS = st.sampled_from([GPU, WIDE, CPU])


@given(OWN, PLACEMENTS)
def test_nothing_leaks_but_what_is_listed(own: dict[str, str], placement: Placement) -> None:
    bare = child_environment({}, Ollama(), HOST, placement)
    inherited = {name: value for name, value in own.items() if name in INHERITED}
    assert child_environment(own, Ollama(), HOST, placement) == bare | inherited


def test_what_is_listed_is_harmless() -> None:
    assert not set(INHERITED) & {*UNWANTED, *OWNED_VARIABLES, *FIXED_VARIABLES}
    assert {"PATH", "LD_LIBRARY_PATH", "HTTPS_PROXY", "NO_PROXY"} <= set(INHERITED)


def test_a_childs_environment_is_complete_and_as_configured() -> None:
    settings = Ollama(
        num_parallel=2,
        max_loaded_models=4,
        max_queue=7,
        keep_alive="-1",
        load_timeout_s=60,
        prompt_cache_mib=11,
        fit_margin_mib=22,
    )
    assert child_environment({}, settings, HOST, GPU) == {
        "OLLAMAD_INSTANCE": "i1",
        "OLLAMAD_CHILD": "gpu0",
        "HOME": "/home/o",
        "OLLAMA_HOST": "127.0.0.1:11500",
        "OLLAMA_MODELS": "/models",
        "CUDA_VISIBLE_DEVICES": "GPU-aa",
        "HIP_VISIBLE_DEVICES": "-1",
        "ROCR_VISIBLE_DEVICES": "-1",
        "OLLAMA_VULKAN": "0",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_NUM_PARALLEL": "2",
        "OLLAMA_MAX_LOADED_MODELS": "4",
        "OLLAMA_MAX_QUEUE": "7",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_LOAD_TIMEOUT": "60s",
        "LLAMA_ARG_CACHE_RAM": "11",
        "LLAMA_ARG_FIT_TARGET": "22",
    }


def test_a_wide_child_sees_its_gpus_in_their_order_and_no_other() -> None:
    assert child_environment({}, Ollama(), HOST, WIDE)["CUDA_VISIBLE_DEVICES"] == "GPU-cc,GPU-dd"


def test_a_child_on_a_gpu_of_amd_has_no_variable_that_would_choose_among_its_gpus_again() -> None:
    placement = Placement("gpu0", {"ROCR_VISIBLE_DEVICES": ("GPU-aa",)}, 11_500)
    environment = child_environment({}, Ollama(), HOST, placement)
    assert {name: value for name, value in environment.items() if name in MAKES} == {"ROCR_VISIBLE_DEVICES": "GPU-aa"}


def test_a_cpu_child_sees_no_device_of_any_make() -> None:
    environment = child_environment({"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"}, Ollama(), HOST, CPU)
    assert [environment[f"{make}_VISIBLE_DEVICES"] for make in ("CUDA", "HIP", "ROCR")] == ["-1", "-1", "-1"]
    assert environment["OLLAMA_VULKAN"] == "0"


@given(st.dictionaries(st.sampled_from([*INHERITED, *UNWANTED, "OLLAMA_DEBUG"]), st.text(max_size=8)), PLACEMENTS)
def test_the_operators_variables_pass_and_win_over_inherited_ones_but_never_over_ours(
    env: dict[str, str], placement: Placement
) -> None:
    own = dict.fromkeys(INHERITED, "inherited")
    environment = child_environment(own, Ollama(env=env), HOST, placement)
    assert environment == own | env | child_environment({}, Ollama(), HOST, placement)


@pytest.mark.parametrize("placement", [GPU, WIDE, CPU])
def test_every_variable_that_we_set_is_refused_in_the_configuration(placement: Placement) -> None:
    assert set(child_environment({}, Ollama(), HOST, placement)) <= {*OWNED_VARIABLES, *FIXED_VARIABLES}


def test_children_on_gpus_of_one_fleet_differ_in_nothing_but_their_place() -> None:
    one, other = (child_environment({}, Ollama(), HOST, placement) for placement in (GPU, WIDE))
    assert {name for name in one | other if one.get(name) != other.get(name)} == {
        "OLLAMAD_CHILD",
        "OLLAMA_HOST",
        "CUDA_VISIBLE_DEVICES",
    }


GIB = 1024**3


@pytest.mark.parametrize(
    ("vram", "tokens"),
    [
        ((23 * GIB,), 32_768),
        ((23 * GIB - 1,), 4_096),
        ((80 * GIB, 24 * GIB), 32_768),
        ((80 * GIB, 8 * GIB), 4_096),
        ((80 * GIB, None), 4_096),
        ((None,), 4_096),
        ((), 4_096),
    ],
)
def test_the_smallest_child_decides_the_context_length_of_all(vram: tuple[int | None, ...], tokens: int) -> None:
    assert context_length("auto", vram) == tokens


@given(st.integers(4, 10_000_000), st.lists(st.none() | st.integers(0, 10**12)))
def test_a_context_length_that_is_set_is_what_all_children_get(tokens: int, vram: list[int | None]) -> None:
    assert context_length(tokens, tuple(vram)) == tokens
