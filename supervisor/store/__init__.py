"""SQLite: the only peewee imports of the project."""
