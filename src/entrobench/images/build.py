"""Builds the images of containers/*.def: in a namespace with its own /tmp, /var/tmp and /dev/shm.

By root, or by a user as root of a user namespace.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from entrobench.errors import (
    ConfigError,
    EntrobenchError,
    MissingInput,
    UnknownName,
    UnsupportedPlatform,
    did_you_mean,
)
from entrobench.files import sha256_file, sha256_text, write_atomic
from entrobench.images.lint import SHARED_WITH_HOST, lint_definition
from entrobench.images.sif import (
    LOCKS,
    SHARED_FILES,
    LockedImage,
    exec_prefix,
    forget_local,
    local_file,
    recipe_digest,
    record,
    requirement_digests,
)
from entrobench.paths import repository_root

# An ordinary user's way to be root of files of his own
AS_ROOT = ("unshare", "--user", "--map-auto", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc")
DEBIAN_SUITE = "bookworm"  # whose Python is 3.11, which the locks are for
FREE_GB = {"cpu": 12, "cuda": 30}  # for the unpacked environment, the packages and the SIF file at once
# zstd at level 1 packs 27 times as fast as gzip and no larger
COMPRESSION = "-comp zstd -Xcompression-level 1"


def build_images(images: Sequence[str], folder: Path, lock: Path, is_published: bool = False) -> None:
    """Build images (`report-cpu`) into `folder` and record each beside `lock` as this machine's own.

    is_published: record them in `lock` itself, and their packages, for all who have the checkout.

    Raises UnsupportedPlatform for a user who cannot become root of a namespace, MissingInput without a tool,
    EntrobenchError when a build fails; an image that was there before stays until its successor is complete.
    """
    for image in images:
        if image not in LOCKS:
            raise UnknownName(f"no image {image!r}.{did_you_mean(image, LOCKS)} Images: {', '.join(LOCKS)}")
    become_root()
    _require_builder()
    workshop = (
        Path(os.environ.get("ENTROBENCH_BUILD_DIR", "~/.cache/entrobench/images")).expanduser().resolve()
    )
    if any(workshop.is_relative_to(shared) for shared in SHARED_WITH_HOST):
        raise ConfigError(
            f"ENTROBENCH_BUILD_DIR: expected a folder outside /tmp, /var/tmp and /dev, which a build sees "
            f"emptied; found {workshop}"
        )
    workshop.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    needed = max(FREE_GB[image.rpartition("-")[2]] for image in images)
    if (free := shutil.disk_usage(workshop).free / 1e9) < needed:
        raise EntrobenchError(
            f"{workshop}: expected {needed} GB of free disk for the build, found {free:.0f} GB.\n"
            f"  Free some, or name a folder on another disk: ENTROBENCH_BUILD_DIR"
        )
    with tempfile.TemporaryDirectory(dir=workshop, prefix="build-") as name:
        work = Path(name)
        debian = _make_base(work)
        for image in images:
            _build(image, work, folder, lock, debian, is_published)


def become_root() -> None:
    """Unless root runs this command, start it again as root of a user namespace, with subordinate ids.

    Raises UnsupportedPlatform where the machine gives the user none.
    """
    if os.geteuid() == 0:
        return
    try:
        done = subprocess.run([*AS_ROOT, "true"], capture_output=True, text=True, check=False)
        why = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        why = str(error)
    if why:
        raise UnsupportedPlatform(
            f"images are built by root, or by a user who has subordinate ids (/etc/subuid, newuidmap) on a "
            f"machine that allows user namespaces: {why}\n  Ask for them (usermod --add-subuids, package "
            f"uidmap), fetch images (make images-pull), or copy SIF files from where you can build them"
        )
    os.execvp(AS_ROOT[0], [*AS_ROOT, sys.executable, "-m", "entrobench.cli", *sys.argv[1:]])


def _require_builder() -> None:
    for tool, remedy in (
        (
            "apptainer",
            "bash containers/install-apptainer.sh /opt/apptainer; PATH=/opt/apptainer/usr/bin:$PATH",
        ),
        ("mmdebstrap", "apt-get install -y --no-install-recommends mmdebstrap"),
        ("mksquashfs", "apt-get install -y --no-install-recommends squashfs-tools"),
    ):
        if shutil.which(tool) is None:
            raise MissingInput(f"{tool} is not on PATH. On Debian type: {remedy}")


def _make_base(work: Path) -> dict[str, str]:
    """Debian's smallest system with Python in work/base; its digest and the mirror's date."""
    mirror = os.environ.get("DEBIAN_MIRROR") or _apt_mirror()
    mirror = mirror.rstrip("/") + "/"
    security = re.sub(r"/debian/", "/debian-security/", mirror)
    sources = [
        f"deb {mirror} {DEBIAN_SUITE} main",
        f"deb {mirror} {DEBIAN_SUITE}-updates main",
        f"deb {security} {DEBIAN_SUITE}-security main",
    ]
    _say(f"making the base of Debian {DEBIAN_SUITE}")
    # A date makes mmdebstrap's archive the same, byte for byte, for the same packages
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--skip=output/dev"]
    command += ["--include=python3-minimal,ca-certificates", DEBIAN_SUITE, str(work / "base.tar"), *sources]
    _run(command, work / "base.log", {"SOURCE_DATE_EPOCH": "1", "TMPDIR": str(work)})
    (work / "base").mkdir()
    _run(["tar", "-xf", str(work / "base.tar"), "-C", str(work / "base")], work / "base.log", {})
    snapshot = re.search(r"\d{8}T\d{6}Z", mirror)
    record = {"suite": DEBIAN_SUITE, "snapshot": snapshot[0] if snapshot else "none"}
    record["base"] = sha256_file(work / "base.tar")
    (work / "base.tar").unlink()
    return record


def _apt_mirror() -> str:
    """The mirror of Debian that this machine's apt uses. Raises MissingInput."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    with suppress(OSError):
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for line in output.splitlines():
            if line.endswith("/debian/"):
                return line
    raise MissingInput(
        "apt knows no mirror of Debian. Type: apt-get update, or name a mirror or a snapshot: "
        "DEBIAN_MIRROR=<address>"
    )


