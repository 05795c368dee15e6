"""Write what rpc.describe tells beyond what it has promised before: `python -m tests.wire.golden [FILE]`.

It refuses to write a change: that needs a new protocol version, and a golden file of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from supervisor.control.describe import describe
from tests.wire.golden.compare import changes, with_additions

FILE = Path(__file__).parent / "describe.json"


def main(file: Path) -> int:
    """0; or 1 if there is a change, which is told on stderr."""
    promised = json.loads(file.read_text()) if file.exists() else {}
    told = json.loads(json.dumps(describe()))
    if promised and (broken := changes(promised, told)):
        print("nothing was written; these are no additions:", *broken, sep="\n  ", file=sys.stderr)
        return 1
    file.write_text(json.dumps(with_additions(promised, told), indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else FILE))
