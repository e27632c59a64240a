"""The math prompt of PAPO (arXiv 2605.11775, App. B.7), as chat messages.

The Qwen chat template turns the messages into the appendix's text exactly: system line, problem, instruction
on a line of its own, assistant header.

Deviations from the paper:
  1. The appendix prints the box with a space between the braces; here it is `\\boxed{}`, as in Qwen's own
     evaluation prompt. The space is taken to be an artefact of typesetting.
"""

from typing import TypedDict

SYSTEM_PROMPT = "You are a helpful assistant."
INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str


def math_prompt(problem: str) -> list[Message]:
    """The messages that ask for a solution of `problem`, which is passed through unchanged."""
    return [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": problem + INSTRUCTION},
    ]
