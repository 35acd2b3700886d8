"""What every page has around what it shows: style, script, and a policy. For `page`, and for that of `stoker runs`.

Names in it come from anyone: everything is escaped, the data for the script cannot end its element, and the page's
policy lets no script run but the one whose hash it names.
"""

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

from stoker.base.errors import writable
from stoker.simulate.page_plots import escaped


def whole(title: str, body: str, plots: list[dict[str, Any]]) -> str:
    """The HTML text; `body` is HTML, `plots` what `page_plots.data` made of its figures."""
    style, script = _file("page.css"), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    # No `<` in it: the data can neither end its element nor begin a comment.
    values = json.dumps(plots, separators=(",", ":")).replace("<", "\\u003c")
    return writable(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{style}</style></head><body>{body}"
        f'<script type="application/json" id="plots">{values}</script><script>{script}</script></body></html>\n'
    )


@cache
def _file(name: str) -> str:
    return (resources.files("stoker.simulate") / "page_files" / name).read_text(encoding="utf-8")
