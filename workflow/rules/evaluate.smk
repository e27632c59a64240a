rule sample_cell:
    """n samples per problem of every benchmark of the cell that is here; one of LOOKUPS.shards() jobs."""
    input:
        model=LOOKUPS.trained,
        benchmarks=LOOKUPS.benchmark_files,
        prompts=LOOKUPS.prompt_files,
    output:
        RESULTS / "{scale}/{cell}/eval/sampled.{shard}of{shards}.json",
    log:
        RESULTS / "{scale}/{cell}/logs/sample.{shard}of{shards}.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/sample.{shard}of{shards}.tsv"
    wildcard_constraints:
        shard=r"\d+",
        shards=r"\d+",
    threads: LOOKUPS.heavy_threads("evaluate", lambda: workflow.cores)
    resources:
        **LOOKUPS.heavy_job("evaluate", 6000),
    params:
        results=RESULTS,
        settings=LOOKUPS.settings("sample"),
    message:
        "Sampling {wildcards.cell} at scale {wildcards.scale}, part {wildcards.shard} of {wildcards.shards}"
    shell:
        "entrobench launch {wildcards.cell} --step sample --shard {wildcards.shard}/{wildcards.shards}"
        " --scale {wildcards.scale} --results {params.results} --settings {params.settings} > {log} 2>&1"


rule grade_cell:
    """Verdicts of what was sampled, without a GPU; samples that were graded by the same grader are kept."""
    input:
        LOOKUPS.sampled,
    output:
        RESULTS / "{scale}/{cell}/eval.done.json",
    log:
        RESULTS / "{scale}/{cell}/logs/grade.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/grade.tsv"
    container:
        image("evaluate")
    threads: 2
    resources:
        **LOOKUPS.grade_job(),
    params:
        results=RESULTS,
        settings=LOOKUPS.settings("grade"),
    message:
        "Grading {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench grade-cell {wildcards.cell} --scale {wildcards.scale} --results {params.results}"
        " --settings {params.settings} > {log} 2>&1"


rule sample_checkpoint:
    """The same as sample_cell of a checkpoint along the way, which training has kept."""
    input:
        model=LOOKUPS.trained,
        benchmarks=LOOKUPS.benchmark_files,
    output:
        RESULTS / "{scale}/{cell}/eval/step{step}/sampled.{shard}of{shards}.json",
    log:
        RESULTS / "{scale}/{cell}/logs/sample.step{step}.{shard}of{shards}.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/sample.step{step}.{shard}of{shards}.tsv"
    wildcard_constraints:
        step=r"\d+",
        shard=r"\d+",
        shards=r"\d+",
    threads: LOOKUPS.heavy_threads("evaluate", lambda: workflow.cores)
    resources:
        **LOOKUPS.heavy_job("evaluate", 6000),
    params:
        results=RESULTS,
        settings=LOOKUPS.settings("sample"),
    message:
        "Sampling step {wildcards.step} of {wildcards.cell} at scale {wildcards.scale}, "
        "part {wildcards.shard} of {wildcards.shards}"
    shell:
        "entrobench launch {wildcards.cell} --step sample --checkpoint {wildcards.step}"
        " --shard {wildcards.shard}/{wildcards.shards}"
        " --scale {wildcards.scale} --results {params.results} --settings {params.settings} > {log} 2>&1"


rule grade_checkpoint:
    """The same as grade_cell of a checkpoint along the way."""
    input:
        LOOKUPS.sampled_checkpoint,
    output:
        RESULTS / "{scale}/{cell}/eval/step{step}/eval.done.json",
    log:
        RESULTS / "{scale}/{cell}/logs/grade.step{step}.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/grade.step{step}.tsv"
    wildcard_constraints:
        step=r"\d+",
    container:
        image("evaluate")
    threads: 2
    resources:
        **LOOKUPS.grade_job(),
    params:
        results=RESULTS,
        settings=LOOKUPS.settings("grade"),
    message:
        "Grading step {wildcards.step} of {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench grade-cell {wildcards.cell} --step {wildcards.step} --scale {wildcards.scale}"
        " --results {params.results} --settings {params.settings} > {log} 2>&1"


rule score_cell:
    """Metrics and their intervals from the samples, also without the problems that were trained on, and of
    checkpoints along the way where the experiment names some.
    """
    input:
        RESULTS / "{scale}/{cell}/eval.done.json",
        checkpoints=LOOKUPS.graded_checkpoints,
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
        results=RESULTS,
        settings=LOOKUPS.settings("score"),
    message:
        "Scoring {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "(entrobench resolve {wildcards.cell} --scale {wildcards.scale} --results {params.results} > /dev/null"
        " && entrobench score {params.results}/{wildcards.scale}/{wildcards.cell}) > {log} 2>&1"


rule choose_checkpoint:
    """The best of a cell's evaluated checkpoints, for a cell that goes on from it (REPO, Section 5.3)."""
    input:
        RESULTS / "{scale}/{cell}/scores.csv",
    output:
        RESULTS / "{scale}/{cell}/best.json",
    log:
        RESULTS / "{scale}/{cell}/logs/best.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/best.tsv"
    container:
        image("train")
    resources:
        # Of a LoRA run the checkpoint's model is merged
        **LOOKUPS.small_job(160000 if ON_CLUSTER else 2000),
    params:
        results=RESULTS,
    message:
        "Choosing the best checkpoint of {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench choose-checkpoint {wildcards.cell} --scale {wildcards.scale} --results {params.results}"
        " > {log} 2>&1"


rule intervene_cell:
    """Tokens of a cell's answers replaced and continued (exchange, Eq. 5 and 6); for the figures that show it."""
    input:
        RESULTS / "{scale}/{cell}/scores.csv",
    output:
        RESULTS / "{scale}/{cell}/interventions/done.json",
    log:
        RESULTS / "{scale}/{cell}/logs/intervene.log",
    benchmark:
        RESULTS / "{scale}/{cell}/logs/intervene.tsv"
    threads: LOOKUPS.heavy_threads("evaluate", lambda: workflow.cores)
    resources:
        **LOOKUPS.heavy_job("evaluate", 6000),
    params:
        results=RESULTS,
    message:
        "Replacing tokens of {wildcards.cell} at scale {wildcards.scale}"
    shell:
        "entrobench launch {wildcards.cell} --step intervene --scale {wildcards.scale}"
        " --results {params.results} > {log} 2>&1"
