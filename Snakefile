"""entrobench: data -> base model -> training -> evaluation -> report. `snakemake -n` shows the plan.

Parsed again in every job of a cluster run: imports nothing heavy, touches no network (contract 7).
"""

import shutil
from functools import cache
from pathlib import Path

from snakemake.utils import min_version, validate

from entrobench.cells import (
    CellId,
    benchmarks_of,
    dataset_of,
    devices_of,
    evaluation_gpus,
    listed_cells,
    model_of,
    previous_cell,
)
from entrobench.cluster.resources import cell_job, cell_threads, cpu_job
from entrobench.configs import Configs
from entrobench.errors import MissingInput
from entrobench.images import (
    LOCKS,
    NAMES,
    full_name,
    image_file,
    lock_file,
    require_locked,
)
from entrobench.site import export_paths, load_site, site_or_none

min_version("9.27")


configfile: "configs/config.yaml"


validate(config, "workflow/schemas/config.schema.json")

RESULTS = Path(config["results_dir"])
CONFIGS = Configs(Path(workflow.basedir) / "configs")
PAPERS = config["papers"]
# Only a profile that submits jobs gives them a default runtime; then the site has to be known
ON_CLUSTER = "runtime" in (workflow.resource_settings.default_resources or {})
SITE = load_site(CONFIGS.root) if ON_CLUSTER else None
export_paths(site_or_none(CONFIGS.root))


wildcard_constraints:
    scale="[a-z]+",
    paper="[a-z]+",
    cell=r"[a-z]+/[\w.-]+/\w+/seed\d+",
    dataset=r"\w+",
    benchmark=r"\w+",
    model=r"\w+",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/images.smk"


# Seconds of work for each of hundreds of cells: not worth a job
localrules:
    all,
    cells,
    all_papers,
    all_inputs,
    resolve_cell,


rule all:
    """The report of every paper in config["papers"] at config["scale"]."""
    default_target: True
    input:
        [RESULTS / config["scale"] / paper / "index.html" for paper in PAPERS],


rule cells:
    """Train and evaluate every cell of config["papers"] at config["scale"]."""
    input:
        lambda w: scores_of(config["scale"], PAPERS),


rule all_papers:
    """Every listed cell of the four papers at config["scale"], and the report of each paper that has one."""
    input:
        lambda w: scores_of(config["scale"], CONFIGS.papers()),
        [
            RESULTS / config["scale"] / paper / "index.html"
            for paper in CONFIGS.papers()
            if (CONFIGS.root / "papers" / paper / "artifacts.yaml").exists()
        ],


rule all_inputs:
    """Every model, data set and benchmark that all_papers needs, for machines whose jobs have no internet."""
    input:
        lambda w: inputs_of_papers(config["scale"], CONFIGS.papers()),


# A paper's name as a target: its listed cells at config["scale"]
for paper in CONFIGS.papers():

    rule:
        name:
            paper
        input:
            lambda w, paper=paper: scores_of(config["scale"], [paper]),
