"""Cron jobs follow the status of their plugin."""
