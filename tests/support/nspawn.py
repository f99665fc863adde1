"""A machine with a systemd of its own: Debian's systemd-nspawn boots one over this machine's files.

What it writes is written into memory and is gone with it. It has a network of its own, with nothing but loopback.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from ollamad.demo.parts import default_cache
from tests.support.debian import debian_program

PATIENCE_S: Final = 60.0
COMMAND_S: Final = 100.0
BACKPORTS: Final = ("systemd", "libsystemd-shared", "libsystemd0", "udev", "libudev1")
KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
PATH: Final = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON: Final = Path("/usr/bin/python3")
"""The system's own: the one that runs the tests may lie in a home, which a service can't see."""
_BOOT: Final = """\
set -e
root=$1 over=$2 name=$3
shift 3
for tree in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  if [ -e "$tree/cgroup.procs" ]; then
    mkdir "$tree/$name"
    echo $$ > "$tree/$name/cgroup.procs"
  fi
done
mount -t tmpfs tmpfs "$root"
mkdir "$root/over" "$root/root"
[ -z "$over" ] || cp -a "$over/." "$root/over"
mount -t overlay overlay -o "lowerdir=$root/over:/" "$root/root"
exec "$@"
"""


def why_not() -> str | None:
    """Why no machine can be booted here; None where one can."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if shutil.which("systemctl") is None or not Path("/lib/systemd/systemd").exists():
        return "there is no systemd to boot here: apt-get install systemd"
    probe = [str(PYTHON), "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
    if not PYTHON.exists() or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        return f"{PYTHON} is not 3.11 with venv: apt-get install python3-venv"
    try:
        debian_program("systemd-container", "usr/bin/systemd-nspawn", default_cache() / "debian")
    except RuntimeError as error:
        return str(error)
    return None


def newer_systemd() -> Path:
    """A folder with the files of Debian's backported systemd, to lay over the machine's own."""
    folder = default_cache() / "debian" / "systemd-from-backports"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=default_cache()) as scratch:
            _unpack_backports(Path(scratch))
            (Path(scratch) / "unpacked").rename(folder)
    return folder


def _unpack_backports(scratch: Path) -> None:
    """Get it from where the machine gets its packages, with lists of their own: its own stay as they are."""
    form = "$(REPO_URI) $(RELEASE)"
    known = subprocess.run(["apt-get", "indextargets", "--format", form], capture_output=True, text=True, check=True)
    archive, release = next(line.split() for line in known.stdout.splitlines() if "-" not in line.split()[1])
    (scratch / "sources").write_text(f"deb [signed-by={KEYS}] {archive} {release}-backports main\n")
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    own = {"Etc::SourceList": "sources", "Etc::SourceParts": "none", "State::Lists": "lists", "Cache": "cache"}
    options = [part for key, place in own.items() for part in ("-o", f"Dir::{key}={scratch / place}")]
    get = ["apt-get", *options, "--quiet", "--quiet"]
    subprocess.run([*get, "update"], cwd=scratch, check=True, capture_output=True)
    subprocess.run([*get, "download", *BACKPORTS], cwd=scratch, check=True, capture_output=True)
    for package in scratch.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, scratch / "unpacked"], check=True)
    for merged in ("lib", "bin", "sbin"):  # links to those below usr on the machine: a folder would hide them
        if (scratch / "unpacked" / merged).is_dir():
            shutil.copytree(
                scratch / "unpacked" / merged, scratch / "unpacked/usr" / merged, symlinks=True, dirs_exist_ok=True
            )
            shutil.rmtree(scratch / "unpacked" / merged)


class Machine:
    """One that runs."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        """Its systemd, as this machine numbers it."""

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """Run a command in it, as root, with an environment of its own; gives what it printed."""
        done = self.result(*command, text=text)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def result(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same, and how it ended."""
        return subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-p", "-u", "-i", "-C", "-n", *command],
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            input=text or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def started(self, *command: str) -> subprocess.Popen[str]:
        """A command in it that goes on."""
        inside = ["nsenter", "-t", str(self.leader), "-m", "-p", "-u", "-i", "-C", "-n", *command]
        return subprocess.Popen(inside, env={"PATH": PATH}, stdout=subprocess.PIPE, text=True)

    def write(self, path: str, text: str) -> None:
        """Put a file there."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, text=text)

    def client(self, script: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python script of this machine's on that one's network; it has what the tests have."""
        return subprocess.Popen(
            ["nsenter", "-t", str(self.leader), "-n", sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def show(self, unit: str, *properties: str) -> Mapping[str, str]:
        """What systemd knows of a unit."""
        told = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in told.splitlines())

    def until(self, unit: str, **wanted: str) -> None:
        """Until a unit's properties are so."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (now := self.show(unit, *wanted)) != wanted:
            assert time.monotonic() < deadline_s, f"{unit} is {now}, not {wanted}\n{self.journal(unit)}"
            time.sleep(0.05)

    def journal(self, unit: str, *more: str) -> str:
        """The last of what a unit has logged."""
        return self.run("journalctl", "--unit", unit, "--no-pager", "--output", "cat", "--lines", "500", *more)


@contextmanager
def machine(folder: Path, binds: Mapping[Path, str], over: Path | None = None) -> Iterator[Machine]:
    """One, booted; `binds` are folders of this machine's, and where they can be read there.

    `over` is a folder whose files it has in place of this machine's: another systemd, unpacked.
    """
    nspawn = debian_program("systemd-container", "usr/bin/systemd-nspawn", default_cache() / "debian")
    mounts, console = folder / "mounts", folder / "console"
    name = f"ollamad-{secrets.token_hex(4)}"
    mounts.mkdir()
    options = [
        f"--directory={mounts}/root",
        "--volatile=overlay",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--private-network",
    ]
    options += ["--boot", "--console=pipe", f"--uuid={secrets.token_hex(16)}", f"--machine={name}"]
    options += [f"--bind-ro={here}:{there}" for here, there in binds.items()]
    options += ["systemd.unit=basic.target"]  # for its systemd: nothing that this machine may have installed
    with console.open("wb") as output:
        process = subprocess.Popen(
            # The mounts are this process's own: they are gone however this ends. The cgroups are its own, too: two
            # machines at the same time would have one `ollamad.service` between them.
            ["unshare", "--mount", "sh", "-c", _BOOT, "sh", mounts, over or "", name, nspawn, *options],
            env={"PATH": PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},  # as every system of today has it
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield _booted(process, console)
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():  # its systemd: all that it runs goes with it
                child.send_signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        _remove_cgroups(name)


def _remove_cgroups(name: str) -> None:
    for tree in ("unified", "systemd", ""):
        for folder, _, _ in os.walk(Path("/sys/fs/cgroup", tree, name), topdown=False):
            with suppress(OSError):  # somebody is still leaving it
                Path(folder).rmdir()


def _booted(process: subprocess.Popen[bytes], console: Path) -> Machine:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            booted = Machine(child.pid)
            if booted.run("systemctl", "is-system-running", check=False).strip() in {"running", "degraded"}:
                return booted
        time.sleep(0.1)
    raise AssertionError(f"no systemd was booted:\n{console.read_text(errors='replace')}")
