"""Imports follow one arrow, and each special library stays where it belongs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(p for top in ("supervisor", "client") for p in (ROOT / top).rglob("*.py") if "examples" not in p.parts)

# daemon → control → {lifecycle, jobs} → {worker, store} → {bus, channel, clock, log} → wire → core
BELOW = {
    "core": set(),
    "wire": {"core"},
    "base": {"wire", "core"},
    "worker": {"base", "wire", "core"},
    "store": {"base", "wire", "core"},
    "lifecycle": {"worker", "store", "base", "wire", "core"},
    "jobs": {"worker", "store", "base", "wire", "core"},
    "control": {"lifecycle", "jobs", "worker", "store", "base", "wire", "core"},
    "daemon": {"control", "lifecycle", "jobs", "worker", "store", "base", "wire", "core", "sdk"},
    "sdk": {"wire", "core"},
    "client": {"base", "wire", "core"},
}
# Beside the arrow: the demo looks at its daemon through the socket, `pluginctl check` runs the daemon's own checks,
# `pluginctl doctor` reads the settings as the daemon does, `pluginctl cron` knows its rules for schedules, and nothing
# else of jobs.
ACROSS = {
    "supervisor/daemon/demo.py": "client",
    "client/cli/develop.py": "daemon",
    "client/cli/doctor_settings.py": "daemon",
    "client/cli/cron.py": "jobs",
}
# Modules right under supervisor/: bus, channel, clock, log and their like.
BASE = {path.stem for path in (ROOT / "supervisor").glob("*.py")} - {"__init__"}
THIRD_PARTY = {
    "core": set(),
    "wire": {"msgpack", "msgspec"},
    "sdk": {"trio"},
}
# Library -> where alone it may be imported: path prefixes.
HOMES = {
    "peewee": ("supervisor/store/",),
    "playhouse": ("supervisor/store/",),
    "croniter": ("supervisor/jobs/cron",),
    "msgspec": ("supervisor/wire/typed.py",),
    "prometheus_client": ("supervisor/daemon/metrics_",),
    "h11": ("supervisor/daemon/metrics_http.py",),
    "msgpack": ("supervisor/wire/codec.py", "supervisor/wire/framing.py", "supervisor/store/", "client/frames.py"),
}


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` imports, in functions and for type checking too; relative ones made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (prefix, node.module)))
            yield from (
                f"{module}.{alias.name}" if module in {"supervisor", "client"} else module for alias in node.names
            )


def layer_of(module: str) -> str | None:
    top, _, rest = module.partition(".")
    if top == "client":
        return "client"
    name = rest.partition(".")[0]
    return "base" if name in BASE else name or None


def layer(path: Path) -> str | None:
    return layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_follow_the_arrow(path: Path) -> None:
    here = layer(path)
    if here is None:
        assert list(imports(path)) == []  # supervisor/__init__.py imports nothing
        return
    assert here in BELOW, f"{name(path)} is in no layer that this test knows"
    for module in imports(path):
        if module.split(".")[0] in {"supervisor", "client"}:
            there = layer_of(module)
            allowed = {None, here, ACROSS.get(name(path)), *BELOW[here]}
            assert there in allowed, f"{name(path)} imports {module}"


def test_schedules_are_told_by_their_rules_alone() -> None:
    """What decides when a job is due needs neither trio nor the store, so that pluginctl may ask it."""
    rules = [path for path in MODULES if path.parent.name == "jobs" and path.name.startswith("cron")]
    for path in [*rules, ROOT / "client/cli/cron.py"]:
        above_core = {module for module in imports(path) if layer_of(module) in {"jobs", "worker", "store", "base"}}
        assert all(module.startswith("supervisor.jobs.cron") for module in above_core), name(path)


@pytest.mark.parametrize("path", [p for p in MODULES if layer(p) in THIRD_PARTY], ids=name)
def test_the_lower_layers_need_few_libraries(path: Path) -> None:
    ours = {"supervisor", *sys.stdlib_module_names, *THIRD_PARTY[str(layer(path))]}
    assert {module.split(".")[0] for module in imports(path)} <= ours


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_special_libraries_stay_at_home(path: Path) -> None:
    for module in imports(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or name(path).startswith(homes), f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", [p for p in MODULES if layer(p) in {"sdk", "client"}], ids=name)
def test_what_starts_often_does_not_import_trio(path: Path) -> None:
    if path.name.startswith("async_"):
        return  # For programs that run trio, and plugins with async handlers; they are loaded when they are asked for.
    modules = set(imports(path))
    assert not any(module.split(".")[0] == "trio" for module in modules)
    assert not modules & {"supervisor.channel", "supervisor.bus", "supervisor.log"}


@pytest.mark.parametrize("path", [p for p in MODULES if layer(p) in {"core", "wire"}], ids=name)
def test_values_and_messages_do_no_io(path: Path) -> None:
    doers = {"os", "socket", "subprocess", "threading", "asyncio", "time", "pathlib", "sqlite3", "select", "logging"}
    assert not {module.split(".")[0] for module in imports(path)} & doers


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name)
def test_packages_are_one_docstring_line(path: Path) -> None:
    if name(path) in {"client/__init__.py", "supervisor/sdk/__init__.py", "supervisor/__init__.py"}:
        return
    (statement,) = ast.parse(path.read_text()).body
    assert isinstance(statement, ast.Expr)
