"""How much room there is on the disks of stores."""

from __future__ import annotations

import shutil
from pathlib import Path

from ollamad.store.room import disks


def test_each_disk_is_told_once_by_its_first_store_also_where_that_is_yet_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (found,) = disks([tmp_path / "a" / "models", tmp_path / "b"])
    assert found.root == tmp_path / "a" / "models"
    assert abs(found.free_bytes - shutil.disk_usage(tmp_path).free) < 2**30
    assert [disk.root for disk in disks([Path("/proc/self"), tmp_path])] == [Path("/proc/self"), tmp_path]


def test_a_disk_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert disks([tmp_path / "loop"]) == ()
