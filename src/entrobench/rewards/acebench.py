"""ACEBench Normal, by its own `normal_checker` at the pinned commit, in a process of its own.

ACEBench is no package: two files of its repository are looked for on this machine (`checker_folder`).
`entrobench prepare-benchmark acebench_en` fetches them as it fetches the data.

First verdict, as ACEBench's eval_main.py: all white space is taken out of the answer, strings included,
before it is read. A gold with a list of strings inside an object can then not be met. Second verdict: the
answer read as it stands.

Deviations:
  1. PAPO's prompt asks for JSON, ACEBench's for Python calls. JSON is read by our own reader, so ACEBench's
     decode_ast, which evaluates parts of the text, has no work and is not loaded.
Edge cases: no readable calls -> `incorrect`; the checker raises -> `error`; no checker -> NotFetched.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from entrobench.errors import NotFetched, PinMismatch
from entrobench.files import sha256_file
from entrobench.paths import cache_folder, shared_data
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.checker_process import CheckerProcess
from entrobench.rewards.multiple_choice import ChoiceGrade
from entrobench.rewards.tool_call import call_list, last_tool_call

REPOSITORY = "ACEBench/ACEBench"
REVISION = "e6db74b735ead22c24f27367606a9408573b848f"
# Path in the repository -> SHA-256. MIT; the checker imports nothing else
FILES = {
    "model_eval/checker.py": "c4ebad12abf6d313e5c316361b19e7b3fe76e9272dc07e7cf110b1735e45cc2d",
    "model_eval/utils.py": "3ea5ebabf5643b6649311f45ce1c76c3340340fd1e11435d1d5227fb2c46ddb0",
}


def grade_acebench(completion: str, functions: list[dict[str, Any]], gold: Any) -> ChoiceGrade:
    """Grade the last <tool_call>...</tool_call> of a completion.

    functions: a question's, with their parameters under `parameters`. gold: the `ground_truth`, calls or a
    list of alternatives. Raises NotFetched or PinMismatch.
    """
    checker_folder()
    extracted = last_tool_call(completion)
    if extracted is None:
        return ChoiceGrade(None, "incorrect", None, "incorrect")
    alternatives = gold if isinstance(gold, list) else [gold]
    without_space = "".join(extracted.split())
    first, second = (_verdict(text, functions, alternatives) for text in (without_space, extracted))
    return ChoiceGrade(extracted, first, extracted, second)


def _verdict(text: str, functions: list[dict[str, Any]], alternatives: list[Any]) -> Verdict:
    try:
        calls = call_list(text)
    except ValueError:
        return "incorrect"
    if not all(isinstance(call["arguments"], dict) for call in calls):
        return "incorrect"
    return _CHECKER.verdict(calls=calls, functions=functions, gold=alternatives)


def checker_folder() -> Path:
    """The folder that holds FILES: acebench/ of the folder of real data, the mirror, or the cache.

    Raises NotFetched, or PinMismatch for other files: a checker is code, and runs only as pinned.
    """
    for folder in _places():
        if all((folder / name).is_file() for name in FILES):
            _check(folder)
            return folder
    raise NotFetched(
        f"no checker of ACEBench on this machine: expected {', '.join(FILES)} of "
        f"github:{REPOSITORY}@{REVISION} in one of\n"
        + "".join(f"  {folder}\n" for folder in _places())
        + "  Put them there, or type, with a network: entrobench prepare-benchmark acebench_en OUT.jsonl"
    )


def _places() -> Iterator[Path]:
    if (shared := shared_data()) is not None:
        yield shared / "acebench"
    if mirror := os.environ.get("ENTROBENCH_MIRROR"):
        yield Path(mirror) / REPOSITORY
    yield cache_folder() / REPOSITORY / REVISION


@cache
def _check(folder: Path) -> None:
    for name, expected in FILES.items():
        if (found := sha256_file(folder / name)) != expected:
            raise PinMismatch(
                f"{folder / name} has sha256 {found}, expected {expected}: not the pinned commit of "
                f"github:{REPOSITORY}.\n  Type: rm {folder / name}   and get the file again."
            )


_CHECKER = CheckerProcess("acebench", checker_folder)
