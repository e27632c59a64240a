"""Measures the graders: answers per second, a burst of requests, agreement with labelled outputs, and
respellings of all real mathematical golds.

    python benchmarks/grading.py                (some five minutes on two cores; nothing else should run)
    python benchmarks/grading.py respellings    (the last table alone)

Writes results/grading/agreement.md and respellings.md, the tables of docs/grading.md and docs/tool_calls.md.
The rates are of two processes; mixed MATH500 answers are groups of 8 to a problem, as training grades them: 5
spell the gold as it stands, 1 in another way, 2 are other problems' answers. What needs the folder of real
data is not run without it.
"""

import os
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from entrobench.errors import MissingInput, UnsupportedPlatform
from entrobench.files import write_atomic
from entrobench.paths import repository_root, shared_data
from entrobench.rewards.function_call_ast import check_calls
from entrobench.rewards.graders import GRADERS, grade_many, require_grader
from entrobench.rewards.math_answers import Grade, gold_text
from entrobench.rewards.pool import grader_packages, pool
from entrobench.rewards.processes import PROCESSES_VARIABLE
from entrobench.rewards.worker import minerva_utilities

sys.path.insert(0, str(repository_root() / "tests"))
from call_data import LABELLED, acebench_golds, bfcl_golds, labelled_calls
from grading_data import (
    MATH_SETS,
    aime_outputs,
    golds,
    instruction_outputs,
    labelled_outputs,
    prediction_outputs,
    program_gold,
    program_outputs,
)
from respellings import KINDS, respellings

REPORT = Path("results/grading/agreement.md")
RESPELLINGS = Path("results/grading/respellings.md")
# lm-eval as it stands runs in one thread; of each kind on each benchmark it judges this many
PLAIN_SAMPLE = 40
BURST = 4096
CALL_GOLDS = {
    "bfcl_live": bfcl_golds,
    "bfcl_non_live": bfcl_golds,
    "acebench_en": acebench_golds,
    "acebench_zh": acebench_golds,
}


def row(name: str, figure: float, limit: float, unit: str = "", at_least: bool = False) -> None:
    """One line of the table."""
    reached = figure >= limit if at_least else figure <= limit
    target = f"{'>=' if at_least else '<='} {limit:g}"
    print(f"{name:58s} {figure:10.1f} {unit:4s} {target:>9s}   {'yes' if reached else 'no'}", flush=True)


def note(name: str, figure: float, unit: str) -> None:
    """A line without a target."""
    print(f"{name:58s} {figure:10.1f} {unit}", flush=True)


def warm() -> None:
    """Start both processes."""
    grade_many(GRADERS["math500"], [(rf"\boxed{{\frac{{{n}}}{{7}}}}", "0.5") for n in range(40)])


def integers_per_second() -> float:
    """The fast path, one thread, completions of 2,000 characters."""
    text = "Then x = {y} and so on. " * 80
    grader = GRADERS["aime24"]
    pairs = [(text + rf"\boxed{{{n % 1000}}}", f"{(n * 7) % 1000:03d}") for n in range(20_000)]
    started = time.perf_counter()
    for completion, gold in pairs:
        grader(completion, gold)
    return len(pairs) / (time.perf_counter() - started)


def respelled(gold: str) -> str:
    """The gold in another spelling."""
    return rf"{gold.replace(chr(92) + 'frac', chr(92) + 'dfrac')} "


def mixed_pairs() -> list[tuple[str, str]]:
    """500 groups of 8 completions with their golds."""
    answers, rng = golds("math500"), random.Random(0)
    return [
        (rf"Therefore \boxed{{{answer}}}.", gold)
        for gold in answers
        for answer in [gold] * 5 + [respelled(gold)] + rng.sample(answers, 2)
    ]


def rate(pairs: list[tuple[str, str]], warm_up: bool) -> float:
    """Answers per second through the pool, from an empty store of verdicts."""
    if warm_up:
        grade_many(GRADERS["math500"], pairs)
    pool().forget()
    started = time.perf_counter()
    grade_many(GRADERS["math500"], pairs)
    return len(pairs) / (time.perf_counter() - started)


