"""StoredJobs: a plugin's jobs as one JSON text, which is what is kept of them, on disk and in memory. Pure.

A daemon may hold a hundred thousand jobs, and almost nobody reads a manifest's: the scheduler has rows of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Final, overload

from supervisor.core.errors import FailedPrecondition
from supervisor.core.manifest import JobSpec

_DEFAULTS: Final = {each.name: None if each.default is MISSING else each.default for each in fields(JobSpec)}
# ASCII: a single character beyond it would make each of the others take two or four bytes.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def spec_to_table(spec: JobSpec) -> dict[str, Any]:
    """The stored form of a job: what differs from the defaults. `spec_from_table` reads it back."""
    given = ((name, getattr(spec, name)) for name in _DEFAULTS)
    return {name: value for name, value in given if value != _DEFAULTS[name]}


def spec_from_table(table: Mapping[str, Any]) -> JobSpec:
    """A job out of our own database; what a later version stored beside the fields we know is left out.

    Raises:
        TypeError: it has no key or name.
    """
    known = table if table.keys() <= _DEFAULTS.keys() else {n: v for n, v in table.items() if n in _DEFAULTS}
    if "command" in known:
        known = {**known, "command": tuple(known["command"])}
    return JobSpec(**known)


class StoredJobs(Sequence[JobSpec]):
    """Immutable, and like a tuple of the same jobs. Each look at them reads the text again and keeps nothing.

    Raises, whenever they are looked at:
        FailedPrecondition: the text is damaged. It is not read before, so that a start costs little.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text
        """A JSON list of what `spec_to_table` gives."""

    @classmethod
    def of(cls, jobs: Iterable[JobSpec]) -> StoredJobs:
        return jobs if isinstance(jobs, cls) else cls(_encode([spec_to_table(job) for job in jobs]))

    def looks_whole(self) -> bool:
        """Whether the text begins and ends as it should: a look that costs nothing."""
        return self.text == "[]" or (self.text.startswith("[{") and self.text.endswith("}]"))

    def read(self) -> tuple[JobSpec, ...]:
        """All of them."""
        try:
            return tuple(map(spec_from_table, json.loads(self.text)))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            message = f"the stored jobs of the plugin cannot be read: {error}; uninstall it and install it again"
            raise FailedPrecondition(f"{message}, its data is kept") from error

    def __len__(self) -> int:
        return len(self.read())

    def __bool__(self) -> bool:
        return self.text != "[]"

    def __iter__(self) -> Iterator[JobSpec]:
        return iter(self.read())

    @overload
    def __getitem__(self, index: int) -> JobSpec: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[JobSpec, ...]: ...
    def __getitem__(self, index: int | slice) -> JobSpec | tuple[JobSpec, ...]:
        return self.read()[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredJobs) and self.text == other.text:
            return True
        if not isinstance(other, StoredJobs | tuple):
            return NotImplemented
        try:
            return self.read() == (other.read() if isinstance(other, StoredJobs) else other)
        except FailedPrecondition:
            return False  # so that a sound manifest can take the place of a damaged one

    def __hash__(self) -> int:
        return hash(self.read())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"
