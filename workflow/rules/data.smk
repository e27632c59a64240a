rule smoke_data:
    """Generated arithmetic and errands: for each the training set and its benchmarks, all disjoint."""
    input:
        "src/entrobench/data/smoke.py",
        "src/entrobench/data/smoke_shell.py",
        "src/entrobench/environments/worlds/smoke_shell.py",
    output:
        expand(
            RESULTS / "{{scale}}/data/{dataset}/{file}",
            dataset=LOOKUPS.generated_datasets(),
            file=["train.parquet", "manifest.json"],
        ),
        [
            RESULTS / "{scale}/benchmarks" / f"{name}.jsonl"
            for name in LOOKUPS.generated_benchmarks()
        ],
    log:
        RESULTS / "{scale}/logs/smoke_data.log",
    benchmark:
        RESULTS / "{scale}/logs/smoke_data.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(),
    params:
        folder=str(RESULTS / "{scale}"),
        seed=CONFIGS.dataset("smoke_arithmetic").source["seed"],
    message:
        "Generating the smoke task"
    shell:
        "entrobench make-smoke-data {params.folder} --seed {params.seed} > {log} 2>&1"


rule training_set:
    """A training set from its pinned source, verified, filtered and asked as the paper asks it; at small scales
    a seeded slice."""
    output:
        RESULTS / "{scale}/data/{dataset}/{paper}/train.parquet",
        RESULTS / "{scale}/data/{dataset}/{paper}/manifest.json",
    log:
        RESULTS / "{scale}/logs/{dataset}.{paper}.log",
    benchmark:
        RESULTS / "{scale}/logs/{dataset}.{paper}.tsv"
    wildcard_constraints:
        dataset="|".join(LOOKUPS.prepared_datasets()),
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(2000),
    params:
        limit=lambda w: LOOKUPS.slice_option(w.scale, w.dataset),
        # Another prompt makes other rows
        prompt=lambda w: LOOKUPS.training_prompt(w.paper, w.dataset),
        source=LOOKUPS.source("dataset"),
    message:
        "Preparing {wildcards.dataset} as {wildcards.paper} asks it"
    shell:
        "entrobench prepare-dataset {wildcards.dataset} {output[0]} --prompt {wildcards.paper} {params.limit}"
        " > {log} 2>&1"


rule tool_n1_rebuilt:
    """Tool-N1 made anew from xLAM-60k and ToolACE; not the published split."""
    output:
        RESULTS / "{scale}/data/tool_n1_rebuilt/{paper}/train.parquet",
        RESULTS / "{scale}/data/tool_n1_rebuilt/{paper}/test.parquet",
        RESULTS / "{scale}/data/tool_n1_rebuilt/{paper}/manifest.json",
    log:
        RESULTS / "{scale}/logs/tool_n1_rebuilt.{paper}.log",
    benchmark:
        RESULTS / "{scale}/logs/tool_n1_rebuilt.{paper}.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(2000),
    params:
        limit=lambda w: LOOKUPS.slice_option(w.scale, "tool_n1_rebuilt"),
        prompt=lambda w: LOOKUPS.training_prompt(w.paper, "tool_n1_rebuilt"),
        source=LOOKUPS.source("dataset", "tool_n1_rebuilt"),
    message:
        "Making Tool-N1 anew"
    shell:
        "entrobench rebuild-tool-n1 {output[0]} --prompt {wildcards.paper} {params.limit} > {log} 2>&1"


rule prepared_benchmark:
    """A benchmark from its pinned source, verified, as canonical problems beside the manifest; where it cannot
    be had the manifest says why, and cells are evaluated without it.
    """
    output:
        RESULTS / "{scale}/benchmarks/{benchmark}.manifest.json",
    log:
        RESULTS / "{scale}/logs/{benchmark}.log",
    benchmark:
        RESULTS / "{scale}/logs/{benchmark}.tsv"
    wildcard_constraints:
        benchmark="|".join(LOOKUPS.prepared_benchmarks()),
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(),
    params:
        limit=lambda w: LOOKUPS.slice_option(w.scale, w.benchmark),
        target=str(RESULTS / "{scale}/benchmarks/{benchmark}.jsonl"),
        reach=LOOKUPS.reach("benchmark"),
        source=LOOKUPS.source("benchmark"),
    message:
        "Preparing {wildcards.benchmark}"
    shell:
        "entrobench prepare-benchmark {wildcards.benchmark} {params.target} --optional {params.limit}"
        " --reach {params.reach:q} > {log} 2>&1"


rule prepared_prompt:
    """What prompts take from a pinned file of other people's, or why it cannot be had here."""
    output:
        RESULTS / "{scale}/prompts/{prompt}.json",
    log:
        RESULTS / "{scale}/logs/prompt.{prompt}.log",
    benchmark:
        RESULTS / "{scale}/logs/prompt.{prompt}.tsv"
    wildcard_constraints:
        prompt=r"\w+",
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(),
    params:
        reach=LOOKUPS.reach("prompt"),
        source=LOOKUPS.source("prompt"),
    message:
        "Preparing the prompt {wildcards.prompt}"
    shell:
        "entrobench prepare-prompt {wildcards.prompt} {output[0]} --optional --reach {params.reach:q}"
        " > {log} 2>&1"


rule contamination:
    """Training problems that stand in a benchmark, of all sets that are on this machine."""
    input:
        expand("configs/datasets/{name}.yaml", name=CONFIGS.names("datasets")),
        expand("configs/benchmarks/{name}.yaml", name=CONFIGS.names("benchmarks")),
        "src/entrobench/data/contamination.py",
    output:
        RESULTS / "data/contamination.csv",
        RESULTS / "data/contamination.json",
        RESULTS / "data/contamination.md",
    log:
        RESULTS / "logs/contamination.log",
    benchmark:
        RESULTS / "logs/contamination.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(2000),
    params:
        results=RESULTS,
    message:
        "Comparing training sets with benchmarks"
    shell:
        "entrobench contamination --results {params.results} > {log} 2>&1"


rule contamination_of_experiment:
    """The same for the training set and the benchmarks of one experiment, once they are on this machine."""
    input:
        LOOKUPS.audited_files,
        "src/entrobench/data/contamination.py",
    output:
        RESULTS / "{scale}/{paper}/{experiment}/contamination.csv",
        RESULTS / "{scale}/{paper}/{experiment}/contamination.json",
        RESULTS / "{scale}/{paper}/{experiment}/contamination.md",
    log:
        RESULTS / "{scale}/logs/contamination_{paper}_{experiment}.log",
    benchmark:
        RESULTS / "{scale}/logs/contamination_{paper}_{experiment}.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.small_job(2000),
    params:
        results=RESULTS,
    message:
        "Comparing the training set of {wildcards.paper}/{wildcards.experiment} with its benchmarks"
    shell:
        "entrobench contamination --experiment {wildcards.paper}/{wildcards.experiment}"
        " --scale {wildcards.scale} --results {params.results} > {log} 2>&1"
