"""The version that clients say in their hello; the same as the distribution's."""

from __future__ import annotations

VERSION = "0.1.0"
