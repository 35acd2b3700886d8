"""`python -m stoker.spec PAGE...`: make the table of keys in each of these pages anew, see `reference.PAGES`. From the
root of the checkout."""

import sys
from pathlib import Path

from stoker.spec.reference import with_table

if __name__ == "__main__":
    for page in sys.argv[1:]:
        file = Path(page)
        file.write_text(with_table(page, file.read_text(encoding="utf-8")), encoding="utf-8")
