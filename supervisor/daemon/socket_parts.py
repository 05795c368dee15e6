"""What the methods of the socket are made of, out of what the daemon is made of."""

from __future__ import annotations

from supervisor.bus import EventBus
from supervisor.clock import Clock
from supervisor.control.names import UserNames
from supervisor.control.parts import Daemon, Parts
from supervisor.daemon.assembly import Assembly


def parts_of(built: Assembly, *, daemon: Daemon, names: UserNames, bus: EventBus, clock: Clock) -> Parts:
    return Parts(
        daemon=daemon,
        registry=built.registry,
        lifecycle=built.lifecycle,
        config=built.configurator,
        next_recovery_in_s=built.reconciler.next_recovery_in_s,
        workers=built.workers,
        jobs=built.operator,
        journal=built.journal,
        audit=built.audit,
        names=names,
        bus=bus,
        state=built.state,
        metrics=built.metrics,
        containment=built.containment,
        places=built.places,
        logs=built.logs,
        clock=clock,
        methods=built.methods,
    )
