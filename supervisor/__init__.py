"""plugind: the daemon (`supervisor.daemon`), and `supervisor.sdk` for plugin authors. Imports nothing."""
