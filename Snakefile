"""entrobench: data -> base model -> training -> evaluation -> report. `snakemake -n` shows the plan.

Parsed again in every job of a cluster run: imports nothing heavy, touches no network (contract 7).
"""

from pathlib import Path

from snakemake.utils import min_version, validate

from entrobench.cells import (
    CellId,
    benchmarks_of,
    dataset_of,
    listed_cells,
    model_of,
    previous_cell,
)
from entrobench.configs import Configs
from entrobench.images import (
    LOCKS,
    NAMES,
    full_name,
    image_file,
    lock_file,
    require_locked,
)
from entrobench.site import site_or_none

min_version("9.27")


configfile: "configs/config.yaml"


validate(config, "workflow/schemas/config.schema.json")

RESULTS = Path(config["results_dir"])
CONFIGS = Configs(Path(workflow.basedir) / "configs")
PAPERS = config["papers"]


wildcard_constraints:
    scale="[a-z]+",
    paper="[a-z]+",
    cell=r"[a-z]+/[\w.-]+/\w+/seed\d+",
    dataset=r"\w+",
    benchmark=r"\w+",
    model=r"\w+",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tool_n1.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/images.smk"


rule all:
    """The report of every paper in config["papers"] at config["scale"]."""
    default_target: True
    input:
        [RESULTS / config["scale"] / paper / "index.html" for paper in PAPERS],


rule cells:
    """Train and evaluate every cell of config["papers"] at config["scale"]."""
    input:
        [
            cell_folder(config["scale"], cell) / "scores.csv"
            for paper in PAPERS
            for cell in report_cells(config["scale"], paper)
        ],
