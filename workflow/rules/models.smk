rule smoke_tiny:
    """The tiny base model, pretrained on noisy demonstrations; fails outside its bounds of accuracy and entropy."""
    input:
        "src/entrobench/models/tiny.py",
        "src/entrobench/data/demonstrations.py",
        "src/entrobench/data/smoke.py",
    output:
        RESULTS / "{scale}/models/smoke_tiny/model.json",
    log:
        RESULTS / "{scale}/logs/smoke_tiny.log",
    benchmark:
        RESULTS / "{scale}/logs/smoke_tiny.tsv"
    container:
        image("train")
    threads: 2
    resources:
        mem_mb=2000,
    params:
        folder=str(RESULTS / "{scale}/models/smoke_tiny"),
    message:
        "Pretraining the tiny base model"
    shell:
        "python workflow/scripts/pretrain_base_model.py {params.folder} 2>&1 | tee {log}"


rule smollm2_135m:
    """SmolLM2-135M-Instruct from the Python package that ships it, in Hugging Face's format."""
    output:
        RESULTS / "{scale}/models/smollm2_135m/model.json",
    log:
        RESULTS / "{scale}/logs/smollm2_135m.log",
    benchmark:
        RESULTS / "{scale}/logs/smollm2_135m.tsv"
    container:
        image("train")
    resources:
        mem_mb=3000,
    params:
        folder=str(RESULTS / "{scale}/models/smollm2_135m"),
    message:
        "Converting SmolLM2-135M-Instruct"
    shell:
        "python workflow/scripts/convert_smollm2.py {params.folder} > {log} 2>&1"
