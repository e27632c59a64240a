rule report:
    """Table 1, Figure 5 and the page of a paper."""
    input:
        scores=lambda w: LOOKUPS.scores_of(w.scale, [w.paper]),
        artifacts="configs/papers/{paper}/artifacts.yaml",
    output:
        RESULTS / "{scale}/{paper}/index.html",
        multiext(str(RESULTS / "{scale}/{paper}/table1"), ".csv", ".md", ".tex"),
        multiext(str(RESULTS / "{scale}/{paper}/figure5"), ".png", ".pdf"),
    log:
        RESULTS / "{scale}/{paper}/logs/report.log",
    benchmark:
        RESULTS / "{scale}/{paper}/logs/report.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.report_job(),
    params:
        results=RESULTS,
    message:
        "Rendering the report of {wildcards.paper} at scale {wildcards.scale}"
    shell:
        "entrobench report {wildcards.paper} --scale {wildcards.scale}"
        " --results {params.results} > {log} 2>&1"
