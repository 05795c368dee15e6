"""The plugin that `pluginctl dev` runs: installed in place, and fitted again when its manifest asks for it."""

from __future__ import annotations

from client.cli.develop import checked

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from client.sync_client import Client

REFUSED = "not restarted: "
"""How the daemon's note begins, in the plugin's log, that a change is not taken up."""
CHANGED = "changed: "


class Package:
    """In `directory`. What raises leaves it as it was; the next change of a file may be what it needs.

    All that it asks for is allowed: the daemon is its author's own.
    """

    def __init__(self, client: Client, directory: str, config: dict[str, Any] | None) -> None:
        self._client = client
        self._directory = directory
        self._config = config
        self.key: str | None = None
        """None until it is installed."""

    def install(self) -> str:
        """Install it; what has been done.

        Raises:
            InvalidParams: its manifest has problems: all of them are told.
            SupervisorError: the daemon does not take it.
        """
        key = str(checked(self._directory).key)
        self._client.plugins.install(self._directory, editable=True)
        self.key = key
        return f"{key} is installed in place"

    def load(self) -> None:
        """Give it its configuration, and bring it up; a failed one comes back with the next change by itself.

        Raises:
            SupervisorError: it did not come up, or the configuration does not fit.
        """
        if self.key is None or self._client.plugins.get(self.key)["status"] != "installed":
            return
        if self._config is not None:
            self._client.plugins.config_set(self.key, self._config)
        self._client.plugins.load(self.key)

    def fit(self) -> str:
        """After a change that the daemon did not take up: what has been done about it.

        Raises:
            SupervisorError: it cannot be taken up: its manifest has problems, or the daemon refuses it.
        """
        manifest, plugins = checked(self._directory), self._client.plugins
        if self.key is not None and manifest.key != self.key:
            former, self.key = self.key, None
            plugins.unload(former, remove_data=True)
            return f"{self.install()}, and {former} is removed"
        plugins.upgrade(str(manifest.key), self._directory, editable=True, approve=True)
        return f"{manifest.key}: what plugin.toml asks for now is allowed"
