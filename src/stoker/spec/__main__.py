"""`python -m stoker.spec docs/spec.md docs/training/run-file.md`: make the table of keys in these pages anew."""

import sys
from pathlib import Path

from stoker.spec.reference import with_table

if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
