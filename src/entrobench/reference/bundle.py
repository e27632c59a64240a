"""The reference run's results as small tables, fit for git (results/reference/smoke).

    runs.csv     a row a cell: steps, seconds, tokens, machine, code, versions
    models/      the base models that the cells started from
    cells/<paper>/<experiment>/<method>.<table>.parquet, with the seeds of a method in one file:
      curves       a row a step: what the curve says of the method, not of machine or of verl's inside
      outcomes     a row a sample: problem, verdict, answer; its text where the seed is 0. step: of the
                   checkpoint that was evaluated, 0 for the cell's own model
      predictions  a row a recorded step and formula (prediction.py)
      tokens       a row a recorded token, where the seed is 0
      interventions  a row a replaced token, of cells that a figure shows so
      records      manifest.json, train.done.json and eval.done.json of each seed, as text

A cell is added when it is trained and scored, and never again: what is in the bundle is done. Of one that is
the same run as another (plan.signature), runs.csv says so in `same_as`, and it has no files.
"""

import fcntl
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from entrobench.cells import CellId, read_cell
from entrobench.configs import Configs
from entrobench.evaluation.places import Place, evaluated_steps
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
    "timing_per_token_ms/", "token_stats/", "training/epoch", "training/filter_groups/",
    "training/global_step", "training/num_turns/", "training/off_policy/",
)  # fmt: skip
KEY = ["paper", "experiment", "method", "seed"]
TABLES = ("curves", "outcomes", "predictions", "tokens", "interventions", "records")
# Fields of a sample that stand in a row under their own names. The prompt's hash, a quarter of a file, is not
# kept: it follows from the problem and the template that the manifest names
OF_SAMPLE = ("verdict", "second_verdict", "gold", "n_tokens", "finish_reason", "category", "goals")
RECORDS = ("manifest.json", DONE_FILE, "eval.done.json")
# Of which recorded tokens and completions are kept
WHOLE_SEED = 0
# Columns of recorded tokens that follow from others: not kept, and made again when they are read
DERIVED: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "t1": lambda t: np.exp(t["logp"]) * (t["logp"] + t["entropy"]),
    "polarity": lambda t: t["advantage"] * (t["t2"] - t["t1"]),
    "branch": lambda t: np.sign(t["polarity"]).astype("int8"),
}


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

    def cells(self) -> set[str]:
        """Names of the cells that are in it."""
        return set(self.runs()["cell"])

    @contextmanager
    def claim(self, cells: Iterable[CellId]) -> Iterator[list[CellId]]:
        """Those of `cells` that no other run works at; until this ends none other gets them."""
        folder = self.folder / ".claims"
        folder.mkdir(parents=True, exist_ok=True)
        claimed = []
        with ExitStack() as files:
            for cell in cells:
                file = files.enter_context((folder / str(cell).replace("/", "+")).open("w"))
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    claimed.append(cell)
            yield claimed

    def of(self, name: str, experiment: str, each_run_once: bool = False) -> pd.DataFrame:
        """The rows of one of TABLES, or of `runs`, of one <paper>/<experiment>, with KEY; a cell that is the
        same run as another has that one's, or none with each_run_once. Raises CorruptFile.
        """
        runs = self.runs()
        paper, _, of_paper = experiment.partition("/")
        files: dict[Path, pd.DataFrame] = {}
        parts = []
        for cell in runs[(runs["paper"] == paper) & (runs["experiment"] == of_paper)].to_dict("records"):
            if each_run_once and cell["same_as"]:
                continue
            source = runs[runs["cell"] == (cell["same_as"] or cell["cell"])]
            rows = source
            if name != "runs":
                path = self._path(name, source.iloc[0])
                if path not in files:
                    files[path] = _read(path)
                rows = files[path]
                rows = rows[rows["seed"] == source.iloc[0]["seed"]]
            parts.append(rows.assign(**{column: cell[column] for column in KEY}))
        found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=KEY)
        return found.assign(**DERIVED) if name == "tokens" and len(found) else found

    def add(self, folders: Sequence[Path], configs: Configs) -> None:
        """Add finished and scored cells. Raises MissingInput or CorruptFile for one that is not."""
        for folder in folders:
            cell = CellId.parse(read_cell(folder / "cell.yaml")["cell"], configs)
            tables = _tables_of(folder)
            with self._alone():
                for name in TABLES:
                    if name in tables:
                        self._put(name, tables[name], cell)
                self._write_runs(tables["runs"].assign(**_key(cell)))  # last: it says what is there

    def add_same(self, cell: CellId, other: str) -> None:
        """Note that a cell is the same run as another, which is in the bundle."""
        with self._alone():
            self._write_runs(pd.DataFrame([_key(cell) | {"cell": str(cell), "same_as": other}]))

    def _path(self, table: str, key: Any) -> Path:
        """key: a mapping with KEY."""
        folder = self.folder / "cells" / key["paper"] / key["experiment"]
        return folder / f"{key['method']}.{table}.parquet"

    def _put(self, table: str, rows: pd.DataFrame, cell: CellId) -> None:
        """A seed's rows instead of those that an addition which was killed may have left."""
        path = self._path(table, _key(cell))
        kept = _read(path)
        joined = pd.concat([kept[kept["seed"] != cell.seed], rows.assign(seed=cell.seed)], ignore_index=True)
        _write(path, joined.sort_values("seed", kind="stable"))

    def _write_runs(self, new: pd.DataFrame) -> None:
        kept = self.runs()
        joined = pd.concat([kept[~kept["cell"].isin(new["cell"])], new], ignore_index=True)
        with atomic_path(self.folder / "runs.csv") as temporary:
            joined[[*KEY, *joined.columns.drop(KEY)]].sort_values(KEY).to_csv(temporary, index=False)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that run different groups may share a bundle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _key(cell: CellId) -> dict[str, Any]:
    return dict(zip(KEY, (cell.paper, cell.experiment, cell.method, cell.seed), strict=True))


