"""Is every pinned file here, and is it what it has to be: bytes, SHA-256, rows, schema, known counts.

Nothing is downloaded. A file that is missing is no mistake, one that differs from its pin is.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from entrobench.cells import training_file
from entrobench.configs import Configs, Strict, load_yaml
from entrobench.data.benchmarks import read_benchmark, read_tasks
from entrobench.data.pins import require_count
from entrobench.data.prompt_files import read_prompt
from entrobench.data.smoke import TRAIN_ROWS, benchmark_problems, training_rows
from entrobench.data.sources import Fetched, PinnedFile, Way, fetch, pinned_files
from entrobench.data.training_sets import read_selection, select
from entrobench.errors import ConfigError, CorruptFile, MissingInput
from entrobench.files import read_jsonl, read_text

Kind = Literal["dataset", "benchmark", "prompt", "file"]
Status = Literal["ok", "missing", "mismatch"]


class OtherFile(Strict):
    """A file that is no source: another copy, model outputs, a fixture."""

    path: str
    bytes: int
    rows: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class OtherFiles(Strict):
    """configs/other_files.yaml."""

    files: list[OtherFile]


@dataclass
class Check:
    """The verdict on one training set, benchmark, prompt or file. note: what is wrong or what to do. get: the
    command that fetches and prepares it.
    """

    kind: Kind
    name: str
    status: Status
    note: str = ""
    rows: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    get: str = ""


def verify_all(configs: Configs) -> list[Check]:
    """One check for each training set, benchmark, file that prompts are made from, and other file."""
    checks = [_check("dataset", name, partial(verify_dataset, configs)) for name in configs.names("datasets")]
    checks += [
        _check("benchmark", name, partial(verify_benchmark, configs)) for name in configs.names("benchmarks")
    ]
    checks += [_check("prompt", name, partial(verify_prompt, configs)) for name in configs.names("prompts")]
    others = load_yaml(configs.root / "other_files.yaml", OtherFiles).files
    return checks + [_check("file", entry.path, partial(verify_file, entry)) for entry in others]


def _check(kind: Kind, name: str, fill: Callable[[Check], None]) -> Check:
    check = Check(kind, name, "ok")
    try:
        fill(check)
    except MissingInput as error:
        check.status, check.note = "missing", str(error)
    except (CorruptFile, ConfigError) as error:
        check.status, check.note = "mismatch", f"{type(error).__name__}: {error}"
    return check


def verify_dataset(configs: Configs, check: Check) -> None:
    """Fill in `check`. Raises MissingInput, CorruptFile or ConfigError."""
    config = configs.dataset(check.name)
    if config.environment:
        selection, _ = select(config)
        check.rows, check.counts = len(selection.rows), selection.counts
        return
    if config.source["kind"] == "generated":
        check.rows = len(training_rows(config.source["seed"]))
        require_count("rows", check.rows, TRAIN_ROWS, Path(config.dataset))
        return
    paper = next(name for name in configs.papers() if config.dataset in configs.protocol(name).prompt_of)
    check.get = f"snakemake results/paper/{training_file(paper, config.dataset, configs)}"
    if not config.recipe:
        raise MissingInput(config.needs or f"configs/datasets/{config.dataset}.yaml names no recipe")
    fetched = _rows_of_files(config.source, f"configs/datasets/{config.dataset}.yaml", check)
    selection = read_selection(config, fetched)
    check.rows, check.counts = len(selection.rows), selection.counts


def verify_benchmark(configs: Configs, check: Check) -> None:
    """Fill in `check`. Raises MissingInput, CorruptFile or ConfigError."""
    config = configs.benchmark(check.name)
    if config.environment:
        problems, check.counts = read_tasks(config)
        check.rows = len(problems)
        return
    if config.source["kind"] == "generated":
        check.rows = len(benchmark_problems(config.benchmark, config.source["seed"]))
        require_count("problems", check.rows, config.counts["problems"], Path(config.benchmark))
        return
    check.get = f"snakemake results/paper/benchmarks/{config.benchmark}.jsonl"
    fetched = _rows_of_files(config.source, f"configs/benchmarks/{config.benchmark}.yaml", check)
    problems, check.counts = read_benchmark(config, fetched)
    check.rows = len(problems)


def verify_prompt(configs: Configs, check: Check) -> None:
    """Fill in `check`. Raises MissingInput, CorruptFile or ConfigError."""
    config = configs.prompt(check.name)
    check.get = f"snakemake results/paper/prompts/{config.prompt}.json"
    fetched = _rows_of_files(config.source, f"configs/prompts/{config.prompt}.yaml", check)
    read_prompt(config, fetched)


def _rows_of_files(source: dict[str, Any], where: str, check: Check) -> dict[str, Fetched]:
    """Each file's bytes, hash and rows. A missing file does not keep the others from being looked at."""
    found = {}
    missing = []
    for name, pinned in pinned_files(source, where).items():
        try:
            fetched = fetch(pinned, f"{where}: {name}", download=False)
        except MissingInput as error:
            missing.append(str(error))
            check.files[name] = {"status": "missing"}
            continue
        rows = None
        if fetched.rows is not None and fetched.path.suffix != ".csv":
            rows = row_count(fetched.path)
            require_count("rows", rows, fetched.rows, fetched.path)
        check.files[name] = {"status": "ok", **fetched.record(), "rows": rows}
        found[name] = fetched
    if missing:
        raise MissingInput("\n".join(missing) + f"\n  Type: {check.get}   (downloads what is missing)")
    return found


