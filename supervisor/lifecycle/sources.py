"""Source: what an operator named to install from, read and checked before anything is done with it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from supervisor.core.errors import FailedPrecondition, InvalidParams
from supervisor.core.package import Version

ARCHIVE_SUFFIXES: Final = (".tar.gz", ".tgz", ".tar", ".zip")
_MOST_CHARS: Final = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""With all at which a program may end a line, and read on as if it were the next."""
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_NO_PORT = re.compile(r"(?<=://)[^/\s@:]*:(?!\d*(?:[/\s]|$))")
"""What stands before a colon and no number: a user, whose password has a / that should be %2F."""
_WORD = re.compile(r"\S+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}")


class SourceKind(StrEnum):
    DIRECTORY = "directory"
    ARCHIVE = "archive"
    """A tar or zip file, such as an sdist."""
    WHEEL = "wheel"
    REQUIREMENT = "requirement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`path` is absolute, and None for a requirement; `requirement` is one as PEP 508 writes it, else None."""

    text: str
    """As the operator wrote it; it holds no credentials."""
    kind: SourceKind
    path: Path | None
    requirement: str | None
    editable: bool = False
    index_url: str | None = None
    """The package index to ask; None: the daemon's own. It may hold credentials: never show it unmasked."""
    find_links: tuple[str, ...] = ()
    """Directories (absolute) and pages to look for packages in, beside the index."""
    hashes: tuple[str, ...] = ()
    """`sha256:<64 hex digits>`, lower case; what is fetched must have one of them. Empty: whatever comes."""


def read_source(
    text: str,
    *,
    editable: bool = False,
    index_url: str | None = None,
    find_links: Sequence[str] = (),
    hashes: Sequence[str] = (),
) -> Source:
    """What `text` names: a path if it begins with "/", else a requirement such as `acme-weather>=1.2`. Blocking.

    Raises:
        InvalidParams: it names nothing that can be installed, or does not go with the rest; with the way out.
    """
    _refuse_odd_text("the source", text)
    kind, path, requirement = _read_path(text) if text.startswith("/") else _read_requirement(text)
    if editable and kind is not SourceKind.DIRECTORY:
        raise InvalidParams(f"{text!r} is no directory: only a directory can be run in place (editable)", source=text)
    if hashes and kind is SourceKind.DIRECTORY:
        raise InvalidParams(
            f"{text} is a directory, which has no hash: leave the hashes out, or name an archive", source=text
        )
    return Source(
        text=text,
        kind=kind,
        path=path,
        requirement=requirement,
        editable=editable,
        index_url=_checked_index(index_url),
        find_links=tuple(_checked_link(link) for link in find_links),
        hashes=tuple(_checked_hash(digest) for digest in hashes),
    )


def own_source(
    version: Version, *, index_url: str | None = None, find_links: Sequence[str] = (), hashes: Sequence[str] = ()
) -> Source:
    """Where a version came from, as it was named then; what is named now goes before that. Blocking.

    Raises:
        FailedPrecondition: it is not known, or what was named then is not kept. InvalidParams: as `read_source`.
    """
    key = version.manifest.key
    if version.editable is not None:
        raise FailedPrecondition(
            f"plugin {key!r} runs in place: a change of its files restarts it; name another source"
        )
    if not version.source:
        raise FailedPrecondition(f"where plugin {key!r} came from is not known: name a source")
    then = version.index_url
    if index_url is None and then is not None and "://***@" in then:
        raise FailedPrecondition(
            f"plugin {key!r} came from the index {then}, and no password is kept: name the index again (index_url)",
            plugin=key,
            index_url=then,
        )
    return read_source(
        version.source, index_url=index_url or then, find_links=find_links or version.find_links, hashes=hashes
    )


def mask_credentials(text: str) -> str:
    """`text` with ***@ for the user and password of each URL in it. Takes time in proportion to its length."""
    if "://" not in text:
        return text
    return _WORD.sub(_mask_odd_password, _CREDENTIALS.sub("***@", text))


def index_url_problem(url: str) -> str | None:
    """Why this cannot be the address of a package index; never repeats the address, which may hold a password."""
    if _CONTROL.search(url) or re.search(r"\s", url):
        return "holds spaces or control characters"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is no address: write https://…, http://… or file:///…; in a user or password %2F for / and %40 for @"
    if parts.scheme in {"http", "https"} and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "has an @ behind the host's name: write %40 for it, and in a user or password %2F for /"
    fine = bool(parts.hostname) if parts.scheme in {"http", "https"} else url.startswith("file:///")
    return None if fine else "must begin with https://, http:// or file:///, and name a place"


