"""entrobench: data -> base model -> training -> evaluation -> report. `snakemake -n` shows the plan.

Parsed again in every job of a cluster run: imports nothing heavy, touches no network.
"""

import re
import shutil
from pathlib import Path

from snakemake.utils import min_version

from entrobench.configs import Configs, RunConfig, checked
from entrobench.errors import MissingInput
from entrobench.images.sif import (
    LOCKS,
    NAMES,
    full_name,
    image_file,
    lock_file,
    require_locked,
)
from entrobench.machine.site import (
    export_binds,
    export_paths,
    load_site,
    site_or_none,
)
from entrobench.paths import from_here
from entrobench.provenance.manifest import export_code_state
from entrobench.report.artifacts import (
    artifact_cells,
    artifact_files,
    artifacts_at,
    benchmarks_of,
    has_artifacts,
    needs_interventions,
)
from entrobench.workflow.lookups import Lookups

min_version("9.27")


configfile: "configs/config.yaml"


RUN = checked(config, RunConfig, "configs/config.yaml or --config")
RESULTS = from_here(RUN.results)
CONFIGS = Configs(Path(workflow.current_basedir) / "configs")
# Only a profile that submits jobs gives them a default runtime; then the site has to be known
ON_CLUSTER = "runtime" in (workflow.resource_settings.default_resources or {})
SITE = load_site(CONFIGS.root) if ON_CLUSTER else None
# `--resources gpu=8`: one machine with eight, which its jobs share (profile workstation)
DECLARED = workflow.resource_settings.resources or {}
GPUS = int(DECLARED["gpu"].value) if "gpu" in DECLARED else 0
LOOKUPS = Lookups(CONFIGS, RESULTS, SITE, GPUS)
export_paths(site_or_none(CONFIGS.root))


wildcard_constraints:
    scale="[a-z]+",
    paper="|".join(CONFIGS.papers()),
    experiment=r"[\w.-]+",
    cell=r"[a-z]+/[\w.-]+/\w+/seed\d+",
    dataset=r"\w+",
    benchmark=r"\w+",
    model=r"\w+",


include: "workflow/rules/images.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# Seconds of work for each of hundreds of cells: not worth a job
localrules:
    all,
    cells,
    controls,
    all_papers,
    all_inputs,


rule all:
    """The report of every paper in config["papers"] at config["scale"], and the site."""
    default_target: True
    input:
        RESULTS / RUN.scale / "site/index.html",


rule cells:
    """Train and evaluate every cell of config["papers"] at config["scale"]."""
    input:
        lambda w: LOOKUPS.scores_of(RUN.scale, RUN.papers),


rule controls:
    """Scores of the untrained models of all papers; `entrobench controls` compares them with published ones."""
    input:
        lambda w: LOOKUPS.scores_of_controls(RUN.scale, CONFIGS.papers()),


rule all_papers:
    """Every listed cell of the four papers at config["scale"], and the report of each paper that has one."""
    input:
        lambda w: LOOKUPS.scores_of(RUN.scale, CONFIGS.papers()),
        [
            RESULTS / RUN.scale / paper / "index.html"
            for paper in CONFIGS.papers()
            if has_artifacts(paper, CONFIGS)
        ],


rule all_inputs:
    """Every model, data set and benchmark that all_papers needs, for machines whose jobs have no internet."""
    input:
        lambda w: LOOKUPS.inputs_of_papers(RUN.scale, CONFIGS.papers()),


# A paper's name as a target: its listed cells at config["scale"]
for paper in CONFIGS.papers():

    rule:
        name:
            paper
        input:
            lambda w, paper=paper: LOOKUPS.scores_of(RUN.scale, [paper]),
