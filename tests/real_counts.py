"""What tests of data share: the real benchmarks' problems, and the pin of a file as it stands."""

from pathlib import Path
from typing import Any

from entrobench.files import sha256_file

# As the survey of the data has them
PROBLEMS = {
    "aime24": 30,
    "aime25": 30,
    "amc23": 40,
    "amc83": 83,
    "math500": 500,
    "minerva": 272,
    "olympiadbench": 675,
    "cruxeval": 800,
    "ifeval": 541,
    "mmlu_pro": 12032,
    "humaneval": 164,
    "bfcl_live": 258 + 1053 + 16 + 24,
    "bfcl_non_live": 400 + 100 + 50 + 200 + 200 + 200,
    "acebench_en": 6 * 50 + 2 * 100,
    "acebench_zh": 6 * 50 + 2 * 100,
}


def pin_of(path: Path) -> dict[str, Any]:
    """An entry of source.files for a file that lies in the folder of real data."""
    return {"sha256": sha256_file(path), "ways": [{"kind": "file", "path": path.name}]}
