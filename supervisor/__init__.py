"""plugind: the daemon (`supervisor.daemon`), and `supervisor.sdk` for plugin authors. Imports nothing."""

PLUGIND = True
"""Our mark: the `supervisor` of PyPI (supervisord) installs into the same folder and would replace this file."""
