"""At the start: clean up after the daemon before, which may have been killed at any instant."""

from __future__ import annotations

from pathlib import Path

import trio

from supervisor.core.errors import ResourceExhausted
from supervisor.daemon.assembly import Assembly, Surrounding
from supervisor.daemon.leftovers import remove_leftovers
from supervisor.faultpoints import FaultPoint
from supervisor.jobs.plan import retry_interrupted
from supervisor.log import get_logger
from supervisor.worker.badge import Badge


async def clean_up_after_the_last_daemon(given: Surrounding, built: Assembly, badge: Badge | None) -> list[str]:
    """End what it left running, before anything of ours starts, and remove what it had begun.

    Returns what the operator should be warned of.
    """
    await _end_what_runs(given, built, badge)
    warnings, damaged_files = [], _damaged_databases(built.database.path)
    if damaged_files:
        names = ", ".join(path.name for path in damaged_files)
        warnings.append(
            f"a damaged database was moved aside ({names}): packages and data that no plugin has are kept until "
            "you restore it, or move it out of the state directory"
        )
        get_logger().warning("database.damaged_before", files=names)
    try:
        # Where the rows are gone, not the plugins, whoever restores them wants the files still there.
        await _remove_what_was_begun(given, built, damaged=bool(built.database.warnings or damaged_files))
    except (ResourceExhausted, OSError) as error:
        # A full disk must not keep the workers from running; what is left over harms nobody.
        warnings.append(f"what the daemon before had begun could not all be cleaned up: {error}")
        get_logger().error("daemon.not_cleaned_up", why=str(error))
    return warnings


async def _end_what_runs(given: Surrounding, built: Assembly, badge: Badge | None) -> None:
    settings, state_dir = given.settings, given.state_dir
    await remove_leftovers(
        state_dir.state_id,
        # Rows that came with a copy of a directory name the workers of the daemon on the original.
        await built.processes.all() if state_dir.id_was_kept else [],
        badge,
        term_grace_s=settings.term_grace_s,
        kill_grace_s=settings.kill_grace_s,
    )
    if built.groups and (pids := await built.groups.remove_former(settings.kill_grace_s)):
        get_logger().warning("leftover.killed_in_cgroup", pids=pids)
    await built.processes.clear()
    if interrupted := await built.runs.interrupt_leftovers(retry_interrupted):
        get_logger().warning("runs.interrupted", count=interrupted)
    built.faults.reach(FaultPoint.BOOT_LEFTOVERS_REMOVED)


async def _remove_what_was_begun(given: Surrounding, built: Assembly, *, damaged: bool) -> None:
    # Once more: until now a pip that outlived its daemon may have been at work in there.
    await trio.to_thread.run_sync(given.state_dir.empty_staging)
    await built.audit.close_open()
    await built.lifecycle.end_what_was_begun(keep_unnamed=damaged)
    if not damaged:
        await built.packages.collect(built.registry.package_dirs())
        await built.places.collect({plugin.key for plugin in built.registry.all()})
        built.faults.reach(FaultPoint.BOOT_COLLECTED)


def _damaged_databases(database: Path) -> list[Path]:
    """Moved aside by this start or an earlier one, and not yet dealt with by an operator."""
    return sorted(database.parent.glob(f"{database.name}.damaged-*"))
