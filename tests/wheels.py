"""Tiny wheels and sdists, made by code: to install and to fetch from where nothing is built or asked for."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

MANIFEST: Final = """
[plugin]
key = "{key}"
version = "{version}"
api_version = 1
display_name = "Tiny"
description = "A tiny plugin"
author = "Nobody"
categories = ["automation"]
capabilities = []

[worker]
command = ["python", "-m", "{package}"]
"""

# A PEP 517 backend that needs nothing: it lies in the tree that it builds.
BACKEND: Final = """
import base64, hashlib, os, sys, zipfile

NAME, VERSION, REQUIRES, FILES = {name!r}, {version!r}, {requires!r}, {files!r}

def _metadata():
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    return "\\n".join(lines + ["Requires-Dist: " + one for one in REQUIRES]) + "\\n"

def build_wheel(directory, config_settings=None, metadata_directory=None):
{before}
    info = NAME + "-" + VERSION + ".dist-info"
    files = dict(FILES)
    files[info + "/METADATA"] = _metadata()
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files[info + "/RECORD"] = "".join(name + ",,\\n" for name in [*files, info + "/RECORD"])
    name = NAME + "-" + VERSION + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return name

def build_editable(directory, config_settings=None, metadata_directory=None):
    FILES = {{NAME + ".pth": os.getcwd() + "\\n"}}
    globals()["FILES"] = FILES
    return build_wheel(directory)
"""


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
    requires_python: str | None = None,
    extras: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> Path:
    """`files`: path -> text (a package that prints its name, by default); `scripts`: name -> "module:function"."""
    contents = dict(
        {f"{name}/__init__.py": "", f"{name}/__main__.py": f"print('this is {name}')\n"} | dict(files or {})
    )
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {one}" for one in requires]
    metadata += [f"Provides-Extra: {one}" for one in extras]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    info = f"{name}-{version}.dist-info"
    contents[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tiny\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if scripts:
        lines = [f"{script} = {target}" for script, target in scripts.items()]
        contents[f"{info}/entry_points.txt"] = "\n".join(["[console_scripts]", *lines]) + "\n"
    record = "".join(f"{path},{_hash(text)},{len(text.encode())}\n" for path, text in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in contents.items():
            entry = zipfile.ZipInfo(inner)
            entry.external_attr = 0o100644 << 16
            wheel.writestr(entry, text)
    return path


def plugin_wheel(directory: Path, name: str, version: str = "1.0", **more: object) -> Path:
    """A wheel of a plugin: its manifest is in its package."""
    manifest = MANIFEST.format(key=name, version=version, package=name)
    return make_wheel(directory, name, version, files={f"{name}/plugin.toml": manifest}, **more)  # type: ignore[arg-type]


def write_project(
    root: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    before: str = "pass",
) -> Path:
    """A project that builds without any index; the statement `before` is executed when it does."""
    root.mkdir(exist_ok=True)
    contents = dict(
        {f"{name}/__init__.py": "", f"{name}/__main__.py": f"print('this is {name}')\n"} | dict(files or {})
    )
    backend = BACKEND.format(
        name=name, version=version, requires=list(requires), files=contents, before=f"    {before}"
    )
    (root / "b.py").write_text(backend)
    (root / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n')
    for path, text in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "plugin.toml").write_text(MANIFEST.format(key=name, version=version, package=name))
    (root / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return root


def make_sdist(directory: Path, project: Path, name: str, version: str = "1.0") -> Path:
    """Of what `write_project` has written."""
    path = directory / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(project.rglob("*")):
            if file.is_file():
                content = file.read_bytes()
                entry = tarfile.TarInfo(f"{name}-{version}/{file.relative_to(project)}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def sha256_of(path: Path) -> str:
    """As a hash of a source."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
