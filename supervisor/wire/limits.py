"""Sizes, depth and numbers in flight: what one end of a connection accepts. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

KIB: Final = 1024
MIB: Final = 1024 * KIB


class Limits(NamedTuple):
    """What we take from the peer (`in`) and what we send it (`out`)."""

    max_frame_in_bytes: int
    max_frame_out_bytes: int
    max_depth: int = 16
    """Levels of arrays and maps inside a value; a scalar has depth 0."""
    max_requests_in: int = 64
    """Requests of the peer that may be unanswered at once; one more is refused with RESOURCE_EXHAUSTED."""
    max_request_bytes_in: int = 8 * MIB
    """Bytes that the peer's unanswered requests may have: past it nothing more is read until some are answered."""
    max_requests_out: int = 64
    partial_frame_s: float = 10.0
    """How long a frame may stay unfinished."""


SERVER: Final = Limits(
    max_frame_in_bytes=1 * MIB,
    max_frame_out_bytes=4 * MIB,
    # As many as may be asked at once: a client that hangs up is to be noticed, so it is always read.
    max_request_bytes_in=64 * MIB,
    max_requests_out=16,
)
CLIENT: Final = Limits(max_frame_in_bytes=4 * MIB, max_frame_out_bytes=1 * MIB, max_requests_in=16)
CALLS_PER_WORKER: Final = 64
WORKER: Final = Limits(
    max_frame_in_bytes=4 * MIB,
    max_frame_out_bytes=4 * MIB,
    max_requests_in=CALLS_PER_WORKER + 8,
    max_requests_out=CALLS_PER_WORKER + 8,
)
"""Both ends of a worker's connection. State values may be 1 MiB and come in a map; beside the calls there is room for
the daemon's own requests, such as health, so that a busy worker is not taken for a deaf one."""
