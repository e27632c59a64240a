"""Which training problems stand in a benchmark, exactly or nearly.

Exact: the same text, lower-cased, without anything that is no letter or digit. Near: Jaccard similarity of
the sets of SHINGLE_WORDS-word shingles of at least NEAR, and not exact; MinHash (datasketch) finds the
candidates, each is then measured without approximation. A Chinese character counts as a word. A problem in
another language, or the same problem with other words, is not found.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from entrobench.configs import Configs
from entrobench.data.text import normalised
from entrobench.errors import MissingInput
from entrobench.files import read_json, read_text, write_atomic, write_json

SHINGLE_WORDS = 5
NEAR = 0.5
PERMUTATIONS = 128
# MinHash only proposes, so it is told to propose too much; at 0.35 it lost 3 of 161 pairs of DAPO-Math-17K
CANDIDATE = 0.2
# 7 + 8 and 7 - 8 have the same letters and digits
AUDIT = "contamination.json"
GENERATED = "generated; training and test problems are disjoint as calculations"
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+")


@dataclass(frozen=True)
class Text:
    """A problem by its id."""

    id: str
    text: str
    gold: str = ""


@dataclass(frozen=True)
class Overlap:
    """One training problem that stands in a benchmark: one line of contamination.csv."""

    dataset: str
    training_id: str
    benchmark: str
    problem_id: str
    kind: Literal["exact", "near"]
    similarity: float
    same_gold: bool


def shingles(text: str) -> frozenset[str]:
    """The set of runs of SHINGLE_WORDS words; the whole text where it is shorter."""
    words = _WORD.findall(text.lower())
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return (
        frozenset(" ".join(words[start : start + SHINGLE_WORDS]) for start in range(last))
        if words
        else frozenset()
    )


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """|intersection| / |union|; 0 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 0.0


