rule tool_n1:
    """The authors' training split of Tool-N1 in PAPO's prompt, verified; at small scales a seeded slice."""
    input:
        "configs/datasets/tool_n1.yaml",
    output:
        RESULTS / "{scale}/data/tool_n1/train.parquet",
        RESULTS / "{scale}/data/tool_n1/manifest.json",
    log:
        RESULTS / "{scale}/logs/tool_n1.log",
    benchmark:
        RESULTS / "{scale}/logs/tool_n1.tsv"
    container:
        image("report")
    params:
        limit=lambda w: slice_option(w.scale, "tool_n1"),
    message:
        "Preparing Tool-N1"
    shell:
        "python workflow/scripts/prepare_tool_n1.py tool_n1 {output[0]} {params.limit} > {log} 2>&1"


rule tool_n1_rebuilt:
    """Tool-N1 made anew from xLAM-60k and ToolACE; not the published split."""
    input:
        "configs/datasets/tool_n1_rebuilt.yaml",
    output:
        RESULTS / "{scale}/data/tool_n1_rebuilt/train.parquet",
        RESULTS / "{scale}/data/tool_n1_rebuilt/test.parquet",
        RESULTS / "{scale}/data/tool_n1_rebuilt/manifest.json",
    log:
        RESULTS / "{scale}/logs/tool_n1_rebuilt.log",
    benchmark:
        RESULTS / "{scale}/logs/tool_n1_rebuilt.tsv"
    container:
        image("report")
    params:
        limit=lambda w: slice_option(w.scale, "tool_n1_rebuilt"),
    message:
        "Making Tool-N1 anew"
    shell:
        "python workflow/scripts/prepare_tool_n1.py tool_n1_rebuilt {output[0]} {params.limit} > {log} 2>&1"
