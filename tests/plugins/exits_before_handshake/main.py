"""Last words on stderr, then exit code 3."""

import sys

print("cannot find the license file", file=sys.stderr)
print("last words: giving up", file=sys.stderr)
sys.exit(3)
