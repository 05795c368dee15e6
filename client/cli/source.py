"""SOURCE: which words name a place on this machine, and which a requirement; and the options that go with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from client.cli.command import Argument, Options
from client.cli.output import Context
from client.cli.render import escaped
from client.errors import InvalidParams, NotFound

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".whl")
_DIRECT = re.compile(r"[A-Za-z0-9._-]+\s*(\[[^]]*\])?\s*@")
"""`name @ where`, as a requirement may be written."""
_WORD = re.compile(r"[A-Za-z0-9._-]+")
"""The name of a distribution without anything that says so; just as well a path that was mistyped."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")

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


def source_for_daemon(text: str, *, editable: bool = False) -> str:
    """A path made absolute, since the daemon's working directory is another; a requirement as it is. What is to run in
    place is a path."""
    return os.path.abspath(text) if _is_path(text) or (editable and _WORD.fullmatch(text)) else text


def ask_about_word(context: Context, text: str, how: dict[str, Any], *, yes: bool) -> None:
    """A bare word that is no file is a stranger's package as easily as one's own: ask before it is fetched.

    Raises:
        Declined: the answer was no.
        UsageError: there is nobody to ask.
    """
    if _is_path(text) or not _WORD.fullmatch(text) or any(how.values()):
        return
    index = _index(context, how)
    context.note(
        f"there is no file or directory ./{text}; fetching the distribution {text!r} from {escaped(index)}; "
        f"a version, as in '{text}>=1', or --index-url says without a question that this is meant"
    )
    question = f"Fetch the distribution {text!r} from {escaped(index)}?"
    context.confirm(question, yes=yes, about={"source": text, "index": index})


@contextmanager
def looked_for(source: str) -> Iterator[None]:
    """Around what asks plugind for it: what is refused as it is not there is told as what is not found.

    Raises:
        NotFound: there is nothing at this path.
    """
    try:
        yield
    except InvalidParams as error:
        # Asked afterwards: plugind may see another part of the file system than we do.
        if "source" in error.details and source.startswith("/") and not os.path.lexists(source):
            raise NotFound(error.message, **{**error.details, "source": source}) from None
        raise


def came_from(context: Context, source: str, how: dict[str, Any]) -> str:
    """Where `source` is taken from: a path is that itself, a requirement comes from an index."""
    return escaped(source if source.startswith("/") else f"{source} of {_index(context, how)}")


def _index(context: Context, how: dict[str, Any]) -> str:
    own = how["index_url"] or context.client.daemon.settings().get("index_url")
    places = [own or "the index that pip is configured with", *how["find_links"]]
    return " and ".join(_CREDENTIALS.sub("***@", place) for place in places)


def fetching(options: Options) -> dict[str, Any]:
    """What the options say about fetching, as the client takes it."""
    links = [link if _ADDRESS.match(link) else os.path.abspath(link) for link in options.find_links]
    return {"index_url": options.index_url, "find_links": links, "hashes": options.hashes}


def _is_path(text: str) -> bool:
    if not text or "://" in text or _DIRECT.match(text):
        return False
    return "/" in text or text.startswith(".") or text.endswith(_ARCHIVES) or os.path.lexists(text)
