"""The house's order, as the design draws it: a room may use the rooms above it, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral

# From docs/design/architecture.md, top to bottom. Rooms on one line stand side by side and do not use each other.
ORDER = [
    {"errors"},
    {"names", "durations", "logs", "children"},
    {"config", "grammar", "parsing", "parameters"},
    {"gguf", "modelfile", "media"},
    {"convert", "templates"},
    {"store"},
    {"registry"},
    {"tiny"},
    {"library"},
    {"hardware"},
    {"engine"},
    {"runtime"},
    {"dialects"},
    {"server", "client"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
SOURCE = Path(corral.__file__).parent


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "corral")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the order"
            module = node.module or ""
            if module == "corral":
                yield from (f"corral.{alias.name}" for alias in node.names if alias.name in LEVEL)
            elif module.startswith("corral."):
                yield module


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or not path.stem.startswith("__")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    here = room_of(path)
    assert here in LEVEL, f"{here} has no place in the order: add it to the design"
    for module in imports(path):
        there = module.split(".")[1] if "." in module else "errors"
        if there != here:
            assert LEVEL[there] < LEVEL[here], f"{path.name} imports {module}, which is not above {here}"


def test_every_room_of_the_order_exists_and_is_used() -> None:
    assert {room_of(path) for path in FILES} == set(LEVEL)


def test_dialects_do_not_use_each_other() -> None:
    for path in (SOURCE / "dialects").rglob("*.py"):
        mine = path.relative_to(SOURCE / "dialects").with_suffix("").parts[0]
        for module in imports(path):
            parts = module.split(".")
            if parts[1] == "dialects" and len(parts) > 2:
                assert parts[2] in (mine, "gojson", "gojson_errors", "refusals", "media", "wire"), (
                    f"{path.name} imports {module}"
                )


def test_only_workers_import_native_code() -> None:
    users = {p for p in FILES if any("xllamacpp" in line for line in p.read_text().splitlines() if "import " in line)}
    assert users == {
        SOURCE / "engine" / "probe.py",
        SOURCE / "engine" / "worker.py",
        SOURCE / "gguf" / "kernels.py",
    }


def test_nobody_imports_a_worker() -> None:
    workers = {"corral.engine.probe", "corral.engine.worker", "corral.gguf.worker", "corral.convert.worker"}
    importers = {path: set(imports(path)) for path in FILES}
    assert not [path for path, modules in importers.items() if modules & workers]
    assert [path for path, modules in importers.items() if "corral.gguf.kernels" in modules] == [
        SOURCE / "gguf" / "worker.py"
    ]


def test_only_the_child_that_converts_imports_numpy_and_gguf() -> None:
    """What the server imports of that room must be light."""
    for path in FILES:
        heavy = {name for name in outside(path) if name in ("numpy", "gguf")}
        is_child = room_of(path) == "convert" and path.name not in ("__init__.py", "start.py")
        assert not heavy or is_child or path.parent.parent.name == "convert", f"{path} imports {heavy}"


def outside(path: Path) -> Iterator[str]:
    """The packages of others that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
