"""The C library's heap: what large frames took goes back to the system as soon as it is free."""

from __future__ import annotations

import ctypes
from typing import Final

from supervisor.log import get_logger

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 256 * 1024


def return_large_blocks() -> None:
    """Once, at the start.

    By itself glibc takes a large block that is freed as a sign that more will come, and has them in its heap from then
    on, where small ones that live longer keep the system from getting any of it back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Another C library may have none, and does not do that.
    if mallopt is not None and not mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES):
        get_logger().warning("heap.not_set", threshold_bytes=_LARGE_BYTES)
