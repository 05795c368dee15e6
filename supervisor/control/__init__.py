"""The Unix socket: connections, methods, who may what."""
