"""The examples and the misbehaving plugins of the tests have manifests without fault."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.core.manifest import Checks, parse_manifest

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted([*ROOT.glob("supervisor/daemon/examples/*/plugin.toml"), *ROOT.glob("tests/plugins/*/plugin.toml")])
PASS = Checks(
    version=lambda _: None,
    supervisor_version=lambda _: None,
    schema=lambda _: (),
    schedule=lambda _job, _key: None,
)


def test_they_are_found() -> None:
    assert len(MANIFESTS) >= 20


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.parent.name)
def test_a_manifest(path: Path) -> None:
    manifest = parse_manifest(tomllib.loads(path.read_text()), PASS)
    program = manifest.worker.command[-1]
    assert (path.parent / program).exists() or path.parent.name == "missing_program"