def _read(path: Path) -> pd.DataFrame:
    return read_parquet(path) if path.exists() else pd.DataFrame(columns=["seed"])


def _write(path: Path, frame: pd.DataFrame) -> None:
    """In 32 bits, the bytes of numbers apart, which compresses them best, and without what pandas notes."""
    numbers = [name for name in frame.columns if pd.api.types.is_float_dtype(frame[name])]
    table = pa.Table.from_pandas(frame.astype(dict.fromkeys(numbers, "float32")), preserve_index=False)
    with atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(None),
            temporary,
            compression="zstd",
            compression_level=19,
            write_statistics=False,
            use_dictionary=[name for name in frame.columns if name not in numbers],
            column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
        )


def _tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    cell = read_cell(folder / "cell.yaml")
    of_steps = [Place(folder, step).done.relative_to(folder).as_posix() for step in evaluated_steps(folder)]
    texts = {name: folder / name for name in (*RECORDS, *of_steps)}
    found = {
        "outcomes": _outcomes(folder, cell),
        "records": pd.DataFrame(
            [{name: path.read_text(encoding="utf-8") for name, path in texts.items() if path.exists()}]
        ),
    }
    replaced = sorted((folder / "interventions").glob("*.parquet"))
    if replaced and cell["seed"] == WHOLE_SEED:
        found["interventions"] = pd.concat(
            [read_parquet(path).assign(benchmark=path.stem) for path in replaced], ignore_index=True
        )
    if not cell["trains"]:
        return found | {"runs": pd.DataFrame([{"cell": cell["cell"], "steps": 0, "seconds": 0.0}])}
    curve = read_parquet(folder / "metrics.parquet")
    found["runs"] = pd.DataFrame([_run(folder, cell, curve)])
    found["curves"] = curve[[name for name in curve.columns if not name.startswith(LEFT_OUT)]].copy()
    tokens = read_parquet(folder / "token_stats.parquet")
    found["predictions"] = predictions(tokens)
    if cell["seed"] == WHOLE_SEED:
        found["tokens"] = tokens.drop(columns=list(DERIVED), errors="ignore")
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
    places = [Place(folder), *(Place(folder, step) for step in evaluated_steps(folder))]
    for place, benchmark in itertools.product(places, cell["evaluation"]):
        rows += [
            {
                "step": place.step or 0,
                "benchmark": benchmark,
                "problem": sample.problem_id,
                "sample": sample.sample,
                "correct": sample.verdict == "correct",
                "answer": sample.extracted or "",
                **{name: getattr(sample, name) for name in OF_SAMPLE},
                "completion": sample.completion if cell["seed"] == WHOLE_SEED else None,
            }
            for sample in stream_samples(place.samples(benchmark), benchmark)
        ]
    return pd.DataFrame(rows)


def default_folder() -> Path:
    """Where the bundle lies, in git."""
    return repository_root() / "results" / "reference" / "smoke"


def missing(cells: Iterable[CellId], bundle: Bundle) -> list[CellId]:
    """Those of `cells` that are not in the bundle."""
    there = bundle.cells()
    return [cell for cell in cells if str(cell) not in there]
