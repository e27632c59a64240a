"""What a paper says of its training and evaluation beside what its cells resolve to.

From the resolved cells, not from the protocol, so that a setting which a later layer changes shows.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrobench.cells import listed_cells, resolve
from entrobench.configs import Configs

# Layers that say nothing of a paper
OWN_LAYERS = ("trainer", "device", "cell")


@dataclass(frozen=True)
class Line:
    """A setting as some methods of an experiment have it; methods: empty for all of them. says: what the
    paper states; code: what the authors' code has, where that decides.
    """

    key: str
    methods: str
    runs: str
    says: str
    code: str
    where: str
    status: str
    note: str


def protocol_audit(paper: str, scale: str, configs: Configs, results: Path) -> dict[str, list[Line]]:
    """The lines of each experiment with listed cells. Raises UnknownName, ConfigError."""
    origins: dict[str, dict[str, dict[str, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    methods: dict[str, list[str]] = defaultdict(list)
    for cell in listed_cells(paper, configs):
        if cell.method in methods[cell.experiment]:
            continue  # another seed
        methods[cell.experiment].append(cell.method)
        for key, origin in resolve(str(cell), scale, configs, results)["provenance"].items():
            if not origin["layer"].startswith(OWN_LAYERS):
                origins[cell.experiment][key][cell.method] = origin
    return {
        experiment: [
            line for key, by_method in of.items() for line in _lines(key, by_method, methods[experiment])
        ]
        for experiment, of in origins.items()
    }


def _lines(key: str, by_method: dict[str, dict[str, Any]], every: list[str]) -> list[Line]:
    groups: dict[str, list[str]] = defaultdict(list)
    for method, origin in by_method.items():
        groups[repr(sorted(origin.items(), key=str))].append(method)
    lines = []
    for names in groups.values():
        origin = by_method[names[0]]
        # Untrained models have no settings of training
        is_common = len(groups) == 1 and len(names) >= len(every) - 1
        value, status = str(origin["value"]), origin["status"]
        lines.append(
            Line(
                key,
                "" if is_common else ", ".join(names),
                value,
                value if status == "stated" else "",
                value if status == "authors_code" else "",
                origin["source"],
                "scale" if origin["layer"].startswith("scale") else status,
                origin.get("note", ""),
            )
        )
    return lines


def as_markdown(paper: str, scale: str, found: dict[str, list[Line]]) -> str:
    """A page with a table an experiment."""
    lines = [
        f"# Protocol of {paper}, scale {scale}", "",
        "From the resolved cells. `says` is empty where the paper states no value; `scale`: set by the "
        "scale, whatever the paper says.",
    ]  # fmt: skip
    for experiment, of_experiment in found.items():
        lines += ["", f"## {experiment}", ""]
        lines += [
            "| setting | methods | here runs | says | authors' code | where | status | note |",
            "|---" * 8 + "|",
        ]
        lines += [
            "| " + " | ".join(_cell(text) for text in (
                line.key, line.methods, line.runs, line.says, line.code, line.where, line.status, line.note,
            )) + " |"
            for line in of_experiment
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