def verify_file(entry: OtherFile, check: Check) -> None:
    """Fill in `check`. Raises MissingInput or CorruptFile."""
    pinned = PinnedFile(
        bytes=entry.bytes, sha256=entry.sha256, rows=entry.rows, ways=[Way(kind="file", path=entry.path)]
    )
    fetched = fetch(pinned, "configs/other_files.yaml", download=False)
    check.rows = row_count(fetched.path)
    require_count("rows", check.rows, entry.rows, fetched.path)
    check.files["file"] = {"status": "ok", **fetched.record()}


def row_count(path: Path) -> int:
    """Rows of a parquet file, entries of one JSON value, or lines of JSON. Raises CorruptFile."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.read_metadata(path).num_rows
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise CorruptFile(
                f"{path} cannot be read as parquet: {error}. Delete it and get it again."
            ) from error
    try:
        value = json.loads(read_text(path))
        return len(value) if isinstance(value, list) else 1
    except (ValueError, RecursionError):
        return len(read_jsonl(path))


def report(checks: list[Check]) -> str:
    """A table for people, the notes below it."""
    lines = [f"{'kind':10} {'name':62} {'status':9} {'rows':>8}  known counts"]
    for check in checks:
        shown = "  ".join(f"{name}={number}" for name, number in check.counts.items() if name != "problems")
        others = {n: f["rows"] for n, f in check.files.items() if f.get("rows") not in (None, check.rows)}
        files = "  files: " + " ".join(f"{n}={rows}" for n, rows in others.items()) if others else ""
        name = check.name if len(check.name) <= 62 else "..." + check.name[-59:]
        rows = "" if check.rows is None else f"{check.rows:,}"
        lines.append(f"{check.kind:10} {name:62} {check.status:9} {rows:>8}  {shown}{files}".rstrip())
    for status in ("missing", "mismatch"):
        notes = [check for check in checks if check.status == status]
        lines += ["", f"{status}: {len(notes)}"]
        lines += [f"- {check.kind} {check.name}: {check.note}" for check in notes]
    return "\n".join(lines)


def as_json(checks: list[Check]) -> dict[str, Any]:
    """The content of results/data/verification.json."""
    totals = {
        status: sum(check.status == status for check in checks) for status in ("ok", "missing", "mismatch")
    }
    return {"totals": totals, "checks": [asdict(check) for check in checks]}
