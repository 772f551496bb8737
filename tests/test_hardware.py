"""Memory limits of containers, laid out as both versions of control groups do."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from corral.hardware import Memory, memory

MIB = 1 << 20


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def member(tmp_path: Path, text: str) -> Path:
    (tmp_path / "membership").write_text(text)
    return tmp_path / "membership"


def group(folder: str, limit: str, current: int, cache: int = 0) -> dict[str, str]:
    return {
        f"{folder}memory.max": limit,
        f"{folder}memory.current": str(current),
        f"{folder}memory.stat": f"anon 5\ninactive_file {cache // 2}\nactive_file {cache - cache // 2}\nslab 7\n",
    }


def test_the_narrowest_group_above_us_is_the_limit(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path / "cgroup",
        group("a/", str(800 * MIB), 700 * MIB) | group("a/b/", str(500 * MIB), 100 * MIB) | group("a/b/c/", "max", 1),
    )
    assert memory(root, member(tmp_path, "0::/a/b/c\n")) == Memory(500 * MIB, 100 * MIB)


def test_the_page_cache_of_a_group_is_free(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "cgroup", group("", str(500 * MIB), 450 * MIB, cache=300 * MIB))
    assert memory(root, member(tmp_path, "0::/\n")) == Memory(500 * MIB, 350 * MIB)


def test_inside_a_container_our_group_is_the_root_whatever_it_is_called_outside(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "cgroup", group("", str(500 * MIB), 0))
    assert memory(root, member(tmp_path, "0::/../../kubepods/pod7\n")).total_bytes == 500 * MIB
    assert memory(root, member(tmp_path, "0::/kubepods/pod7\n")).total_bytes == 500 * MIB


def test_groups_of_version_1_limit_too(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": str(2**63 - 4096),
        "memory/docker/7/memory.limit_in_bytes": str(600 * MIB),
        "memory/docker/7/memory.usage_in_bytes": str(500 * MIB),
        "memory/docker/7/memory.stat": f"inactive_file 1\ntotal_inactive_file {100 * MIB}\ntotal_active_file {MIB}\n",
    }
    root = lay_out(tmp_path / "cgroup", files)
    membership = member(tmp_path, "9:cpu:/x\n4:hugetlb,memory:/docker/7\n0::/\n")
    assert memory(root, membership) == Memory(600 * MIB, 201 * MIB)


@pytest.mark.parametrize("limit", ["max", "", "much"])
def test_without_a_limit_it_is_the_machines_memory(tmp_path: Path, limit: str) -> None:
    root = lay_out(tmp_path / "cgroup", group("", limit, 0))
    assert memory(root, member(tmp_path, "0::/\n")).total_bytes == psutil.virtual_memory().total
    assert memory(tmp_path / "none", tmp_path / "nothing").total_bytes == psutil.virtual_memory().total
