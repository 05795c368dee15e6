"""An exception that no code should have raised: into the log with its traceback, under an id to tell the caller."""

from __future__ import annotations

import secrets

from supervisor.log import get_logger


def report_failure(event: str, error: BaseException, **fields: object) -> str:
    """Log `error` and return the id under which it is found."""
    log_id = secrets.token_hex(6)
    get_logger().error(event, log_id=log_id, exc_info=error, **fields)
    return log_id