def burst() -> tuple[int, float]:
    """False time-outs among BURST requests at once, all different, and the seconds."""
    pool().forget()
    errors: list[Grade] = []

    def ask(number: int) -> None:
        result = GRADERS["math500"](rf"\boxed{{\frac{{{number}}}{{8191}}}}", r"\frac{1}{8191}")
        if "error" in (result.verdict, result.second_verdict):
            errors.append(result)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(BURST)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(errors), time.perf_counter() - started


def shown(text: object) -> str:
    """Text in a cell of a table."""
    return "none" if text is None else f"`{str(text).replace('|', chr(92) + '|')}`"


def agreement() -> str:
    """Markdown: agreement of the graders with each other and with the labels, and every disagreement."""
    lines = [
        "| outputs | answers | correct | error | graders differ | label differs |",
        "|---|---|---|---|---|---|",
    ]
    differing: list[tuple[str, Grade, str, str]] = []

    def add(name: str, pairs: list[tuple[str, str]], labels: list[bool] | None, benchmark: str) -> None:
        grades = grade_many(GRADERS[benchmark], pairs)
        counts = Counter(g.verdict for g in grades)
        apart = [g.verdict != g.second_verdict for g in grades]
        marks = [None] * len(grades) if labels is None else labels
        wrong = [
            mark is not None and (g.verdict == "correct") != mark
            for g, mark in zip(grades, marks, strict=True)
        ]
        label_text = "no labels" if labels is None else str(sum(wrong))
        figures = (len(grades), counts["correct"], counts["error"], sum(apart), label_text)
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
        differing.extend(
            (name, g, pair[1], "none" if mark is None else "correct" if mark else "incorrect")
            for g, pair, mark, a, w in zip(grades, pairs, marks, apart, wrong, strict=True)
            if a or w
        )

    pairs, labels = labelled_outputs()
    add("MATH, gold as labelled (`gt`)", pairs, labels, "math500")
    add("MATH, gold of the data (`answer`)", labelled_outputs("answer")[0], labels, "math500")
    add("AIME, `Answer:` line", aime_outputs(), None, "math_dapo")
    add("AIME, box", aime_outputs(), None, "aime24")
    for name in MATH_SETS:
        rows = golds(name)
        texts = [gold_text(g["answer"] if isinstance(g, dict) else g) for g in rows]
        boxed = [(rf"\boxed{{{text}}}", gold) for text, gold in zip(texts, rows, strict=True)]
        add(f"golds of {name} against themselves", boxed, [True] * len(rows), name)
    lines += [
        "",
        "| outputs | answer | gold | primary | second | label | times |",
        "|---|---|---|---|---|---|---|",
    ]
    cells = [
        f"| {name} | {shown(g.extracted)} | {shown(gold)} | {g.verdict} | {g.second_verdict} | {label} |"
        for name, g, gold, label in differing
    ]
    lines += [f"{cell} {len(list(same))} |" for cell, same in groupby(cells)]
    return "\n".join(lines) + "\n"


