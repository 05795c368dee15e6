"""The pluginctl command."""
