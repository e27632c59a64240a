# The images that rules run in, and the rules that make them. What asks Snakemake how it was called stands here.


def wants_images():
    """Whether small jobs run in images: `--sdm apptainer`, and a site that uses images."""
    methods = workflow.deployment_settings.deployment_method
    site = site_or_none(CONFIGS.root)
    wanted = any(method.name == "APPTAINER" for method in methods)
    return wanted and (site is None or site.use_images)


def has_apptainer():
    return bool(shutil.which("apptainer") or shutil.which("singularity"))


def image(name):
    """`container:` of a rule: the SIF file where images are wanted. A plan can be made without Apptainer."""
    is_job = workflow.exec_mode.name != "DEFAULT"
    if not wants_images() or not (is_job or has_apptainer()):
        return None
    device = CONFIGS.scale(RUN.scale).device
    return str(image_file(name, device, site_or_none(CONFIGS.root)).resolve())


# An image has no git: what runs in one is told here which code it is; and it sees the site's folders
if wants_images():
    export_code_state(CONFIGS.root.parent)
    export_binds(site_or_none(CONFIGS.root), RESULTS)


def check_images():
    """Refuse to run without Apptainer, and with images that are not the recorded ones."""
    if wants_images() and not has_apptainer():
        raise MissingInput(
            "Apptainer is not on PATH. Load its module, or set use_images: false in configs/site.yaml"
        )
    for path in {job.container_img_url for job in workflow.dag.needrun_jobs()} - {None}:
        require_locked(Path(path), lock_file())


# Not in a dry run
onstart:
    check_images()


rule image:
    """An image as it is recorded: checked, and built (by root) where it is missing or its recipe has changed."""
    input:
        "containers/install.sh",
        "containers/environment.sh",
        "containers/{image}.def",
        lambda w: [f"requirements/{lock}" for lock in LOCKS[f"{w.image}-{w.device}"]],
    output:
        touch(RESULTS / "images/{image}-{device}.checked"),
    log:
        RESULTS / "logs/image-{image}-{device}.log",
    benchmark:
        RESULTS / "logs/image-{image}-{device}.tsv"
    wildcard_constraints:
        image="|".join(NAMES),
        device="cpu|cuda",
    container:
        None
    threads: 2
    resources:
        mem_mb=4000,
    message:
        "Checking the image {wildcards.image}-{wildcards.device}, building it if needed"
    shell:
        "(entrobench images build {wildcards.image} --device {wildcards.device} --missing"
        " && entrobench images check {wildcards.image} --device {wildcards.device}) > {log} 2>&1"


rule images:
    """All images for the device of config["scale"]."""
    input:
        [
            RESULTS
            / "images"
            / f"{full_name(name, CONFIGS.scale(RUN.scale).device)}.checked"
            for name in NAMES
        ],


localrules:
    image,
    images,
