rule evaluate_cell:
    """n samples per problem of every benchmark of the cell, with one start of the model."""
    input:
        cell=RESULTS / "{scale}/{cell}/cell.yaml",
        model=LOOKUPS.trained,
        benchmarks=LOOKUPS.benchmark_files,
    output:
        RESULTS / "{scale}/{cell}/eval.done.json",
    log:
        RESULTS / "{scale}/{cell}/logs/evaluate.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/evaluate.tsv"
    threads: LOOKUPS.heavy_threads("evaluate", workflow.cores)
    resources:
        **LOOKUPS.heavy_job("evaluate", 6000),
    params:
        results=RESULTS,
    message:
        "Evaluating {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench launch {wildcards.cell} --step evaluate --scale {wildcards.scale}"
        " --results {params.results} > {log} 2>&1"


rule score_cell:
    """Metrics and their intervals from the samples, also without the problems that were trained on."""
    input:
        RESULTS / "{scale}/{cell}/eval.done.json",
        audit=LOOKUPS.audit,
    output:
        RESULTS / "{scale}/{cell}/scores.csv",
    log:
        RESULTS / "{scale}/{cell}/logs/score.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/score.tsv"
    container:
        # A vote groups answers by the grader's equality
        image("evaluate")
    resources:
        **LOOKUPS.score_job(),
    params:
        folder=str(RESULTS / "{scale}/{cell}"),
    message:
        "Scoring {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench score {params.folder} > {log} 2>&1"