def machine_settings(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[Path, str]]:
    """(variables for the build, local path -> its place in the build) from pip's and uv's variables.

    An index, its certificates and a folder of wheels are this machine's: used in the build, kept nowhere.
    """
    variables: dict[str, str] = {}
    places: dict[Path, str] = {}
    for name, twin in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")):
        if value := environment.get(twin) or environment.get(name):
            variables |= {name: value, twin: value}
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        if value := environment.get(name):
            variables[name] = value
    certificates = environment.get("SSL_CERT_FILE") or environment.get("PIP_CERT")
    if certificates and Path(certificates).is_file():
        places[Path(certificates).resolve()] = "/mnt/ca.crt"
        variables |= {"PIP_CERT": "/mnt/ca.crt", "SSL_CERT_FILE": "/mnt/ca.crt"}
    links = []
    for number, link in enumerate((environment.get("PIP_FIND_LINKS") or "").split()):
        if Path(link).is_dir():
            places[Path(link).resolve()] = f"/mnt/wheels{number}"
            link = f"/mnt/wheels{number}"
        links.append(link)
    if links:
        variables["UV_FIND_LINKS"] = ",".join(links)
    return variables, places


def _build(
    image: str, work: Path, folder: Path, lock: Path, debian: dict[str, str], is_published: bool
) -> None:
    root = repository_root()
    name, _, device = image.rpartition("-")
    if findings := lint_definition(root / "containers" / f"{name}.def"):
        raise ConfigError("\n".join(findings))
    started = time.monotonic()
    # A copy of all that the build reads, since /tmp, where the checkout may lie, is another one in there
    plan = work / image
    (plan / "requirements").mkdir(parents=True)
    for source in (f"{name}.def", *SHARED_FILES, "isolated-root"):
        shutil.copy(root / "containers" / source, plan)
    for requirement in requirement_digests(image, root):
        shutil.copy(root / "requirements" / requirement, plan / "requirements")
    binds = _machine_folder(plan / "machine")
    values = {"base": str(work / "base"), "locks": " ".join(LOCKS[image])}
    if f"{name}-cuda" in LOCKS:
        values["device"] = device
    arguments = [part for key, value in values.items() for part in ("--build-arg", f"{key}={value}")]
    sif = plan / f"{image}.sif"
    log = folder / f"{image}.log"
    _say(f"building {image}; log: {log}")
    command = ["python3", str(plan / "isolated-root"), str(work / "private"), "env", "-C", str(plan)]
    command += ["apptainer", "build", *binds, "--mksquashfs-args", COMPRESSION, *arguments]
    (work / "unpacked").mkdir(exist_ok=True)
    settings = {"APPTAINER_TMPDIR": str(work / "unpacked"), "APPTAINER_CACHEDIR": str(work / "cache")}
    _run([*command, str(sif), f"{name}.def"], log, settings)
    if device == "cuda":
        _check_inside(sif, plan / "scratch", folder / f"{image}.check.log")
    packages = describe(sif, "packages")
    entry = LockedImage(
        sha256=sha256_file(sif),
        bytes=sif.stat().st_size,
        content=describe(sif, "content").strip(),
        recipe=recipe_digest(image, root / "containers"),
        requirements=requirement_digests(image, root),
        packages=sha256_text(packages),
        debian=debian,
        apptainer=_output(["apptainer", "--version"]).split()[-1],
        built=datetime.now(UTC).date().isoformat(),
        seconds=round(time.monotonic() - started),
    )
    arrived = folder / f".{image}.sif.new"
    shutil.move(sif, arrived)
    os.chmod(arrived, 0o755)
    os.replace(arrived, folder / f"{image}.sif")
    listing = lock.parent / "locks" if is_published else folder
    write_atomic(listing / f"{image}.packages.tsv", packages)
    if is_published:
        forget_local(image, lock)
    record(image, entry, lock if is_published else local_file(lock))
    shutil.rmtree(plan)
    _say(f"{image}: {entry.bytes / 1e9:.2f} GB, {entry.seconds} s, sha256 {entry.sha256}")


