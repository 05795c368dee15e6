"""Which plugin's worker requires which, and what a change of one means for the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from supervisor.core.errors import FailedPrecondition
from supervisor.core.plugin import Plugin, PluginKey


class Neighbour(Protocol):
    """A supervisor, as those of other plugins see it."""

    stands_aside: bool
    """Something that it requires is being stopped on purpose: it is stopped before that, and started after it."""

    @property
    def plugin(self) -> Plugin | None:
        """The one wanted last; None if none ever was."""

    @property
    def wanted(self) -> bool: ...
    @property
    def alive(self) -> bool:
        """It has a process that may still be stopped; one that outlived SIGKILL is not waited for."""

    @property
    def up(self) -> bool:
        """Others may start, for it runs and is to go on running."""

    @property
    def leaving(self) -> bool:
        """It is being stopped on purpose, or has been, or stands aside. A crash is no leaving."""

    def look_around(self) -> None:
        """Something that it requires, or that requires it, has changed."""


def stands_aside(plugin: Plugin) -> FailedPrecondition:
    """Why its worker, on trial, cannot take over."""
    words = f"the worker of {plugin.key!r} stands aside: a plugin that it requires is being stopped"
    return FailedPrecondition(words, plugin=plugin.key)


class Neighbours:
    """A graph by key. One that neither requires nor is required costs a dictionary's entry, and nothing at a change.

    Of two with one key, one stands for the plugin: it alone is what others require. Both require what they require.
    """

    def __init__(self) -> None:
        self._by_key: dict[PluginKey, Neighbour] = {}
        self._dependents: dict[PluginKey, dict[Neighbour, None]] = {}

    def place(self, one: Neighbour, plugin: Plugin, *, aside: bool = False) -> None:
        """Before its `plugin` becomes this one; its former place is given up, and so is that of who stood here.
        `aside`: it stands for nobody, and whoever does goes on."""
        self.remove(one)
        if not aside:
            self._by_key[plugin.key] = one
        for key in plugin.manifest.requires:
            self._dependents.setdefault(key, {})[one] = None

    def remove(self, one: Neighbour) -> None:
        if one.plugin is None:
            return
        if self._stands(one.plugin, one):
            self._by_key.pop(one.plugin.key)
        for key in one.plugin.manifest.requires:
            dependents = self._dependents.get(key, {})
            dependents.pop(one, None)
            if not dependents:
                self._dependents.pop(key, None)

    def missing(self, plugin: Plugin) -> tuple[PluginKey, ...]:
        """The plugins that it requires and that are not up."""
        return tuple(key for key in plugin.manifest.requires if key not in self._by_key or not self._by_key[key].up)

    def leant_on(self, one: Neighbour) -> bool:
        """Whether a worker lives that requires it: that requires its plugin, for which it stands."""
        if one.plugin is None or not self._stands(one.plugin, one):
            return False
        return any(other.alive for other in self._dependents.get(one.plugin.key, ()))

    def refuse_in_vain(self, plugin: Plugin) -> None:
        """
        Raises:
            FailedPrecondition: its start waits for a plugin that nobody wants up; details: plugin, waiting_for.
        """
        if key := self._in_vain(plugin):
            raise FailedPrecondition(
                f"plugin {plugin.key!r} waits for {key!r}, which is not to run: start that one first; the worker of "
                f"{plugin.key!r} follows by itself",
                plugin=plugin.key,
                waiting_for=key,
            )

    def changed(self, one: Neighbour) -> None:
        """Its phase, or what is wished of it, has changed: all whom it concerns look around, far ones too."""
        if one.plugin is None:
            return
        one.stands_aside = self._stands_aside(one.plugin)
        look, seen = [one], {one.plugin.key}
        while look:
            for other, plugin in self._who_require(look.pop()):
                before, other.stands_aside = other.stands_aside, self._stands_aside(plugin)
                # Those that wait for one which nobody wants hear of it however far they are: they wait in vain.
                if before != other.stands_aside or not (one.wanted or other.alive or plugin.key in seen):
                    look.append(other)
                seen.add(plugin.key)
                other.look_around()
        for key in one.plugin.manifest.requires:
            if key in self._by_key:
                self._by_key[key].look_around()

    def _in_vain(self, plugin: Plugin) -> PluginKey | None:
        look, seen = list(self.missing(plugin)), set()
        while look:
            key = look.pop()
            one = self._by_key.get(key)
            if one is None or one.plugin is None or not one.wanted:
                return key
            if key not in seen and (one.stands_aside or not one.alive):
                look += self.missing(one.plugin)
            seen.add(key)
        return None

    def _stands_aside(self, plugin: Plugin) -> bool:
        return any(key in self._by_key and self._by_key[key].leaving for key in plugin.manifest.requires)

    def _who_require(self, one: Neighbour) -> Iterable[tuple[Neighbour, Plugin]]:
        """In install order, so that they are started in it."""
        dependents = self._dependents.get(one.plugin.key, ()) if one.plugin and self._stands(one.plugin, one) else ()
        pairs = [(other, other.plugin) for other in dependents if other.plugin is not None]
        return sorted(pairs, key=lambda pair: pair[1].install_order)

    def _stands(self, plugin: Plugin, one: Neighbour) -> bool:
        return self._by_key.get(plugin.key) is one
