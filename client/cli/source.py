"""SOURCE: which words name a place on this machine, and which a requirement; and the options that go with it."""

from __future__ import annotations

import os
import re
from typing import Any

from client.cli.command import Argument, Options

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".whl")
_DIRECT = re.compile(r"[A-Za-z0-9._-]+\s*(\[[^]]*\])?\s*@")
"""`name @ where`, as a requirement may be written."""

SOURCE_HELP = (
    "a directory, an archive (.tar.gz, .zip), a wheel or an sdist; or a requirement such as 'acme-weather>=1.2'. "
    "./NAME is always a path"
)
FETCHING = (
    Argument("--index-url", metavar="URL", help="fetch from this package index"),
    Argument(
        "--find-links",
        action="append",
        default=[],
        metavar="DIR",
        help="look for packages in this directory or page too; may be given more than once",
    ),
    Argument(
        "--hash",
        dest="hashes",
        action="append",
        default=[],
        metavar="sha256:HEX",
        help="take only a file with this hash; may be given more than once",
    ),
    Argument("-v", "--verbose", action="store_true", help="say on stderr what is being done, with pip's own lines"),
)


def source_for_daemon(text: str) -> str:
    """A path made absolute, since the daemon's working directory is another; a requirement as it is."""
    return os.path.abspath(text) if _is_path(text) else text


def fetching(options: Options) -> dict[str, Any]:
    """What the options say about fetching, as the client takes it."""
    links = [os.path.abspath(link) if _is_path(link) else link for link in options.find_links]
    return {"index_url": options.index_url, "find_links": links, "hashes": options.hashes}


def _is_path(text: str) -> bool:
    if not text or "://" in text or _DIRECT.match(text):
        return False
    return "/" in text or text.startswith(".") or text.endswith(_ARCHIVES) or os.path.lexists(text)