def other_agreement() -> str:
    """Markdown: IFEval's, HumanEval's and CRUX's labelled outputs. CRUX's label is the published accuracy."""
    lines = [
        "| outputs | answers | correct | error | graders differ | label differs |",
        "|---|---|---|---|---|---|",
    ]
    responses = instruction_outputs()
    grades = grade_many(GRADERS["ifeval"], [(response, gold) for response, gold, *_ in responses])
    apart = sum(g.verdict != g.second_verdict for g in grades)
    for level, published in (("strict", 2), ("loose", 3)):
        verdicts = [g.verdict if level == "strict" else g.second_verdict for g in grades]
        labels = [row[published]["follow_all_instructions"] for row in responses]
        differ = sum((v == "correct") != label for v, label in zip(verdicts, labels, strict=True))
        lines.append(_line(f"IFEval, {level}, GPT-4", verdicts, apart, differ))
    try:
        require_grader("humaneval")
    except (MissingInput, UnsupportedPlatform) as error:
        print(f"humaneval: not run: {error}")
    else:
        programs = program_outputs()
        grades = grade_many(GRADERS["humaneval"], [(row["solution"], program_gold(row)) for row in programs])
        verdicts = [g.verdict for g in grades]
        differ = sum((v == "correct") != row["is_solved"] for v, row in zip(verdicts, programs, strict=True))
        lines.append(_line("HumanEval, GPT-4", verdicts, "one grader", differ))
    for model in ("Qwen2.5-7B-Instruct", "Qwen2.5-3B-Instruct"):
        pairs, summary = prediction_outputs(model)
        grades = grade_many(GRADERS["cruxeval"], pairs)
        verdicts = [g.verdict for g in grades]
        apart = sum(g.verdict != g.second_verdict for g in grades)
        accuracy = f"{100 * share([v == 'correct' for v in verdicts]):.2f}, published {summary['Acc']}"
        lines.append(_line(f"CRUX, {model}", verdicts, apart, accuracy))
    return "\n".join(lines) + "\n"


def call_agreement() -> str:
    """Markdown: BFCL's labelled outputs, and the golds of BFCL and ACEBench as answers to themselves."""
    lines = [
        "| function calls | answers | correct | error | graders differ | label differs |",
        "|---|---|---|---|---|---|",
    ]
    for category in LABELLED:
        rows = list(labelled_calls(category))
        verdicts = [check_calls(calls, tools, gold, category, True) for calls, tools, gold, _ in rows]
        differ = sum((v == "correct") != label for v, (*_, label) in zip(verdicts, rows, strict=True))
        lines.append(_line(f"BFCL, {category}", verdicts, "one grader", differ))
    for benchmark in CALL_GOLDS:
        lines += gold_rows(benchmark)
    return "\n".join(lines) + "\n"


def gold_rows(benchmark: str) -> list[str]:
    """A row for each category of a benchmark; none, and why, without its checker."""
    try:
        require_grader(benchmark)
    except MissingInput as error:
        print(f"{benchmark}: not run: {error}")
        return []
    pairs = CALL_GOLDS[benchmark](benchmark)
    grades = grade_many(GRADERS[benchmark], pairs)
    lines = []
    for category in dict.fromkeys(gold["category"] for _, gold in pairs):
        mine = [g for g, (_, gold) in zip(grades, pairs, strict=True) if gold["category"] == category]
        differ = sum(g.verdict != g.second_verdict for g in mine)
        wrong = sum(g.verdict != "correct" for g in mine)
        lines.append(_line(f"{benchmark}, {category}", [g.verdict for g in mine], differ, wrong))
    return lines


def _line(name: str, verdicts: Sequence[str], graders_differ: object, labels_differ: object) -> str:
    figures = (len(verdicts), verdicts.count("correct"), verdicts.count("error"))
    return f"| {' | '.join(map(str, (name, *figures, graders_differ, labels_differ)))} |"


def calls_per_second() -> float:
    """BFCL's golds through its checker's process."""
    pairs = bfcl_golds("bfcl_live") + bfcl_golds("bfcl_non_live")
    started = time.perf_counter()
    grade_many(GRADERS["bfcl_live"], pairs)
    return len(pairs) / (time.perf_counter() - started)


