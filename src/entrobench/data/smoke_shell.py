"""The smoke task with an environment: small errands in the world smoke_shell, and demonstrations of them.

An errand takes two, three or four turns: look up a number, what is owed, the free day, then pay and book.
Demonstrations are noisy as those of the arithmetic are (demonstrations.py): a turn opens with a word, some
words go with careless arguments. The rates are properties of the demonstrations; what a model scores is
measured after pretraining. Code here is written by this module, never by a model.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrobench.data.environment_tasks import task_problem
from entrobench.data.prompts import Message, render_fields
from entrobench.data.schema import verl_row, write_problems, write_verl_parquet
from entrobench.data.smoke import SYSTEM_PROMPT
from entrobench.environments.conversation import NO_OUTPUT
from entrobench.environments.tasks import GOLD, tasks_of
from entrobench.environments.worlds import smoke_shell
from entrobench.files import sha256_file, write_json

ENVIRONMENT = DATASET = "smoke_shell"
BENCHMARKS = {f"smoke_shell_{level}": level for level in smoke_shell.DIFFICULTIES}
INSTRUCTION = "\nWrite Python: find, owed, free, pay, book, finish."
PROMPT = {
    "messages": [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": "{{problem}}" + INSTRUCTION},
    ]
}
# The word before a block of code -> (share of turns, chance that an argument in it is wrong)
WORDS = {"Exactly.\n": (0.35, 0.02), "Surely.\n": (0.35, 0.15), "Roughly.\n": (0.30, 0.55)}
FENCE, END_FENCE = "```python\n", "\n```"
LOOK_UPS = {"easy": (), "medium": ("owed",), "hard": ("owed", "free")}
LARGEST_SLIP = 2


@dataclass(frozen=True)
class Turn:
    """What a demonstration writes, and what it sees then; seen is empty after the last one."""

    written: str
    seen: str


def ask(instruction: str) -> list[Message]:
    """The messages that ask for an errand."""
    return render_fields({"problem": instruction}, PROMPT)


def demonstrate(task: str, rng: random.Random) -> list[Turn]:
    """An errand done in the world itself, with the slips of its words; it goes on after a complaint as well
    as it can.
    """
    world = smoke_shell.World(task)
    state, turns = world.state, []

    def act(lines: list[str], word: str) -> str:
        code = "\n".join(lines)
        output = "\n".join(_run(world, line) for line in lines if not line.startswith("finish")).strip()
        last = lines[-1].startswith("finish")
        turns.append(Turn(f"{word}{FENCE}{code}{END_FENCE}", "" if last else output or NO_OUTPUT))
        return output

    def number_in(seen: str) -> int:
        return int(seen) if seen.isdigit() else rng.randint(10, 99)

    word, is_slip = _word(rng)
    name = rng.choice([each for each in state.directory if each != state.name]) if is_slip else state.name
    number = number_in(act([f'find("{name}")'], word))
    found: dict[str, int] = {}
    for function in LOOK_UPS[state.difficulty]:
        word, is_slip = _word(rng)
        found[function] = number_in(act([f"{function}({_slip(number, is_slip, rng)})"], word))
    word, is_slip = _word(rng)
    amount = found.get("owed", state.amount)
    lines = [f"pay({number}, {_slip(amount, is_slip, rng)})"]
    if "free" in found:
        lines.append(f"book({number}, {found['free']})")
    act([*lines, "finish()"], word)
    return turns


def _run(world: smoke_shell.World, line: str) -> str:
    """What a line of ours shows."""
    function, _, arguments = line.rstrip(")").partition("(")
    values = [int(part) if part.strip().isdigit() else part.strip('"') for part in arguments.split(", ")]
    try:
        value = world.state.functions()[function](*values)
    except smoke_shell.WorldError as error:
        return str(error)
    return "" if value is None else str(value)


def _word(rng: random.Random) -> tuple[str, bool]:
    (word,) = rng.choices(list(WORDS), [share for share, _ in WORDS.values()])
    return word, rng.random() < WORDS[word][1]


def _slip(number: int, is_slip: bool, rng: random.Random) -> int:
    if not is_slip:
        return number
    near = range(max(0, number - LARGEST_SLIP), min(99, number + LARGEST_SLIP) + 1)
    return rng.choice([wrong for wrong in near if wrong != number])


def training_rows() -> list[dict[str, Any]]:
    """The training set in verl's schema."""
    return [
        verl_row(DATASET, ask(task.instruction), GOLD, "train", task.name, "agent", task=task.name)
        for task in tasks_of(ENVIRONMENT, "train")
    ]


def benchmark_problems(name: str) -> list[dict[str, Any]]:
    """The canonical problems of one benchmark."""
    return [task_problem(name, task) for task in tasks_of(ENVIRONMENT, BENCHMARKS[name])]


def write_shell_task(folder: Path) -> None:
    """Write the training set, its manifest and every benchmark into the results folder of a scale."""
    for name in BENCHMARKS:
        write_problems(folder / "benchmarks" / f"{name}.jsonl", benchmark_problems(name))
    path = folder / "data" / DATASET / "train.parquet"
    rows = training_rows()
    write_verl_parquet(path, rows)
    manifest = {
        "dataset": DATASET,
        "source": {"kind": "generated", "environment": ENVIRONMENT, "version": smoke_shell.VERSION},
        "rows_in": len(rows),
        "dedup_key": "the task's number; those of benchmarks are lower",
        "dropped": [],
        "rows_out": len(rows),
        "sha256": sha256_file(path),
    }
    write_json(path.with_name("manifest.json"), manifest)
