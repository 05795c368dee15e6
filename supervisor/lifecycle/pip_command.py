"""EnvironmentTools: what makes virtual environments here, pip or uv, and how each is called."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import shutil
import site
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from supervisor.lifecycle.children import Children
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.uv_command import UV_PASSED
from supervisor.worker.launch import DEFAULT_PATH, STATE_ID_VARIABLE

_PASSED: Final = frozenset(
    {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "NETRC", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *(name for proxy in ("http", "https", "all", "no") for name in (f"{proxy}_proxy", f"{proxy}_proxy".upper())),
        *UV_PASSED,
    }
)
# What would make pip install elsewhere, or something else.
_NOT_PASSED: Final = frozenset(
    f"PIP_{name}"
    for name in (
        *("TARGET", "PREFIX", "ROOT", "USER", "PYTHON", "EDITABLE", "REQUIREMENT", "DRY_RUN", "REPORT", "NO_DEPS"),
        *("DEST", "DESTINATION_DIRECTORY", "COMPILE", "SRC", "REQUIRE_VIRTUALENV", "PROGRESS_BAR"),
    )
)
_FIXED: Final = {
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
    # Over what pip's configuration may say: the environment is ours, and pip may run outside of it.
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
}
_RAW_PROGRESS_SINCE: Final = (24, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentTools:
    """Found once, when the daemon starts; see `find_tools`."""

    python: str
    """The interpreter that environments are made with: the daemon's own."""
    pip: tuple[str, ...] | None
    """How pip is called; None: this interpreter has none, and one is made for each operation (`ensurepip`)."""
    uv: str | None
    """The absolute path of uv, where there is one."""
    index_url: str | None
    """The package index to ask; None: the one that pip is configured with."""
    environ: Mapping[str, str]
    """What children inherit, of the daemon's environment."""
    home: str
    """Of the daemon's user: where pip's configuration is. Children get a home of their own."""
    children: Children = field(repr=False)

    def asking(self, source: Source) -> EnvironmentTools:
        """The same with the index that `source` names, if it names one."""
        return replace(self, index_url=source.index_url) if source.index_url else self


def find_tools(
    environ: Mapping[str, str],
    index_url: str | None = None,
    *,
    state_id: str | None = None,
    children: Children | None = None,
    python: str = sys.executable,
) -> EnvironmentTools:
    """Look around; quick, and starts nothing.

    `environ` is the daemon's environment, of which an allow-list is passed on: PATH, the language, proxies,
    certificates, and pip's and uv's own variables. `state_id` marks the children, for a later daemon to find.
    """
    home = environ.get("HOME") or _home()
    found = {name: value for name, value in environ.items() if _is_passed(name)}
    found.setdefault("XDG_CONFIG_HOME", f"{home}/.config")
    if "NETRC" not in found and os.path.isfile(f"{home}/.netrc"):
        found["NETRC"] = f"{home}/.netrc"
    mark = {STATE_ID_VARIABLE: state_id} if state_id else {}
    return EnvironmentTools(
        python=python,
        pip=(python, "-I", "-B", "-m", "pip") if _has_pip() else None,
        uv=shutil.which("uv", path=environ.get("PATH", DEFAULT_PATH)),
        index_url=index_url or None,
        environ={"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", **found, **_FIXED, **mark},
        home=home,
        children=children or Children(),
    )


def pip_install(pip: Sequence[str], python: Path, tools: EnvironmentTools) -> list[str]:
    """The beginning of a command that installs into the environment of `python`; what to install comes behind it."""
    flags = ("--no-compile", "--no-warn-script-location")
    return [*pip, "--python", str(python), "install", *_COMMON, *flags, "--progress-bar", _progress(tools)]


def pip_download(pip: Sequence[str], tools: EnvironmentTools, target: Path) -> list[str]:
    """As `pip_install`, for the wheel of one package without its dependencies. Never an sdist: pip runs its code to
    learn its name and version."""
    flags = ("--no-deps", "--only-binary", ":all:")
    return [*pip, "download", *_COMMON, *flags, "--progress-bar", _progress(tools), "--dest", str(target)]


def find_links(source: Source) -> list[str]:
    """`--find-links=…` as pip and uv both understand it; one argument, so that nothing in it can be an option."""
    return [f"--find-links={link}" for link in source.find_links]


def raw_progress(line: str) -> tuple[int, int] | None:
    """Bytes done and in total, if this is a line of `--progress-bar raw`."""
    words = line.split()
    if len(words) == 4 and words[0] == "Progress" and words[2] == "of" and words[1].isdigit() and words[3].isdigit():
        return int(words[1]), int(words[3])
    return None


_COMMON: Final = ("--no-input", "--disable-pip-version-check")


def _progress(tools: EnvironmentTools) -> str:
    """In plain numbers where pip can tell it so; of one that is made for the occasion the version is not known."""
    return "raw" if tools.pip and _pip_version() >= _RAW_PROGRESS_SINCE else "off"


def _is_passed(name: str) -> bool:
    return name in _PASSED or (name.startswith("PIP_") and name not in _NOT_PASSED)


def _has_pip() -> bool:
    """Where it is found without the user's own packages: with them switched off it runs."""
    path = [entry for entry in sys.path if entry != site.getusersitepackages()]
    return PathFinder.find_spec("pip", path) is not None


def _pip_version() -> tuple[int, ...]:
    numbers = importlib.metadata.version("pip").split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"
