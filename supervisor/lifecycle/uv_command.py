"""uv in pip's place: called so that it asks the same indexes as pip would, or not at all. Pure."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.lifecycle.sources import mask_credentials

UV_PASSED: Final = (
    *("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_OFFLINE", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
    *("UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_BUILDS", "UV_CONCURRENT_INSTALLS"),
)
"""Variables of uv that children inherit. What it has of its own about indexes is left out: pip's holds for both."""

_FLAGS: Final = (
    *("--no-config", "--no-sources", "--no-progress", "--color=never", "--no-python-downloads", "--link-mode=copy"),
    # All indexes are equal, and the best version wins, as with pip.
    "--index-strategy=unsafe-best-match",
)
_SECTIONS: Final = ("global", "install", ":env:")
"""Of pip's configuration, as far as they are about `pip install`; what comes later wins."""
_NO_MATTER: Final = frozenset(
    {
        *("timeout", "default-timeout", "retries", "disable-pip-version-check", "no-input", "progress-bar", "no-color"),
        *("cache-dir", "no-cache-dir", "no-cache", "quiet", "verbose", "user", "require-virtualenv", "compile"),
        *("break-system-packages", "root-user-action", "no-warn-script-location", "no-python-version-warning"),
        *("no-compile", "log", "exists-action", "config-file"),
    }
)
_TRUE: Final = frozenset({"y", "yes", "t", "true", "on", "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UvIndexes:
    """Where pip would look, in uv's words; `environ` may hold credentials."""

    environ: Mapping[str, str]
    flags: tuple[str, ...] = ()


def read_pip_configuration(listing: str) -> UvIndexes | None:
    """From the lines of `pip config list`; None if something in there is beyond us, and pip itself has to be used."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        section, dot, key = name.rpartition(".")
        if not equals or not dot:
            return None
        if section in found:
            try:
                found[section][key.lower().replace("_", "-")] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                return None
    return _indexes({key: value for section in _SECTIONS for key, value in found[section].items() if value})


def uv_install(uv: str, python: Path, indexes: UvIndexes) -> list[str]:
    """The beginning of a command; `indexes.environ` belongs into its environment."""
    return [uv, "pip", "install", *_FLAGS, *indexes.flags, "--python", str(python)]


def _indexes(values: dict[str, str]) -> UvIndexes | None:
    links = values.pop("find-links", "").split()
    no_index = values.pop("no-index", "").lower() in _TRUE
    environ = {
        variable: " ".join(values[key].split())
        for key, variable in (
            ("index-url", "UV_DEFAULT_INDEX"),
            ("extra-index-url", "UV_INDEX"),
            ("cert", "SSL_CERT_FILE"),
        )
        if values.get(key)
    }
    rest = values.keys() - {"index-url", "extra-index-url", "cert"} - _NO_MATTER
    if rest or any(mask_credentials(link) != link for link in links):
        return None  # An argument with a password could be read by every user of the machine.
    flags = [f"--find-links={link}" for link in links]
    return UvIndexes(environ=environ, flags=(*flags, "--no-index") if no_index else tuple(flags))
