"""Starts a child that inherits stdout and stderr and outlives it by far, in the same process group."""

import subprocess
import sys

child = subprocess.Popen(["sleep", "300"])
print(f"left behind: {child.pid}", flush=True)
sys.exit(1)
