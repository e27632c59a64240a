# Look-ups that the rules share. Pure functions of the configuration.


def cell_folder(scale, cell):
    return RESULTS / scale / str(cell)


def report_cells(scale, paper):
    """Cells that the report of a paper shows at this scale; empty `cells` in the scale means all that are listed."""
    wanted = CONFIGS.scale(scale).cells
    cells = listed_cells(paper, CONFIGS)
    return [
        cell
        for cell in cells
        if not wanted or f"{cell.experiment}/{cell.method}" in wanted
    ]


def scores_of(scale, papers):
    """Scores of every cell that the reports of `papers` show at this scale."""
    return [
        cell_folder(scale, cell) / "scores.csv"
        for paper in papers
        for cell in report_cells(scale, paper)
    ]


def config_files(wildcards):
    """Every file that resolving a cell reads; an edit elsewhere reruns nothing."""
    cell = CellId.parse(wildcards.cell, CONFIGS)
    return [
        CONFIGS.root / name
        for name in [
            "trainer.yaml",
            f"papers/{cell.paper}/protocol.yaml",
            f"scales/{wildcards.scale}.yaml",
            f"devices/{CONFIGS.scale(wildcards.scale).device}.yaml",
            *(f"methods/{method}.yaml" for method in CONFIGS.method_chain(cell.method)),
        ]
    ]


def start_model(wildcards):
    """Marker of the model that a cell starts from: a published one, or what an earlier cell has trained."""
    cell = CellId.parse(wildcards.cell, CONFIGS)
    earlier = previous_cell(cell, CONFIGS)
    if earlier is not None:
        return cell_folder(wildcards.scale, earlier) / "train.done.json"
    return (
        RESULTS
        / wildcards.scale
        / "models"
        / model_of(cell, CONFIGS.scale(wildcards.scale), CONFIGS)
        / "model.json"
    )


def training_set(wildcards):
    cell = CellId.parse(wildcards.cell, CONFIGS)
    dataset = dataset_of(cell, CONFIGS.scale(wildcards.scale), CONFIGS)
    return RESULTS / wildcards.scale / "data" / dataset / "train.parquet"


def trained(wildcards):
    """What has to be there before a cell is evaluated: its training, or the model itself for the base model."""
    cell = CellId.parse(wildcards.cell, CONFIGS)
    if CONFIGS.method(cell.method).trains:
        return cell_folder(wildcards.scale, wildcards.cell) / "train.done.json"
    return start_model(wildcards)


def benchmark_files(wildcards):
    cell = CellId.parse(wildcards.cell, CONFIGS)
    names = benchmarks_of(cell, CONFIGS.scale(wildcards.scale), CONFIGS)
    return [
        RESULTS / wildcards.scale / "benchmarks" / f"{name}.jsonl" for name in names
    ]


def slice_option(scale, name):
    """`--limit N` where the scale keeps only a seeded slice of this data set or benchmark."""
    limit = CONFIGS.scale(scale).limits.get(name)
    return "" if limit is None else f"--limit {limit}"


def prompt_files(wildcards):
    """The prompt template that a benchmark is asked with, if it has one."""
    template = CONFIGS.benchmark(wildcards.benchmark).settings.get("template")
    return [] if template is None else [CONFIGS.root / "prompts" / f"{template}.txt"]


# -- what a job asks the cluster for; on one machine only its memory, as before -----------------------------


def small_job(mem_mb=1000):
    """Resources of a rule that needs no GPU."""
    return cpu_job(SITE, mem_mb)


@cache
def devices_for(step, scale, name):
    """(nodes, GPUs per node) of training or evaluating one cell."""
    cell, settings = CellId.parse(name, CONFIGS), CONFIGS.scale(scale)
    if step == "evaluate":
        return 1, evaluation_gpus(cell, settings, CONFIGS)
    return devices_of(cell, settings, CONFIGS)


@cache
def job_of(step, mem_mb, scale, name):
    """Resources of training or evaluating one cell."""
    nodes, gpus = devices_for(step, scale, name)
    return cell_job(SITE, nodes, gpus, mem_mb, f"{step} {name} at scale {scale}")


def heavy_job(step, mem_mb):
    """Resources of a rule that trains or evaluates a cell: one look-up per key."""

    def look_up(key):
        return lambda wildcards: job_of(step, mem_mb, wildcards.scale, wildcards.cell)[
            key
        ]

    return {key: look_up(key) for key in cell_job(SITE, 1, 0, mem_mb, step)}


def heavy_threads(step):
    """All cores on one machine, so that heavy jobs run one after the other; on a cluster the cell's share."""
    if SITE is None:
        return workflow.cores

    def threads(wildcards):
        return cell_threads(SITE, devices_for(step, wildcards.scale, wildcards.cell)[1])

    return threads


def inputs_of_papers(scale, papers):
    """Every file that has to be on the cluster before training starts, for the listed cells of `papers`."""
    settings = CONFIGS.scale(scale)
    cells = [cell for paper in papers for cell in report_cells(scale, paper)]
    folder = RESULTS / scale
    models = {model_of(cell, settings, CONFIGS) for cell in cells}
    datasets = {
        dataset_of(cell, settings, CONFIGS)
        for cell in cells
        if CONFIGS.method(cell.method).trains
    }
    benchmarks = {
        name for cell in cells for name in benchmarks_of(cell, settings, CONFIGS)
    }
    return [
        *(folder / "models" / name / "model.json" for name in sorted(models)),
        *(folder / "data" / name / "train.parquet" for name in sorted(datasets)),
        *(folder / "benchmarks" / f"{name}.jsonl" for name in sorted(benchmarks)),
    ]


def wants_images():
    """Whether small jobs run in images: `--sdm apptainer`, and a site that uses images."""
    methods = workflow.deployment_settings.deployment_method
    site = site_or_none(CONFIGS.root)
    wanted = any(method.name == "APPTAINER" for method in methods)
    return wanted and (site is None or site.use_images)


def has_apptainer():
    return bool(shutil.which("apptainer") or shutil.which("singularity"))


def image(name):
    """`container:` of a rule: the SIF file where images are wanted. A plan can be made without Apptainer."""
    is_job = workflow.exec_mode.name != "DEFAULT"
    if not wants_images() or not (is_job or has_apptainer()):
        return None
    device = CONFIGS.scale(config["scale"]).device
    return str(image_file(name, device, site_or_none(CONFIGS.root)).resolve())


def check_images():
    """Refuse to run without Apptainer, and with images that are not the recorded ones."""
    if wants_images() and not has_apptainer():
        raise MissingInput(
            "Apptainer is not on PATH. Load its module, or set use_images: false in configs/site.yaml"
        )
    for path in {job.container_img_url for job in workflow.dag.needrun_jobs()} - {None}:
        require_locked(Path(path), lock_file())


# Not in a dry run
onstart:
    check_images()
