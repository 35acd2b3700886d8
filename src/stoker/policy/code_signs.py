"""Whether a text holds code or asks for it. Pure, and bounded by the length of the text that it is given."""

import re

MAX_LINES = 150  # of a text, the last ones

_FENCE = re.compile(r"^ {0,3}(?:```|~~~) *(\w*)", re.MULTILINE)
_PROSE = frozenset(
    ("text", "txt", "markdown", "md")
)  # what follows the first of two fences when no code stands between

# How a line of code begins. The cheap test first: most lines begin with none of these, and the pattern then never runs.
_BEGINNINGS = (
    *("def ", "async ", "class ", "from ", "import ", "export ", "function", "const ", "let ", "var ", "public "),
    *("private ", "protected ", "static ", "fn ", "func ", "impl", "package ", "use ", "#", "<?php", "<!DOCTYPE"),
    *("using ", "namespace ", "select ", "SELECT ", "INSERT ", "CREATE ", "ALTER ", "DELETE ", "if", "for", "while"),
    *("switch", "Traceback ", "$ ", "@"),
)
_STATEMENT = re.compile(
    r"(?:async )?def \w+\(|class \w+[:({]|class \w+ (?:\w+ )*\{|from [\w.]+ import |import [\w.]+(?: as \w+)?;?$"
    r"|import .{1,100} from ['\"]|@\w+(?:\.\w+)*\(?$|(?:export )?(?:default )?(?:async )?function\*? ?\w*\("
    r"|(?:export )?(?:const|let|var) \w+ ?=|(?:public|private|protected|static) \w+ [^.]*[({;]"
    r"|fn \w+[(<]|func (?:\(\w+ \*?\w+\) )?\w+\(|impl\b[^.]*\{$|package \w+;?$|use \w+(?:::\w+)+"
    r"|#include ?[<\"]|#define \w|#!/|<\?php|<!DOCTYPE|using \w+(?:\.\w+)*;|namespace \w+[;{ ]*$"
    r"|(?:SELECT|select) [^?]{1,200} (?:FROM|from) |(?:INSERT INTO|CREATE TABLE|ALTER TABLE|DELETE FROM) "
    r"|(?:if|for|while|switch) ?\(.*\) ?\{$|Traceback \(most recent call last\)|\$ (?:git|pip|npm|cargo|docker) "
)
_LINE_ENDS = (";", "{", "}", "):", "=> {", "});")
MIN_CODE_LINES = 3  # one line that ends in a semicolon can be prose, and in a brace a smiley; three are neither

