# Base models that are pretrained once, for all machines
KEPT_MODELS = Path("results/reference/smoke/models")


rule smoke_tiny:
    """The tiny base model: the reference run's, or pretrained on noisy demonstrations where that is another one's."""
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
        **LOOKUPS.small_job(2000),
    params:
        folder=str(RESULTS / "{scale}/models/smoke_tiny"),
        kept=str(KEPT_MODELS / "smoke_tiny"),
    message:
        "Making the tiny base model"
    shell:
        "entrobench pretrain-model {params.folder} --kept {params.kept} 2>&1 | tee {log}"


rule smoke_agent:
    """The tiny base model of experiments with an environment: errands over several turns, and arithmetic."""
    input:
        "src/entrobench/models/tiny_agent.py",
        "src/entrobench/models/tiny.py",
        "src/entrobench/data/demonstrations.py",
        "src/entrobench/data/smoke_shell.py",
    output:
        RESULTS / "{scale}/models/smoke_agent/model.json",
    log:
        RESULTS / "{scale}/logs/smoke_agent.log",
    benchmark:
        RESULTS / "{scale}/logs/smoke_agent.tsv"
    container:
        image("train")
    threads: 2
    resources:
        **LOOKUPS.small_job(3000),
    params:
        folder=str(RESULTS / "{scale}/models/smoke_agent"),
        kept=str(KEPT_MODELS / "smoke_agent"),
    message:
        "Making the tiny base model for environments"
    shell:
        "entrobench pretrain-model {params.folder} --kept {params.kept} --agent 2>&1 | tee {log}"


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
        **LOOKUPS.small_job(3000),
    params:
        folder=str(RESULTS / "{scale}/models/smollm2_135m"),
    message:
        "Converting SmolLM2-135M-Instruct"
    shell:
        "entrobench convert-smollm2 {params.folder} > {log} 2>&1"


rule published_model:
    """A published model at its pinned revision, from the mirror or the hub: safetensors, config, tokenizer."""
    output:
        RESULTS / "{scale}/models/{model}/model.json",
    log:
        RESULTS / "{scale}/logs/{model}.log",
    benchmark:
        RESULTS / "{scale}/logs/{model}.tsv"
    wildcard_constraints:
        model="|".join(LOOKUPS.published_models()),
    resources:
        **LOOKUPS.small_job(4000),
    params:
        folder=str(RESULTS / "{scale}/models/{model}"),
        source=LOOKUPS.source("model"),
    message:
        "Getting {wildcards.model}"
    shell:
        "entrobench fetch-model {wildcards.model} {params.folder} > {log} 2>&1"
