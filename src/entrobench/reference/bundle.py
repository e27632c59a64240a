"""The reference run's results as a few tables, small enough for git (results/reference/smoke).

    runs.csv            a row a cell: steps, seconds, tokens, machine, code, versions, when
    curves.parquet      a row a step: what the curve says of the method, not of machine or of verl's inside
    outcomes.parquet    a row a sample: problem, verdict, answer; its text where the seed is 0
    predictions.parquet a row a recorded step and formula (prediction.py)
    tokens.parquet      a row a recorded token, where the seed is 0
    records.parquet     manifest.json, train.done.json and eval.done.json of each cell, as text
    model/              the base model that all cells started from

A cell is added when it is trained and scored, and never again: what is in the bundle is done. Of one that is
the same run as another (plan.signature), runs.csv says so in `same_as`, and nothing else has it.
"""

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entrobench.cells import CellId, read_cell
from entrobench.configs import Configs
from entrobench.evaluation.places import Place
from entrobench.evaluation.samples import stream_samples
from entrobench.files import atomic_path, read_csv, read_json, read_parquet
from entrobench.paths import repository_root
from entrobench.provenance.manifest import machine
from entrobench.reference.prediction import predictions
from entrobench.runs.finished import DONE_FILE

# Columns of a curve that are no part of a bundle: verl's own bookkeeping, and what is constant here
LEFT_OUT = (
    "actor/loss", "actor/perf/", "actor/pg_", "critic/", "environment/", "global_seqlen/", "num_turns/",
    "perf/", "prompt_length/", "record/", "response/", "response_length/", "response_length_non_aborted/",
    "timing_per_token_ms/", "training/", "token_stats/",
)  # fmt: skip
KEY = ["paper", "experiment", "method", "seed"]
TABLES = ("curves", "outcomes", "predictions", "tokens", "records")
# Fields of a sample that stand in a row under their own names
OF_SAMPLE = ("verdict", "second_verdict", "gold", "n_tokens", "finish_reason", "prompt_sha256")
RECORDS = ("manifest.json", DONE_FILE, "eval.done.json")
# Of which recorded tokens and completions are kept
WHOLE_SEED = 0


class Bundle:
    """The tables of a folder; an empty one where nothing is in it yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self) -> pd.DataFrame:
        """runs.csv; empty where there is none. Raises CorruptFile."""
        path = self.folder / "runs.csv"
        if not path.exists():
            return pd.DataFrame(columns=[*KEY, "cell", "seconds", "same_as"])
        runs = read_csv(path)
        return runs.assign(same_as=runs["same_as"].astype(object).where(runs["same_as"].notna(), ""))

    def table(self, name: str) -> pd.DataFrame:
        """One of TABLES; empty where there is none. Raises CorruptFile."""
        path = self.folder / f"{name}.parquet"
        return read_parquet(path) if path.exists() else pd.DataFrame(columns=KEY)

    def cells(self) -> set[str]:
        """Names of the cells that are in it."""
        return set(self.runs()["cell"])

    def of(self, name: str, experiment: str) -> pd.DataFrame:
        """The rows of a table, or of `runs`, of one <paper>/<experiment>; a cell that is the same run as
        another has that one's.
        """
        runs = self.runs()
        frame = runs if name == "runs" else self.table(name)
        paper, _, of_paper = experiment.partition("/")
        here = runs[(runs["paper"] == paper) & (runs["experiment"] == of_paper)]
        parts = []
        for cell in here.to_dict("records"):
            key = [cell[column] for column in KEY]
            is_same = cell["same_as"] != ""
            source = list(runs.loc[runs["cell"] == cell["same_as"], KEY].iloc[0]) if is_same else key
            rows = frame[
                np.logical_and.reduce(
                    [frame[column] == value for column, value in zip(KEY, source, strict=True)]
                )
            ]
            parts.append(rows.assign(**dict(zip(KEY, key, strict=True))) if is_same else rows)
        return pd.concat(parts, ignore_index=True) if parts else frame.iloc[:0]

    def add(self, folders: Sequence[Path], configs: Configs) -> None:
        """Add finished and scored cells. Raises MissingInput or CorruptFile for one that is not."""
        new: dict[str, list[pd.DataFrame]] = {name: [] for name in ("runs", *TABLES)}
        for folder in folders:
            cell = CellId.parse(read_cell(folder / "cell.yaml")["cell"], configs)
            key: list[str | int] = [cell.paper, cell.experiment, cell.method, cell.seed]
            for name, frame in _tables_of(folder).items():
                for place, (column, value) in enumerate(zip(KEY, key, strict=True)):
                    frame.insert(place, column, value)
                new[name].append(frame)
        if not folders:
            return
        with self._alone():
            for name in TABLES:
                if new[name]:
                    self._write(name, _joined(self.table(name), new[name]))
            self._write_runs(new["runs"])  # last: it says what is there

    def add_same(self, cell: CellId, other: str) -> None:
        """Note that a cell is the same run as another, which is in the bundle."""
        row = dict(zip(KEY, [cell.paper, cell.experiment, cell.method, cell.seed], strict=True))
        with self._alone():
            self._write_runs([pd.DataFrame([row | {"cell": str(cell), "same_as": other}])])

    def _write_runs(self, new: Sequence[pd.DataFrame]) -> None:
        runs = _joined(self.runs(), new).sort_values(KEY)
        with atomic_path(self.folder / "runs.csv") as temporary:
            runs.to_csv(temporary, index=False)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that run different groups may share a bundle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, name: str, frame: pd.DataFrame) -> None:
        """A table in 32 bits, with each text once."""
        for column in frame.columns:
            if frame[column].dtype == "float64":
                frame[column] = frame[column].astype("float32")
            elif frame[column].dtype == object:
                frame[column] = frame[column].astype("category")
        with atomic_path(self.folder / f"{name}.parquet") as temporary:
            frame.sort_values(KEY, kind="stable").to_parquet(
                temporary, index=False, compression="zstd", compression_level=19
            )


def _joined(kept: pd.DataFrame, new: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Both, but of the new cells nothing that an addition which was killed has left."""
    if kept.empty:
        return pd.concat(new, ignore_index=True)
    cells = {tuple(frame.iloc[0][KEY]) for frame in new}
    is_other = [tuple(row) not in cells for row in kept[KEY].itertuples(index=False)]
    return pd.concat([kept[is_other], *new], ignore_index=True)