def respelling_table() -> str:
    """Markdown: how many respellings of each kind each grader finds correct, over all real golds."""
    rows: dict[str, list[tuple[str, str, str, Grade]]] = defaultdict(list)
    for name in MATH_SETS:
        made = [(kind, text, gold) for gold in golds(name) for kind, text in respellings(gold)]
        grades = grade_many(GRADERS[name], [(rf"\boxed{{{text}}}", gold) for _, text, gold in made])
        for (kind, text, gold), grade in zip(made, grades, strict=True):
            answer = gold_text(gold["answer"] if isinstance(gold, dict) else gold)
            rows[kind].append((name, text, str(answer), grade))
    lines = [
        "| kind | respellings | primary | lowest benchmark | math-verify | lm-eval as it is |",
        "|---|---|---|---|---|---|",
    ]
    plain = plain_rates(rows)
    for kind in KINDS:
        grades = [grade for *_, grade in rows[kind]]
        first = [grade.verdict == "correct" for grade in grades]
        second = [grade.second_verdict == "correct" for grade in grades]
        lowest = min(
            share([g.verdict == "correct" for n, *_, g in rows[kind] if n == name])
            for name in {row[0] for row in rows[kind]}
        )
        figures = (
            len(grades),
            *(f"{100 * r:.1f} %" for r in (share(first), lowest, share(second), plain[kind])),
        )
        lines.append(f"| `{kind}` | {' | '.join(map(str, figures))} |")
    return "\n".join(lines) + "\n"


def share(verdicts: list[bool]) -> float:
    """The part that is true."""
    return sum(verdicts) / len(verdicts)


def plain_rates(rows: dict[str, list[tuple[str, str, str, Grade]]]) -> dict[str, float]:
    """The share that lm-eval's own normalisation and comparison find equal, of the first of each kind on each
    benchmark. Its time limit is the alarm that it sets; none of these answers is slow.
    """
    sys.path.insert(0, str(grader_packages()))
    lm_eval = minerva_utilities()

    def is_equal(answer: str, gold: str) -> bool:
        equal: bool = lm_eval.is_equiv(*map(lm_eval.normalize_final_answer, (answer, gold)))
        return equal

    rates = {}
    for kind, made in rows.items():
        taken: Counter[str] = Counter()
        verdicts = []
        for name, text, gold, _ in made:
            taken[name] += 1
            if taken[name] <= PLAIN_SAMPLE:
                verdicts.append(is_equal(text.strip(), gold))
        rates[kind] = share(verdicts)
    return rates


def write_respellings() -> None:
    """Measure, print and write the table of respellings."""
    text = respelling_table()
    write_atomic(repository_root() / RESPELLINGS, text)
    print(f"\n{text}\nwritten to {RESPELLINGS}")


def main() -> None:
    """Print each figure with its target."""
    os.environ[PROCESSES_VARIABLE] = "2"
    if sys.argv[1:] == ["respellings"]:
        write_respellings()
        return
    print(f"{'':58s} {'figure':>10s} {'':4s} {'target':>9s}   reached")
    row("integer answers, one thread", integers_per_second(), 5000, "1/s", at_least=True)
    warm()
    errors, seconds = burst()
    row(f"false time-outs in a burst of {BURST} different answers", errors, 0)
    note("  seconds of that burst", seconds, "s")
    if shared_data() is None:
        print("All else: not run: no folder of real data (set ENTROBENCH_SHARED_DATA)")
        return
    pairs = labelled_outputs()[0]
    started = time.perf_counter()
    grade_many(GRADERS["math500"], pairs)
    row("800 real responses, after the processes' start", time.perf_counter() - started, 5, "s")
    mixed = mixed_pairs()
    row("mixed MATH500 answers, never seen", rate(mixed, warm_up=False), 500, "1/s", at_least=True)
    row("mixed MATH500 answers, parses kept", rate(mixed, warm_up=True), 500, "1/s", at_least=True)
    note("  each answer once, parses kept", rate(list(dict.fromkeys(mixed)), warm_up=False), "1/s")
    row("BFCL answers, the process's start included", calls_per_second(), 40, "1/s", at_least=True)
    text = f"{agreement()}\n{other_agreement()}\n{call_agreement()}"
    write_atomic(repository_root() / REPORT, text)
    print(f"\n{text}\nwritten to {REPORT}")
    write_respellings()


if __name__ == "__main__":
    main()
