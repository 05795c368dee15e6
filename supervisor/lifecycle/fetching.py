"""Fetch what a source names into staging: a requirement's wheel from the index, or a copy of a file that is there."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidSdistFilename, parse_sdist_filename

from supervisor.core.errors import FailedPrecondition, InvalidParams
from supervisor.lifecycle.archives import copy_archive
from supervisor.lifecycle.copying import PackageLimits
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.pip_command import EnvironmentTools, find_links, pip_download
from supervisor.lifecycle.said import Said
from supervisor.lifecycle.scratch import Scratch, scratch_beside
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.threads import Meter, Threads, check_cancelled

_LEFT_OUT: Final = re.compile(r"No sources permitted for \S+: (\S+)")
"""What pip says, asked to say much, of each sdist that it leaves out."""


async def fetch(source: Source, into: Path, tools: EnvironmentTools, operation: Operation) -> Path:
    """The wheel or archive that `source` names, as a file of ours in the directory `into`. Not for directories.

    Within a phase of the operation, which bounds and cancels it. If it raises, `into` holds nothing new.

    Raises:
        InvalidParams: there is no such package, or its hash is another one; details: got.
        PackageRefused: a file that others could change.
        FailedPrecondition: it is not for this Python, or there are only sdists of it. Unavailable: the index cannot be
            reached.
        ResourceExhausted: too large, or no space is left.
    """
    async with scratch_beside(into, tools.asking(source), operation) as scratch:
        place = scratch.path / "fetched"
        place.mkdir(0o700)
        if source.path is not None:
            fetched = await _copy(source.path, place, operation)
        else:
            fetched = await _download(source, place, scratch)
        await Threads(1).run(lambda: _refuse_other_hash(fetched, source.hashes))
        return fetched.rename(into / fetched.name)


async def _copy(source: Path, place: Path, operation: Operation) -> Path:
    report = Meter(operation).report
    return await Threads(1).run(lambda: copy_archive(source, place, PackageLimits(), check_cancelled, report))


async def _download(source: Source, place: Path, scratch: Scratch) -> Path:
    # A file of requirements, since only there pip takes hashes and looks among several files for the right one.
    wanted = scratch.path / "wanted.txt"
    pinned = _is_pinned(Requirement(source.requirement or source.text))
    hashes = [f"--hash={digest}" for digest in source.hashes] if pinned else []
    wanted.write_text(" ".join([source.requirement or source.text, *hashes]) + "\n", "utf-8")
    said = Said(scratch.tools.index_url)
    argv = [*pip_download(await scratch.pip(), scratch.tools, place), *find_links(source), "-r", str(wanted)]
    ended = await scratch.run(*argv, said=said)
    files = sorted(os.listdir(place))
    if ended.code != 0 or len(files) != 1:
        if said.not_found and (sdists := await _sdists(argv, scratch, source)):
            raise _only_sdists(source, sdists)
        raise said.failure(f"cannot fetch {source.text}", platform.python_version(), lambda: str(ended))
    return place / files[0]


async def _sdists(argv: Sequence[str], scratch: Scratch, source: Source) -> list[str]:
    """The sdists that would have done, the oldest first."""
    found, wanted = {}, Requirement(source.requirement or source.text)

    def look(line: str) -> None:
        if left_out := _LEFT_OUT.search(line):
            name = unquote(urlsplit(left_out[1]).path).rpartition("/")[2]
            try:
                _, version = parse_sdist_filename(name)
            except InvalidSdistFilename:
                return
            if wanted.specifier.contains(version, prereleases=True):
                found[version] = name

    # Not through `Scratch.run`: that is hundreds of lines, which nobody asked for.
    await scratch.tools.children.run([*argv, "-vv"], env=scratch.environ, cwd=scratch.path, on_line=look)
    return [name for _, name in sorted(found.items())]


def _only_sdists(source: Source, sdists: Sequence[str]) -> FailedPrecondition:
    return FailedPrecondition(
        f"of {source.text} there is no wheel that fits, only sdists ({sdists[-1]}); pip would run an sdist's code to "
        "fetch it, before anybody has seen what the plugin is: download the file yourself, and install it by its path",
        sdists=list(sdists),
    )


def _is_pinned(requirement: Requirement) -> bool:
    """Whether pip would take hashes for it: it must name exactly one version."""
    specifiers = list(requirement.specifier)
    return len(specifiers) == 1 and specifiers[0].operator in {"==", "==="} and "*" not in specifiers[0].version


def _refuse_other_hash(path: Path, hashes: Sequence[str]) -> None:
    if not hashes:
        return
    with path.open("rb") as file:
        got = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if got not in hashes:
        raise InvalidParams(
            f"the hash of {path.name} is {got}, and not {' or '.join(hashes)}: it is not what you asked for; "
            "nothing was installed",
            got=got,
        )
