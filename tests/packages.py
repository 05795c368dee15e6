"""Packages as the store of plugins takes them, without any files."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.manifest import Manifest
from supervisor.core.package import Package
from supervisor.lifecycle.sources import Source, SourceKind


async def welcome(_manifest: Manifest) -> None:
    """The look of whoever takes any plugin."""


def a_package(manifest: Manifest, package_dir: str) -> Package:
    return Package(dir=package_dir, manifest=manifest, digest="0" * 64, files=(), source=f"/src/{manifest.key}")


def directory_source(path: Path) -> Source:
    """A plain directory, whether or not it is there."""
    return Source(text=str(path), kind=SourceKind.DIRECTORY, path=path, requirement=None)
