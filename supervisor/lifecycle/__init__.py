"""The only writer of a plugin's status."""