def _tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    cell = read_cell(folder / "cell.yaml")
    texts = {name: folder / name for name in RECORDS}
    found = {
        "outcomes": _outcomes(folder, cell),
        "records": pd.DataFrame(
            [{name: path.read_text(encoding="utf-8") for name, path in texts.items() if path.exists()}]
        ),
    }
    if not cell["trains"]:
        return found | {"runs": pd.DataFrame([{"cell": cell["cell"], "steps": 0, "seconds": 0.0}])}
    curve = read_parquet(folder / "metrics.parquet")
    found["runs"] = pd.DataFrame([_run(folder, cell, curve)])
    found["curves"] = curve[[name for name in curve.columns if not name.startswith(LEFT_OUT)]].copy()
    tokens = read_parquet(folder / "token_stats.parquet")
    found["predictions"] = predictions(tokens)
    if cell["seed"] == WHOLE_SEED:
        found["tokens"] = tokens
    return found


def _run(folder: Path, cell: dict[str, Any], curve: pd.DataFrame) -> dict[str, Any]:
    done = read_json(folder / DONE_FILE)
    manifest = read_json(folder / "manifest.json")
    generated = curve["sampling/prompts_generated"] * cell["verl"]["actor_rollout_ref.rollout.n"]
    return {
        "cell": cell["cell"],
        "steps": done["steps"],
        "seconds": done["seconds"],
        "lives": len(done["lives"]),
        "tokens_trained": int(curve["perf/total_num_tokens"].sum()),
        "tokens_generated": int((generated * curve["response_length"]).sum()),
        "started": done["lives"][0]["start"],
        "cpus": machine()["cpus"],
        "processor": processor(),
        "code": manifest["runs"]["train"]["code"]["commit"],
        "config_sha256": manifest["config_sha256"],
        "model_sha256": manifest["model"]["sha256"],
        **{name: done["versions"].get(name, "") for name in ("verl", "vllm", "torch")},
        "same_as": "",
    }


def processor() -> str:
    """The processor's name, as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _outcomes(folder: Path, cell: dict[str, Any]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for benchmark in cell["evaluation"]:
        rows += [
            {
                "benchmark": benchmark,
                "problem": sample.problem_id,
                "sample": sample.sample,
                "correct": sample.verdict == "correct",
                "answer": sample.extracted or "",
                **{name: getattr(sample, name) for name in OF_SAMPLE},
                "completion": sample.completion if cell["seed"] == WHOLE_SEED else None,
            }
            for sample in stream_samples(Place(folder).samples(benchmark), benchmark)
        ]
    return pd.DataFrame(rows)


def default_folder() -> Path:
    """Where the bundle lies, in git."""
    return repository_root() / "results" / "reference" / "smoke"


def missing(cells: Iterable[CellId], bundle: Bundle) -> list[CellId]:
    """Those of `cells` that are not in the bundle."""
    there = bundle.cells()
    return [cell for cell in cells if str(cell) not in there]
