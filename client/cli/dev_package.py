"""The plugin that `pluginctl dev` runs: installed in place, and fitted again when its manifest asks for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from client.cli.develop import checked
from client.errors import SupervisorError

if TYPE_CHECKING:
    from client.sync_client import Client

MANIFEST = "plugin.toml"
REFUSED = "not restarted: "
"""How the daemon's note begins, in the plugin's log, that a change is not taken up."""


class Package:
    """In `directory`. What raises leaves it as it was; the next change of a file may be what it needs."""

    def __init__(self, client: Client, directory: str, config: dict[str, Any] | None) -> None:
        self._client = client
        self._directory = directory
        self._config = config
        self.key: str | None = None
        """None until it is installed."""

    def install(self) -> str:
        """Install and load it; its key. All that it asks for is allowed: the daemon is its author's own.

        Raises:
            InvalidParams: its manifest has problems: all of them are told.
            SupervisorError: the daemon does not take it, or it did not come up.
        """
        manifest = checked(self._directory)
        plugins = self._client.plugins
        plugins.install(self._directory, editable=True)
        self.key = manifest.key
        if self._config is not None:
            plugins.config_set(self.key, self._config)
        plugins.load(self.key)
        return self.key

    def fit(self) -> str | None:
        """After a change that the daemon did not take up: what has been done about it; None: nothing had to be.

        Raises:
            SupervisorError: it cannot be taken up: its manifest has problems, or the daemon refuses it.
        """
        manifest = checked(self._directory)
        if manifest.key != self.key:
            former = self.key
            if former is not None:
                self._client.plugins.unload(former, remove_data=True)
            self.key = None
            return f"{self.install()} takes the place of {former}"
        self._client.plugins.upgrade(manifest.key, self._directory, editable=True, approve=True)
        return f"{manifest.key}: what it asks for now is allowed"

