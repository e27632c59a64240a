rule evaluate_cell:
    """n samples per problem of every benchmark of the cell, with one start of the model."""
    input:
        cell=RESULTS / "{scale}/{cell}/cell.yaml",
        model=LOOKUPS.trained,
        benchmarks=LOOKUPS.benchmark_files,
        prompts=LOOKUPS.prompt_files,
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
    """mean@n, pass@k and their intervals from the samples."""
    input:
        RESULTS / "{scale}/{cell}/eval.done.json",
    output:
        RESULTS / "{scale}/{cell}/scores.csv",
    log:
        RESULTS / "{scale}/{cell}/logs/score.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/score.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(),
    params:
        folder=str(RESULTS / "{scale}/{cell}"),
    message:
        "Scoring {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench score {params.folder} > {log} 2>&1"
