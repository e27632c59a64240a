rule resolve_cell:
    """Protocol + method + scale -> cell.yaml, with the provenance of each value."""
    input:
        LOOKUPS.config_files,
    output:
        RESULTS / "{scale}/{cell}/cell.yaml",
    log:
        RESULTS / "{scale}/{cell}/logs/resolve.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/resolve.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(),
    params:
        results=RESULTS,
    message:
        "Resolving {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench resolve {wildcards.cell} --scale {wildcards.scale} --results {params.results} > {log} 2>&1"


rule train_cell:
    """One training run. Checkpoints lie beside the output, so that a rerun resumes."""
    input:
        cell=RESULTS / "{scale}/{cell}/cell.yaml",
        model=LOOKUPS.start_model,
        data=LOOKUPS.training_set,
    output:
        done=RESULTS / "{scale}/{cell}/train.done.json",
        metrics=RESULTS / "{scale}/{cell}/metrics.parquet",
    log:
        RESULTS / "{scale}/{cell}/logs/train.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/train.tsv"
    threads: LOOKUPS.heavy_threads("train", lambda: workflow.cores)
    resources:
        **LOOKUPS.heavy_job("train", 10000),
    params:
        results=RESULTS,
    message:
        "Training {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench launch {wildcards.cell} --scale {wildcards.scale} --results {params.results} 2>&1 | tee {log}"