def _check_inside(sif: Path, scratch: Path, log: Path) -> None:
    """Run what `entrobench gpu-check` has for the image's packages in it, here and without a GPU: kernels are
    compiled, a model trained and sampled. Raises EntrobenchError with the stage that fails.
    """
    _say(f"checking it from inside; log: {log}")
    scratch.mkdir()
    prefix = exec_prefix(sif, nv=False, binds=[], environment={}, scratch=scratch)
    _run([*prefix, "entrobench", "gpu-check"], log, {})


def _machine_folder(folder: Path) -> list[str]:
    """Fill the folder that the build sees as /mnt; the options that bind it and this machine's wheels."""
    variables, places = machine_settings(os.environ)
    folder.mkdir()
    binds = ["--bind", f"{folder}:/mnt"]
    for source, place in places.items():
        if source.is_dir():
            (folder / Path(place).name).mkdir()
            binds += ["--bind", f"{source}:{place}"]
        else:
            shutil.copy(source, folder / Path(place).name)
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items())
    (folder / "machine.env").write_text(exports, encoding="utf-8")
    return binds


def describe(sif: Path, what: str) -> str:
    """What containers/describe.py says inside an image: `packages` or `content`."""
    script = (repository_root() / "containers" / "describe.py").read_text(encoding="utf-8")
    command = ["apptainer", "--silent", "exec", "--containall", "--pwd", "/", str(sif)]
    command += ["/opt/entrobench/bin/python", "-", what]
    return _output(command, script)


def _run(command: list[str], log: Path, settings: Mapping[str, str]) -> None:
    """Run a step of a build, its output in `log`. Raises EntrobenchError with the log's end."""
    with log.open("w", encoding="utf-8") as stream:
        status = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | settings,
            check=False,
        ).returncode
    if status:
        end = "".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-12:])
        raise EntrobenchError(f"{command[0]} ended with status {status}; the end of {log}:\n{end}")


def _output(command: list[str], text: str | None = None) -> str:
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        raise EntrobenchError(f"{shlex.join(command)} ended with status {result.returncode}: {result.stderr}")
    return result.stdout


def _say(text: str) -> None:
    print(f"[images] {text}", flush=True)
