"""Fetch what a source names into staging: a requirement's file from the index, or a copy of a file that is there."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

from supervisor.core.errors import InvalidParams
from supervisor.lifecycle.archives import copy_archive
from supervisor.lifecycle.copying import PackageLimits
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.pip_command import EnvironmentTools, find_links, pip_download
from supervisor.lifecycle.said import Said
from supervisor.lifecycle.scratch import Scratch, scratch_beside
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.threads import Meter, Threads, check_cancelled


async def fetch(source: Source, into: Path, tools: EnvironmentTools, operation: Operation) -> Path:
    """The wheel or archive that `source` names, as a file of ours in the directory `into`. Not for directories.

    Within a phase of the operation, which bounds and cancels it. If it raises, `into` holds nothing new.

    Raises:
        InvalidParams: there is no such package, or its hash is another one; details: got.
        PackageRefused: a file that others could change.
        FailedPrecondition: it is not for this Python. Unavailable: the index cannot be reached.
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
    said = Said()
    argv = [*pip_download(await scratch.pip(), scratch.tools, place), *find_links(source), "-r", str(wanted)]
    ended = await scratch.run(*argv, said=said)
    files = sorted(os.listdir(place))
    if ended.code != 0 or len(files) != 1:
        raise said.failure(f"cannot fetch {source.text}", platform.python_version(), lambda: str(ended))
    return place / files[0]


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
