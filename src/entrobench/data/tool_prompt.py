"""The agentic prompt of PAPO (arXiv 2605.11775, App. B.7), as chat messages.

The text stands as the appendix prints it, line breaks included; the Qwen chat template adds the rest of it.

Deviations from the paper:
  1. {tools} is "the tool list" there; here one {"type": "function", "function": tool} a line, as in Tool-N1.
  2. The appendix has one question. A row with a history has its turns as messages of their own: calls as
     their JSON, results with the role tool.
"""

import json
from typing import Any

from entrobench.data.prompts import Message

TOOL_SYSTEM_PROMPT = """\
You are an expert in composing functions. You are given a question and a set
of possible functions. Based on the question, you will need to make one or
more function/tool calls to achieve the purpose. If none of the function can
be used, point it out. If the given question lacks the parameters required by
the function, also point it out. You should only return the function call in
tools call sections. Here is a list of functions in JSON format that you can
invoke:
# Tool

You are provided with function signatures within <tools></tools> XML tags:

<tools>
{tools}
</tools>

In each action step, you MUST:
1. Think about the reasoning process in the mind and enclosed your reasoning
within <think></think> XML tags.
2. Then, provide a json object with function names and arguments
within <tool_call></tool_call> XML tags. i.e., <tool_call>[{"name":
<function-name>, "arguments": <args-json-object>}, {"name":
<function-name2>, "arguments": <args-json-object2>}, ...]</tool_call>
3. Make sure both the reasoning and the tool call steps are included together
in one single reply.
A complete reply example is: <think> To address the query, I need to send the
email to Bob and then buy the banana through walmart. </think> <tool_call>
[{"name": "email", "arguments": {"receiver": "Bob", "content": "I will
buy banana through walmart"}}, {"name": "walmart", "arguments": {"input":
"banana"}}]</tool_call>. Please make sure the type of the arguments is
correct."""


def tool_prompt(tools: list[dict[str, Any]], turns: list[Message]) -> list[Message]:
    """The messages that ask for the calls after `turns`. A question ends with a line break, as printed."""
    listed = "\n".join(
        json.dumps({"type": "function", "function": tool}, ensure_ascii=False) for tool in tools
    )
    messages: list[Message] = [{"role": "system", "content": TOOL_SYSTEM_PROMPT.replace("{tools}", listed)}]
    for turn in turns:
        end = "\n" if turn["role"] == "user" else ""
        messages.append({"role": turn["role"], "content": turn["content"] + end})
    return messages