class Index:
    """The problems of several benchmarks, made once and asked about every training set."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Text]]) -> None:
        """Raises MissingInput without datasketch."""
        try:
            from datasketch import MinHashLSH
        except ImportError as error:
            raise MissingInput("datasketch is not installed; type: pip install datasketch==2.0.0") from error
        self._exact: dict[str, list[tuple[str, Text]]] = {}
        self._near = MinHashLSH(threshold=CANDIDATE, num_perm=PERMUTATIONS)
        self._shingles: dict[tuple[str, str], frozenset[str]] = {}
        self._problems: dict[tuple[str, str], Text] = {}
        for benchmark, problems in benchmarks.items():
            for problem in problems:
                if key := normalised(problem.text):
                    self._exact.setdefault(key, []).append((benchmark, problem))
        entries = [(benchmark, problem) for benchmark, problems in benchmarks.items() for problem in problems]
        for (benchmark, problem), (parts, signature) in zip(
            entries, _signatures(problem.text for _, problem in entries), strict=True
        ):
            if parts:
                place = (benchmark, problem.id)
                self._shingles[place], self._problems[place] = parts, problem
                self._near.insert(place, signature)

    def overlaps(self, dataset: str, rows: Sequence[Text]) -> list[Overlap]:
        """Exact and near pairs of a training set, in its order."""
        found = []
        for row, (parts, signature) in zip(rows, _signatures(row.text for row in rows), strict=True):
            exact = self._exact.get(normalised(row.text), [])
            taken = {(benchmark, problem.id) for benchmark, problem in exact}
            for benchmark, problem in exact:
                found.append(_overlap(dataset, row, benchmark, problem, "exact", 1.0))
            for place in sorted(self._near.query(signature)) if parts else ():
                similarity = jaccard(parts, self._shingles[place])
                if place not in taken and similarity >= NEAR:
                    found.append(_overlap(dataset, row, place[0], self._problems[place], "near", similarity))
        return found


def _signatures(texts: Iterable[str]) -> Iterator[tuple[frozenset[str], Any]]:
    from datasketch import MinHash

    empty = MinHash(num_perm=PERMUTATIONS, seed=1)
    for text in texts:
        parts = shingles(text)
        signature = empty.copy()
        if parts:
            signature.update_batch([part.encode() for part in parts])
        yield parts, signature


def _overlap(
    dataset: str, row: Text, benchmark: str, problem: Text, kind: Literal["exact", "near"], similarity: float
) -> Overlap:
    same = row.gold.strip() == problem.gold.strip()
    return Overlap(dataset, row.id, benchmark, problem.id, kind, round(similarity, 4), same)


def audit(datasets: Mapping[str, Sequence[Text]], benchmarks: Mapping[str, Sequence[Text]]) -> list[Overlap]:
    """Every pair of every training set with every benchmark."""
    index = Index(benchmarks)
    return [overlap for name, rows in datasets.items() for overlap in index.overlaps(name, rows)]


# -- files ---------------------------------------------------------------------------------------------------


def collect(
    configs: Configs, datasets_wanted: Iterable[str], benchmarks_wanted: Iterable[str]
) -> tuple[dict[str, list[Text]], dict[str, list[Text]], dict[str, str]]:
    """Those of the wanted training sets and benchmarks that are on this machine, and why the others are not
    looked at.

    Raises PinMismatch or CorruptFile for a file that is there and broken.
    """
    from entrobench.data.benchmarks import load_benchmark
    from entrobench.data.training_sets import select

    datasets: dict[str, list[Text]] = {}
    benchmarks: dict[str, list[Text]] = {}
    missing: dict[str, str] = {}
    for name in datasets_wanted:
        dataset = configs.dataset(name)
        if dataset.source["kind"] == "generated":
            missing[name] = GENERATED
        elif not dataset.recipe:
            missing[name] = dataset.needs or "no recipe in data/training_sets.py"
        else:
            try:
                selection, _ = select(dataset, download=False)
                datasets[name] = [Text(row.index, row.problem, row.gold) for row in selection.rows]
            except MissingInput as error:
                missing[name] = str(error)
    for name in benchmarks_wanted:
        benchmark = configs.benchmark(name)
        try:
            if benchmark.source["kind"] == "generated":
                missing[name] = GENERATED
                continue
            problems, _ = load_benchmark(benchmark, download=False)
            benchmarks[name] = [Text(row["id"], row["problem"], row["gold"]) for row in problems]
        except MissingInput as error:
            missing[name] = str(error)
    return datasets, benchmarks, missing


def write_audit(
    configs: Configs,
    folder: Path,
    datasets_wanted: Iterable[str] | None = None,
    benchmarks_wanted: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Write contamination.csv, .json (pairs audited) and .md (summary) to `folder`; return the .json.

    By default of all training sets and benchmarks.
    """
    datasets, benchmarks, missing = collect(
        configs,
        configs.names("datasets") if datasets_wanted is None else datasets_wanted,
        configs.names("benchmarks") if benchmarks_wanted is None else benchmarks_wanted,
    )
    overlaps = audit(datasets, benchmarks)
    header = [field.name for field in fields(Overlap)]
    write_atomic(folder / "contamination.csv", _csv([header, *(astuple(overlap) for overlap in overlaps)]))
    pairs = []
    for dataset, rows in datasets.items():
        for benchmark, problems in benchmarks.items():
            here = [o for o in overlaps if (o.dataset, o.benchmark) == (dataset, benchmark)]
            exact = {overlap.problem_id for overlap in here if overlap.kind == "exact"}
            near = {overlap.problem_id for overlap in here if overlap.kind == "near"} - exact
            pairs.append(
                {
                    "dataset": dataset,
                    "benchmark": benchmark,
                    "rows": len(rows),
                    "problems": len(problems),
                    "exact": len(exact),
                    "near": len(near),
                }
            )
    summary = {
        "shingle_words": SHINGLE_WORDS,
        "near_from": NEAR,
        "pairs": pairs,
        "not_audited": {name: " ".join(why.split()) for name, why in missing.items()},
    }
    write_atomic(folder / "contamination.md", _markdown(summary))
    write_json(folder / AUDIT, summary)
    return summary


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _markdown(summary: dict[str, Any]) -> str:
    lines = [
        "# Training problems that stand in a benchmark",
        "",
        f"Exact: same letters and digits. Near: {summary['shingle_words']}-word shingles, Jaccard of at "
        f"least {summary['near_from']}, and not exact. Ids: contamination.csv.",
        "",
        "| training set | rows | benchmark | problems | exact | near | share |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for pair in summary["pairs"]:
        share = (pair["exact"] + pair["near"]) / pair["problems"]
        lines.append(
            f"| {pair['dataset']} | {pair['rows']:,} | {pair['benchmark']} | {pair['problems']:,} | "
            f"{pair['exact']} | {pair['near']} | {share:.1%} |"
        )
    lines += ["", "Not audited:", ""]
    lines += [f"- {name}: {why}" for name, why in summary["not_audited"].items()] or ["- none"]
    return "\n".join(lines) + "\n"


# -- what an evaluation asks ---------------------------------------------------------------------------------


def contaminated(dataset: str, folder: Path) -> dict[str, set[str]]:
    """Benchmark -> its problems that stand in a training set, exactly or nearly, from write_audit's files in
    `folder`.

    A benchmark that was not compared is not there: that is not the same as being clean. Raises MissingInput
    or CorruptFile.
    """
    pairs = read_json(folder / AUDIT)["pairs"]
    found: dict[str, set[str]] = {pair["benchmark"]: set() for pair in pairs if pair["dataset"] == dataset}
    for row in csv.DictReader(io.StringIO(read_text(folder / "contamination.csv"), newline="")):
        if row["dataset"] == dataset and row["benchmark"] in found:
            found[row["benchmark"]].add(row["problem_id"])
    return found
