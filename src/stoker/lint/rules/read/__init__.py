"""What could not be read. The troubles come from `manifests.reading`; these files are their pages."""

from stoker.lint.rule import Rule
from stoker.lint.rules.read import (
    aliases,
    duplicate_key,
    encoding,
    not_an_object,
    size,
    syntax,
    template,
    unreadable,
)

_MODULES = (syntax, encoding, size, aliases, duplicate_key, template, not_an_object, unreadable)

RULES: tuple[Rule, ...] = tuple(module.RULE for module in _MODULES)
TROUBLES: dict[str, Rule] = {kind: module.RULE for module in _MODULES for kind in module.KINDS}
