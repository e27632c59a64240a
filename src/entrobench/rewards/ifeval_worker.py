"""The grading process of IFEval: which instructions a response follows, strictly, then loosely.

lm-eval's checkers run here and nowhere else: some of their patterns take time that grows with the square of a
response's length, which nothing in a thread can stop.

Deviations from lm-eval, whose code stays as it is:
  1. Sentences are split by nupunkt, NLTK's punkt algorithm with a model inside the package; NLTK's own model
     would have to be downloaded. It decides for the counts of sentences and of words in capitals.
  2. Chance is seeded: langdetect draws random numbers, and lm-eval draws a letter for the two prompts that
     ask for "#" and "!".
"""

import importlib.util
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from entrobench.rewards.serving import Answer, serve

SEED = 0


def load() -> Answer:
    """lm-eval's two checks of a response."""
    checkers = _checkers()

    def followed(request: dict[str, Any]) -> Iterator[str]:
        """Two replies: a list of booleans, null for a checker that raised, or why the gold is none."""
        example = checkers.InputExample(key=0, **request["gold"])
        try:
            # Without a response the instructions are read and nothing is checked
            _verdicts(checkers.test_instruction_following_strict, example, "")
        except Exception as error:  # noqa: BLE001  the checkers raise whatever they meet
            yield from [json.dumps(f"{type(error).__name__}: {error}")] * 2
            return
        for check in (checkers.test_instruction_following_strict, checkers.test_instruction_following_loose):
            try:
                yield json.dumps(_verdicts(check, example, request["response"]))
            except Exception:  # noqa: BLE001  as above, now for the response's sake
                yield json.dumps(None)

    return followed


def _verdicts(check: Callable[..., Any], example: Any, response: str) -> list[bool]:
    random.seed(SEED)
    return [bool(is_followed) for is_followed in check(example, response).follow_instruction_list]


def _checkers() -> ModuleType:
    """lm_eval.tasks.ifeval.utils. Raises ImportError for a package that is missing."""
    os.environ["LOCAL_RANK"] = "1"  # rank 0 would try to download NLTK's model
    _enter_package("lm_eval")
    from langdetect import DetectorFactory
    from lm_eval.tasks.ifeval import instructions_util, utils
    from nltk.tokenize import NLTKWordTokenizer
    from nupunkt import sent_tokenize

    def sentences(text: str) -> list[str]:
        return [str(sentence) for sentence in sent_tokenize(text)]

    class Sentences:
        def tokenize(self, text: str) -> list[str]:
            return sentences(text)

    tokenizer = NLTKWordTokenizer()

    def words(text: str) -> list[str]:
        """NLTK's word_tokenize, which splits into sentences first."""
        return [word for sentence in sentences(text) for word in tokenizer.tokenize(sentence)]

    instructions_util._get_sentence_tokenizer = Sentences
    instructions_util.nltk.word_tokenize = words
    DetectorFactory.seed = SEED
    return utils


def _enter_package(name: str) -> None:
    """Make lm_eval.tasks.* importable without the 1,300 modules that lm_eval and lm_eval.tasks load."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("lm-eval is not installed; type: pip install lm-eval==0.4.13")
    folder = Path(spec.origin).parent
    for module, path in ((name, folder), (f"{name}.tasks", folder / "tasks")):
        package = ModuleType(module)
        package.__path__ = [str(path)]
        sys.modules[module] = package


if __name__ == "__main__":
    serve(load)
