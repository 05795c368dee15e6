"""Knows nothing of plugind."""

import time

print("sleeping", flush=True)
while True:
    time.sleep(3600)
