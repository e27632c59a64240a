SMOKE_BENCHMARKS = [
    name
    for name in CONFIGS.names("benchmarks")
    if CONFIGS.benchmark(name).source["kind"] == "generated"
]
FILE_BENCHMARKS = [
    name
    for name in CONFIGS.names("benchmarks")
    if CONFIGS.benchmark(name).source["kind"] == "file"
]


rule smoke_data:
    """Generated arithmetic: the training set and four benchmarks, all disjoint."""
    input:
        "src/entrobench/data/smoke.py",
    output:
        RESULTS / "{scale}/data/smoke_arithmetic/train.parquet",
        [RESULTS / "{scale}/benchmarks" / f"{name}.jsonl" for name in SMOKE_BENCHMARKS],
    log:
        RESULTS / "{scale}/logs/smoke_data.log",
    benchmark:
        RESULTS / "{scale}/logs/smoke_data.tsv"
    params:
        folder=str(RESULTS / "{scale}"),
        seed=CONFIGS.dataset("smoke_arithmetic").source["seed"],
    message:
        "Generating the smoke task"
    shell:
        "python workflow/scripts/make_smoke_data.py {params.folder} --seed {params.seed} > {log} 2>&1"


rule dapo_math_17k:
    """The real DAPO-Math-17K in PAPO's prompt, verified and deduplicated; at small scales a seeded slice."""
    input:
        "configs/datasets/dapo_math_17k.yaml",
    output:
        RESULTS / "{scale}/data/dapo_math_17k/train.parquet",
        RESULTS / "{scale}/data/dapo_math_17k/manifest.json",
    log:
        RESULTS / "{scale}/logs/dapo_math_17k.log",
    benchmark:
        RESULTS / "{scale}/logs/dapo_math_17k.tsv"
    params:
        limit=lambda w: slice_option(w.scale, "dapo_math_17k"),
    message:
        "Preparing DAPO-Math-17K"
    shell:
        "python workflow/scripts/prepare_dataset.py dapo_math_17k {output[0]} {params.limit} > {log} 2>&1"


rule file_benchmark:
    """A real benchmark file, verified, as canonical problems."""
    input:
        "configs/benchmarks/{benchmark}.yaml",
    output:
        RESULTS / "{scale}/benchmarks/{benchmark}.jsonl",
    log:
        RESULTS / "{scale}/logs/{benchmark}.log",
    benchmark:
        RESULTS / "{scale}/logs/{benchmark}.tsv"
    wildcard_constraints:
        benchmark="|".join(FILE_BENCHMARKS),
    params:
        limit=lambda w: slice_option(w.scale, w.benchmark),
    message:
        "Preparing {wildcards.benchmark}"
    shell:
        "python workflow/scripts/prepare_benchmark.py {wildcards.benchmark} {output} {params.limit} > {log} 2>&1"
