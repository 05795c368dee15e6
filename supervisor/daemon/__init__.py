"""The process: everything is built and joined here."""
