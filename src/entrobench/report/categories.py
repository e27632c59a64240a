"""The four categories of tokens of the exchange paper (Plateau Stage, Table 2).

It names a few words of each; its Table 3 of examples is not in our copy, and neither is its classifier. So
these are word lists of ours.
"""

import re
from collections import Counter

LOGICAL = frozenset((
    "but", "so", "however", "therefore", "thus", "hence", "because", "since", "if", "then", "although",
    "though", "while", "whereas", "and", "or", "also", "moreover", "furthermore", "first", "second", "third",
    "next", "finally", "consequently", "given",
))  # fmt: skip
METACOGNITIVE = frozenset((
    "wait", "alternatively", "check", "verify", "recheck", "actually", "hmm", "maybe", "perhaps", "let",
    "lets", "recall", "notice", "note", "reconsider", "think", "try", "assume", "suppose",
))  # fmt: skip
_FORMAL = re.compile(r"[\d\\+\-*/=<>^_{}()\[\]|%$]|[A-Za-z]\Z")
CATEGORIES = ("formal reasoning", "logical structuring", "metacognitive", "semantic support")
_PIECE = re.compile(r"\w+|[^\w\s]")


def category(text: str) -> str:
    """Which of CATEGORIES a token's text is of: digits, symbols of mathematics and single letters are formal
    reasoning, words of LOGICAL and METACOGNITIVE theirs, everything else supports.
    """
    word = text.strip()
    if word.lower() in LOGICAL:
        return CATEGORIES[1]
    if word.lower() in METACOGNITIVE:
        return CATEGORIES[2]
    return CATEGORIES[0] if _FORMAL.match(word) else CATEGORIES[3]


def counts(text: str) -> Counter[str]:
    """How many words and symbols of a text are of each category."""
    return Counter(category(piece) for piece in _PIECE.findall(text))
