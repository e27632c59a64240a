REPORTED = {
    paper: artifact_files(paper, CONFIGS)
    for paper in CONFIGS.papers()
    if has_artifacts(paper, CONFIGS)
}


def artifact_paths(scale, paper, name):
    """Files of a table or figure."""
    return [RESULTS / scale / paper / file for file in REPORTED[paper][name]]


# At the start of a line the parser would take the name for its own keyword
flagged = report


def in_report(scale, paper, name):
    """The same as outputs; what `snakemake --report` shows of them: a table's numbers, a figure."""
    return [
        (
            flagged(
                path, category=paper, labels={"artifact": name, "form": path.suffix[1:]}
            )
            if path.suffix in (".csv", ".png")
            else path
        )
        for path in artifact_paths(scale, paper, name)
    ]


# A rule for each table and figure, so that one cell's result renders anew what shows it and nothing else;
# `snakemake papo_table1` is the one at config["scale"]
for paper, name in [(paper, name) for paper in REPORTED for name in REPORTED[paper]]:

    rule:
        name:
            f"render_{paper}_{name}"
        input:
            scores=lambda w, paper=paper, name=name: LOOKUPS.scores_among(
                w.scale, paper, artifact_cells(paper, name, w.scale, CONFIGS)
            ),
            interventions=lambda w, paper=paper, name=name: (
                LOOKUPS.interventions_among(
                    w.scale, paper, artifact_cells(paper, name, w.scale, CONFIGS)
                )
                if needs_interventions(paper, name, CONFIGS)
                else []
            ),
            benchmarks=lambda w, paper=paper, name=name: LOOKUPS.prepared(
                w.scale, benchmarks_of(paper, name, CONFIGS)
            ),
            artifacts=f"configs/papers/{paper}/artifacts.yaml",
            publication=f"configs/papers/{paper}/publication.yaml",
        output:
            *in_report("{scale}", paper, name),
        log:
            RESULTS / "{scale}" / paper / f"logs/{name}.log",
        benchmark:
            RESULTS / "{scale}" / paper / f"logs/{name}.tsv"
        container:
            image("report")
        resources:
            **LOOKUPS.report_job(paper),
        params:
            results=RESULTS,
            paper=paper,
            name=name,
        message:
            f"Rendering {name} of {paper}"
        shell:
            "entrobench report {params.paper} --only {params.name} --scale {wildcards.scale}"
            " --results {params.results} > {log} 2>&1"

    rule:
        name:
            f"{paper}_{name}"
        input:
            artifact_paths(RUN.scale, paper, name),


# `snakemake repo_fig12`: all parts of a figure
for paper, number in sorted(
    {
        (paper, match[1])
        for paper in REPORTED
        for name in REPORTED[paper]
        if (match := re.match(r"figure(\d+)", name))
    }
):

    rule:
        name:
            f"{paper}_fig{number}"
        input:
            [
                path
                for name in REPORTED[paper]
                if re.match(rf"figure{number}(?!\d)", name)
                for path in artifact_paths(RUN.scale, paper, name)
            ],


rule report:
    """The page of a paper, with its tables and figures."""
    input:
        scores=lambda w: LOOKUPS.scores_of(w.scale, [w.paper]),
        artifacts=lambda w: [
            path
            for name in artifacts_at(w.paper, w.scale, CONFIGS)
            for path in artifact_paths(w.scale, w.paper, name)
        ],
    output:
        report(
            RESULTS / "{scale}/{paper}/index.html",
            category="{paper}",
            labels={"artifact": "all", "form": "page"},
        ),
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
        "Writing the page of {wildcards.paper} at scale {wildcards.scale}"
    shell:
        "entrobench report {wildcards.paper} --scale {wildcards.scale}"
        " --results {params.results} > {log} 2>&1"


rule site:
    """Pages to browse everything that a scale has: results/<scale>/site/index.html."""
    input:
        lambda w: [RESULTS / w.scale / paper / "index.html" for paper in RUN.papers],
    output:
        RESULTS / "{scale}/site/index.html",
    log:
        RESULTS / "{scale}/logs/site.log",
    benchmark:
        RESULTS / "{scale}/logs/site.tsv"
    container:
        image("report")
    resources:
        **LOOKUPS.site_job(),
    params:
        results=RESULTS,
    message:
        "Writing the site of scale {wildcards.scale}"
    shell:
        "entrobench site --scale {wildcards.scale} --results {params.results} > {log} 2>&1"
