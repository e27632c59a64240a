rule train_cell:
    """One training run. Checkpoints lie beside the output, so that a rerun resumes.

    What of the configuration it depends on is a parameter; the job resolves the cell, and refuses to run where
    that has changed since it was submitted.
    """
    input:
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
        settings=LOOKUPS.settings("train"),
    message:
        "Training {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench launch {wildcards.cell} --scale {wildcards.scale} --results {params.results}"
        " --settings {params.settings} 2>&1 | tee {log}"
