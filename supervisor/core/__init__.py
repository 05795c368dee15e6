"""Values and decisions: stdlib only; no I/O, no clock."""
