"""HumanEval (arXiv 2107.03374): does the function pass its tests; run in a sandbox, see code_sandbox.py.

What is run, after the problem's prompt (lm-eval 0.4.13):
  1. A completion that begins with an indented line goes on with the prompt: prompt + completion, up to the
     first "\\nclass", "\\ndef", "\\n#", "\\nif", "\\nprint" (task humaneval) or ``` (humaneval_instruct).
  2. Else, of the blocks between ``` the last that defines the function, or the completion without a block if
     it defines it, is run after the prompt, whose imports and helper functions it may use.
  3. Else the first block, or the completion, goes on with the prompt as in 1. The prompts here ask for a
     whole function, while lm-eval opens the block in the model's name; so 2 is ours, and makes of the answer
     what lm-eval would run.

Deviations from lm-eval, which executes program and tests together, for 3 s, with whatever is installed:
  1. The tests run apart from the program. A returned value is plain data or equals nothing.
  2. The limit is 5 s of processor time; no files, processes, threads or network; the standard library alone.
"""

import re
from typing import Any

from entrobench.errors import ConfigError
from entrobench.rewards.answer_grade import AnswerGrade, Verdict
from entrobench.rewards.code_sandbox import Outcome, run_checked

_CONTINUATION_END = re.compile(r"\n(?:class|def|#|if|print)|```")
_VERDICTS: dict[Outcome, Verdict] = {"passed": "correct", "failed": "incorrect", "not started": "error"}


def grade_humaneval(completion: str, gold: dict[str, Any]) -> AnswerGrade:
    """Grade a completion against {"prompt", "test", "entry_point"}; `error` if the sandbox did not start.

    Raises ConfigError for a gold that is none, MissingInput or UnsupportedPlatform where there is no sandbox.
    """
    prompt, test, entry_point = gold["prompt"], gold["test"], gold["entry_point"]
    if (
        not all(isinstance(part, str) for part in (prompt, test, entry_point))
        or not entry_point.isidentifier()
    ):
        raise ConfigError(
            f"gold: expected texts and a function's name, found entry_point {entry_point!r:.80}"
        )
    code, is_whole = extract_code(completion, entry_point)
    sources = [prompt, code] if is_whole else [prompt + code]
    return AnswerGrade(code, _VERDICTS[run_checked(sources, prompt, test, entry_point)])


def extract_code(completion: str, entry_point: str) -> tuple[str, bool]:
    """The code of a completion, and whether it is a whole function and no continuation of the prompt."""
    defines = re.compile(rf"^(?:async\s+)?def\s+{entry_point}\b", re.MULTILINE)
    if completion.lstrip("\r\n")[:1] not in (" ", "\t"):
        blocks = fenced_blocks(completion) or [completion]
        for block in reversed(blocks):
            if defines.search(block):
                return block, True
        completion = blocks[0]
    end = _CONTINUATION_END.search(completion)
    return completion[: end.start()] if end else completion, False


def fenced_blocks(text: str) -> list[str]:
    """What stands between lines that begin with ```; the last block may be cut off."""
    blocks: list[list[str]] = []
    is_open = False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            is_open = not is_open
            if is_open:
                blocks.append([])
        elif is_open:
            blocks[-1].append(line)
    return ["\n".join(block) for block in blocks]
