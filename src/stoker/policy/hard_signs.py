"""Whether a text asks for something that takes several steps of thought: a proof, a calculation, a weighing of reasons.

Pure, and bounded: only ENDS characters from each end are looked at. Of strong signs one is enough,
of weak ones it takes two. No rule knows what is true of a text: the accuracy is measured, by
benchmarks/gateway/routing.py.
"""

import re

ENDS = 400  # characters from each end: what is wanted stands before or after what it is wanted for
ENOUGH = 2

_STRONG = frozenset(
    (
        *("prove", "proof", "proofs", "disprove", "derive", "derivation", "theorem", "lemma", "induction", "integral"),
        *("eigenvalues", "converges", "diverges", "irrational", "derivative", "tradeoffs", "trade-offs"),
        *("rigorous", "counterexample", "falsify", "first-order", "bayes", "equilibrium"),
        *("beweise", "beweis", "leite", "herleiten", "démontre", "démontrer", "démontrez", "preuve", "demuestra"),
        *("demostrar", "demuestre", "dérivée", "integrale", "докажите", "доказать"),
    )
)
_WEAK = frozenset(
    (
        *("calculate", "compute", "solve", "probability", "probabilities", "optimal", "optimise", "optimize"),
        *("strategy", "justify", "justification", "assess", "critically", "constraint", "constraints", "reasoning"),
        *("equation", "equations", "evaluate", "analyse", "analyze", "rank", "hypothesis", "hypotheses", "estimate"),
        *("assumption", "assumptions", "suppose", "determine", "premises", "argument", "argue", "fallacy", "expected"),
        *("formula", "matrix", "function", "experiment", "confounders", "scenario", "implications", "consider"),
        *("compare", "recommend", "weigh", "risks", "formal", "logic", "explain", "infinity", "infinite", "sum"),
        *("berechne", "löse", "gleichung", "gleichungssystem", "wahrscheinlichkeit", "erkläre", "schritt"),
        *("calcule", "calculez", "résous", "probabilité", "équation", "étudiez", "calcula", "resuelve", "ecuación"),
        *("probabilidad", "probabilidade", "вычислите", "решите", "вероятность"),
    )
)
_PHRASES = (
    *(
        "step by step",
        "each step",
        "every step",
        "show that",
        "show the work",
        "show your work",
        "find all",
        "list all",
    ),
    *("think it through", "reason carefully", "think carefully", "second-order", "work out", "in depth"),
    *("how many", "how much", "how long", "how likely", "how far", "all possibilities", "quantify", "both sides"),
    *("which differences", "reconcile", "prevails", "pigeonhole", "if all", "at least one", "almost surely"),
)
_SURE = re.compile(  # of which one is enough
    r"(?:^|[.:;!?,)] )show(?:, [^,]{1,60},)? that\b|\bexpected (?:number|value)\b|\bhow many ways\b"
    r"|\bstate(?:, | )the (?:model|assumptions)\b"
    r"|証明|证明|求解|解方程|导数|积分|概率|微分|積分|確率|증명|방정식"
)
_NOTATION = re.compile(r"[a-z0-9)] ?\^ ?[a-z0-9(-]|[∑∫√≥≤∞∀∃π]|\b\d*[a-z] ?[-+] ?\d*[a-z]\b[^=]{0,20}= ?-?\d")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_NUMBER = re.compile(r"\d[\d.,:]*")
_SPELLED = frozenset(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen", "half", "twice"))
MANY_NUMBERS = 3
# Without one of these there is nothing for a pattern to find; looking for a word costs a hundredth of a pattern.
_SURE_HINTS = ("show", "expected ", "how many ways", "state")
_NOTATION_HINTS = ("^", "=")


def looks_hard(text: str) -> bool:
    asked = text if len(text) <= 2 * ENDS else f"{text[:ENDS]} {text[-ENDS:]}"
    asked = asked.lower()
    listed = _WORD.findall(asked)
    words = frozenset(listed)
    if not words.isdisjoint(_STRONG):
        return True
    is_ascii = asked.isascii()
    if (not is_ascii or any(hint in asked for hint in _SURE_HINTS)) and _SURE.search(asked):
        return True
    signs = len(words & _WEAK) + sum(phrase in asked for phrase in _PHRASES)
    if signs >= ENOUGH:
        return True
    if not is_ascii or any(hint in asked for hint in _NOTATION_HINTS):
        signs += _NOTATION.search(asked) is not None
    numbers = len(_NUMBER.findall(asked)) + sum(word in _SPELLED for word in listed)
    return signs + (numbers >= MANY_NUMBERS) >= ENOUGH
