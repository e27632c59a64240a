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
            / f"{full_name(name, CONFIGS.scale(config['scale']).device)}.checked"
            for name in NAMES
        ],


localrules:
    image,
    images,
