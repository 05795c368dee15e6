"""What params a run may be given: the daemon refuses others, pluginctl before it asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.wire.codec import packed_size, profile_problem

MAX_PARAMS_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 12
"""Inside a list of runs they are to stay within what may be sent."""


def params_problem(params: Mapping[str, Any]) -> str | None:
    """Why they cannot be kept, or None."""
    if problem := profile_problem([params], _MAX_DEPTH):
        return f"params cannot be kept: {problem}"
    if (size := packed_size(params)) > MAX_PARAMS_BYTES:
        return f"params may have {MAX_PARAMS_BYTES} bytes as msgpack, not {size}"
    return None