def _mask_odd_password(word: re.Match[str]) -> str:
    found, end = _NO_PORT.search(word[0]), word[0].rfind("@")
    return f"{word[0][: found.start()]}***{word[0][end:]}" if found and end > found.start() else word[0]


def _refuse_odd_text(what: str, text: str) -> None:
    shown = mask_credentials(text)
    if not text.strip():
        raise InvalidParams(f"{what} is empty: name a path, or a requirement such as 'acme-weather>=1.2'")
    if found := _CONTROL.search(text):
        raise InvalidParams(f"{what} holds a control character ({found[0]!r}): name exactly one path or requirement")
    if len(text) > _MOST_CHARS:
        raise InvalidParams(f"{what} is longer than {_MOST_CHARS} characters: {shown[:80]}…")


def _read_path(text: str) -> tuple[SourceKind, Path, None]:
    path = Path(os.path.normpath(text))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InvalidParams(f"there is no file or directory {path} that this daemon can see", source=text) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        uid = os.geteuid()
        raise InvalidParams(f"{path} cannot be looked at by this daemon (uid {uid}): {why}", source=text) from error
    if stat.S_ISDIR(mode):
        return SourceKind.DIRECTORY, path, None
    if not stat.S_ISREG(mode):
        raise InvalidParams(f"{path} is neither a file nor a directory: a plugin is one of both", source=text)
    name = path.name.lower()
    if name.endswith(".whl"):
        return SourceKind.WHEEL, path, None
    if name.endswith(ARCHIVE_SUFFIXES):
        return SourceKind.ARCHIVE, path, None
    hint = f"name its directory, {path.parent}" if name == "plugin.toml" else "name such a file, or a directory"
    raise InvalidParams(f"{path} is no .whl, {', '.join(ARCHIVE_SUFFIXES)} file: {hint}", source=text)


def _read_requirement(text: str) -> tuple[SourceKind, None, str]:
    from packaging.requirements import InvalidRequirement, Requirement

    shown = mask_credentials(text)

    def refuse(why: str) -> InvalidParams:
        return InvalidParams(f"{shown!r} {why}", source=shown)

    if text.lstrip().startswith("-"):
        raise refuse("looks like an option, and options are no source: name a path or one requirement")
    if text.startswith((".", "~")):
        raise refuse("is no absolute path: begin it with '/'")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        if _URL.match(text):
            raise refuse("is a URL, and plugins are not fetched from URLs: download it, and name the file") from error
        why = mask_credentials(str(error).splitlines()[0])
        raise refuse(
            f"is neither a path (which begins with '/') nor one requirement such as 'acme-weather>=1.2': {why}"
        ) from error
    if requirement.url is not None:
        raise refuse("names a URL or a file behind '@': name the file's own path, or leave '@ …' out")
    if requirement.marker is not None and not requirement.marker.evaluate():
        raise refuse("does not apply here, as its marker (behind ';') does not hold for this Python and this system")
    return SourceKind.REQUIREMENT, None, str(requirement)


def _checked_index(url: str | None) -> str | None:
    if url is not None and (problem := index_url_problem(url)):
        raise InvalidParams(f"the index {_without_all_before_at(url)[:200]!r} {problem}")
    return url


def _without_all_before_at(url: str) -> str:
    """Of one URL, whatever is wrong with it: all before its last @ may be a password."""
    return re.sub(r".*@", "***@", url, flags=re.DOTALL)


def _checked_link(link: str) -> str:
    _refuse_odd_text("a find-links place", link)
    shown = mask_credentials(link)
    if link.startswith("/"):
        if not Path(link).exists():
            raise InvalidParams(f"there is nothing at {link} (find-links) that this daemon can see")
        return link
    if shown != link:
        raise InvalidParams(
            f"the find-links place {shown!r} holds credentials, which other users of this machine would see: "
            "put it into pip's configuration, or the credentials into ~/.netrc"
        )
    if problem := index_url_problem(link):
        shown = _without_all_before_at(link)
        raise InvalidParams(f"the find-links place {shown!r} is no absolute path, and as an address it {problem}")
    if link.startswith("file:") and not Path(unquote(urlsplit(link).path)).exists():
        raise InvalidParams(f"there is nothing at {link} (find-links) that this daemon can see")
    return link


def _checked_hash(digest: str) -> str:
    if not _HASH.fullmatch(digest):
        raise InvalidParams(f"{digest[:100]!r} is no hash as wanted here: sha256: and 64 hex digits")
    return digest.lower()
