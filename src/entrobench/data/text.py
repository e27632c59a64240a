"""One form of a problem's text for comparisons."""

import re

_NO_LETTER = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Lower case, letters and digits only."""
    return _NO_LETTER.sub("", text.lower())
