"""What is wrong with a response besides its answer (arXiv 2508.02260, App. B), and DAPO's overlong penalty.

    format violation   \\boxed{ does not occur exactly once
    language mixing    a character lies in the ranges of Chinese characters
    repetition         half or more of the n-grams of tokens occurred before in the same response

    penalty(l) = 0 for l <= L - b,  -f (l - (L - b)) / b up to L,  -f beyond    (arXiv 2503.14476, Eq. 13)

with l: length of the response, L: max_length, b: buffer, f: factor. All numbers are counts of tokens.

Deviations from the paper:
  1. Repetition is ours: the paper asks Qwen2.5-32B-Instruct whether a response holds garbled or repetitive
     text. Garbled text without repetition is not found here.
  2. The paper names no code points; CHINESE has the unified ideographs with their extensions and the
     compatibility ideographs, no punctuation, kana or hangul.
Edge cases: fewer tokens than REPETITION_NGRAM -> repetition 0; no tokens -> 0.
"""

import re
from collections.abc import Hashable, Sequence

CHINESE = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ebef"
    "\U0002ebf0-\U0002ee5f\U0002f800-\U0002fa1f\U00030000-\U000323af]"
)
REPETITION_NGRAM = 20
REPETITION_LIMIT = 0.5


def has_format_violation(text: str) -> bool:
    """Whether the answer is unboxed or boxed more than once."""
    return text.count("\\boxed{") != 1


def has_language_mixing(text: str) -> bool:
    """Whether a Chinese character occurs; meant for responses to prompts in another script."""
    return CHINESE.search(text) is not None


def repetition_share(tokens: Sequence[Hashable], ngram: int = REPETITION_NGRAM) -> float:
    """Share of the n-grams that stood earlier in `tokens` (ids, words or characters), from 0 to below 1."""
    total = len(tokens) - ngram + 1
    if total <= 0:
        return 0.0
    distinct = len({tuple(tokens[start : start + ngram]) for start in range(total)})
    return 1 - distinct / total


def overlong_penalty(length: int, max_length: int, buffer: int, factor: float = 1.0) -> float:
    """What is added to the reward of a response of `length` tokens; 0 to -factor.

    Raises ValueError unless 0 < buffer <= max_length.
    """
    if not 0 < buffer <= max_length:
        raise ValueError(f"expected 0 < buffer <= max_length, found buffer {buffer}, max_length {max_length}")
    excess = min(length, max_length) - (max_length - buffer)
    return min(-excess / buffer * factor, 0.0)


def response_quality(text: str, tokens: Sequence[Hashable]) -> dict[str, float]:
    """The three kinds of low quality as 0 or 1, whether there is any, and the share behind the third."""
    share = repetition_share(tokens)
    kinds = {
        "format_violation": float(has_format_violation(text)),
        "language_mixing": float(has_language_mixing(text)),
        "repetition": float(share >= REPETITION_LIMIT),
    }
    return kinds | {"low_quality": max(kinds.values()), "repetition_share": share}
