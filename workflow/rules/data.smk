SMOKE_BENCHMARKS = [
    name
    for name in CONFIGS.names("benchmarks")
    if CONFIGS.benchmark(name).source["kind"] == "generated"
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