# A request for code has a sign of which one is enough, or two of different kinds: a language, a thing that is made of
# code, something that is written as code is. A snake is a python, a play has a script: one alone says nothing.
_LANGUAGES = frozenset(
    (
        *("python", "javascript", "typescript", "java", "kotlin", "swift", "rust", "golang", "c++", "c#", "php"),
        *("ruby", "scala", "haskell", "perl", "bash", "shell", "sql", "html", "css", "react"),
        *("linux", "docker", "git", "github", "vue", "angular", "vba", "lua", "nodejs", "laravel", "rails"),
        *("elixir", "clojure", "julia", "matlab", "redis", "kafka", "aws", "latex", "fortran", "cobol", "assembly"),
    )
)
_THINGS = frozenset(
    (
        *("function", "functions", "method", "class", "classes", "script", "code", "program", "query", "queries"),
        *("snippet", "test", "tests", "bug", "exception", "error", "decorator", "algorithm", "loop", "compiler"),
        *("library", "module", "implementation", "one-liner", "expression", "component", "parser", "api", "parse"),
        *("array", "arrays", "object", "objects", "column", "macro", "command", "decode", "encode", "errors"),
        *("iterate", "iterator", "string", "strings", "pointer", "thread", "endpoint", "workflow", "container"),
        *("schema", "migration", "join", "variable", "variables", "interface", "implement", "idiomatic", "async"),
        *("funktion", "skript", "schleife", "klasse", "fehler", "abfrage", "tabellen", "fonction", "boucle", "tableau"),
        *("requête", "función", "bucle", "consulta", "código", "função", "laço", "скрипт", "функцию", "функция", "код"),
    )
)
_OF_CODE_ALONE = frozenset(
    (
        *("refactor", "debug", "stacktrace", "unittest", "segfault", "codebase", "regex", "dockerfile", "makefile"),
        *("numpy", "pandas", "django", "flask", "fastapi", "pytest", "jest", "terraform", "kubectl", "kubernetes"),
        *("postgresql", "sqlite", "mysql", "mongodb", "npm", "pip", "cargo", "webpack", "eslint", "gcc", "cmake"),
        *(
            "flexbox",
            "hashmap",
            "useeffect",
            "usestate",
            "powershell",
            "sqlalchemy",
            "alembic",
            "pytorch",
            "tensorflow",
        ),
        *("graphql", "websocket", "localhost", "async", "await", "mutex", "backend", "frontend", "awk", "grep", "sudo"),
        *("ansible", "prometheus", "recursion", "memoization", "boilerplate", "linter", "docstring", "pseudocode"),
    )
)
_PHRASES = (
    *("unit test", "lru cache", "linked list", "binary tree", "binary search", "pull request", "code review"),
    *(
        "docker compose",
        "docker-compose",
        "github actions",
        "stack trace",
        "time complexity",
        "type hint",
        "git commit",
    ),
    *("代码", "函数", "编程", "コード", "関数", "プログラム", "코드", "함수"),
)
# As code is written, in the middle of a line: a call with an argument or of a method, an arrow, `==`, a path with `::`,
# a name in backticks, an error by its name, the frame of a stack, a hunk of a diff.
_INLINE = re.compile(
    r"\b(?!sin|cos|tan|log|exp|lim|max|min|gcd)[a-z_]{3,}\([\w\"'\[\]{}, .:=-]*\)|\w\.\w+\(|=> ?[\w{(]"
    r"|[=!]==?=? |\w::\w|`[^`\n]{1,60}`|\b\w+(?:error|exception)\b|\bat .{1,80}:\d+(?::\d+)?\)|^@@ -\d"
    r"|^(?:---|\+\+\+) [ab]/|\bin (?:c|go|r)\b|\$\w+\b|^apiversion: |error\[e\d+\]",
    re.MULTILINE,
)
_PLAIN = re.compile(  # of those, the ones that prose never holds
    r"^\w*(?:error|exception): |\n +at .{1,80}:\d+|^@@ -\d+,\d+ \+|^\+\+\+ b/|^apiversion: \w|error\[e\d+\]"
    r"|\bgit (?:rebase|commit|push|pull|merge|stash|reset|checkout|log|diff|clone|cherry-pick)\b|\)\.\w+\(.*=>",
    re.MULTILINE,
)
# Without one of these there is nothing for the two patterns to find; looking for a word costs a hundredth of a pattern.
_INLINE_HINTS = (
    "(",
    "=>",
    "== ",
    "!= ",
    "::",
    "`",
    "error",
    "exception",
    "@@",
    "--- ",
    " in c",
    " in go",
    " in r",
    "$",
)
_PLAIN_HINTS = ("error", "exception", " at ", "@@", "+++ b/", "apiversion:", "git ", ").")
_WORD = re.compile(r"[^\W\d_][^\W\d_]*(?:[+#]+|-[^\W\d_]+)*")
ASK_CHARACTERS = 300  # from each end: what is wanted stands before or after what it is wanted for


def looks_like_code(text: str) -> bool:
    """Whether a text holds code or asks for it: a fence, a statement, the look of the lines, or in so many words."""
    if ("```" in text or "~~~" in text) and any(word.lower() not in _PROSE for word in _FENCE.findall(text)[::2]):
        return True
    ends = 0
    for raw in text.splitlines()[-MAX_LINES:]:
        line = raw.strip()
        if line.startswith(_BEGINNINGS) and _STATEMENT.match(line):
            return True
        ends += line.endswith(_LINE_ENDS) and not _is_prose(line)
    return ends >= MIN_CODE_LINES or asks_for_code(text)


def _is_prose(line: str) -> bool:
    """Part of a sentence that goes on after a semicolon."""
    return line[-1] == ";" and line.count(" ") >= 2 and _OPERATORS.isdisjoint(line)


_OPERATORS = frozenset("=()[]<>+*&|:")


def asks_for_code(text: str) -> bool:
    asked = text if len(text) <= 2 * ASK_CHARACTERS else f"{text[:ASK_CHARACTERS]} {text[-ASK_CHARACTERS:]}"
    asked = asked.lower()
    words = set(_WORD.findall(asked))
    if not asked.isascii():
        words.update(_LATIN.findall(asked))
    if not words.isdisjoint(_OF_CODE_ALONE) or any(phrase in asked for phrase in _PHRASES):
        return True
    if any(hint in asked for hint in _PLAIN_HINTS) and _PLAIN.search(asked):
        return True
    signs = (not words.isdisjoint(_LANGUAGES)) + (not words.isdisjoint(_THINGS))
    if signs == 1 and any(hint in asked for hint in _INLINE_HINTS):
        signs += _INLINE.search(asked) is not None
    return signs >= ENOUGH


ENOUGH = 2
# Between characters of Chinese and Japanese, which are letters to _WORD, too: there are no spaces there.
_LATIN = re.compile(r"[a-z][a-z+#-]*")
