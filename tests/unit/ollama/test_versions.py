from __future__ import annotations

import pytest

from ollamad.ollama.versions import version_key


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.5.4", "0.33.0"),
        ("0.9.3", "0.10.0"),
        ("0.33.0-rc2", "0.33.0"),
        ("0.33.0-rc1", "0.33.0-rc2"),
        ("0.5.4-ipexllm-20250407", "0.9.3-ipexllm-20250101"),
        ("", "0.0.1"),
    ],
)
def test_figures_count_as_figures_and_a_pre_release_comes_first(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)
