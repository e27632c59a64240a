"""Images for real: built by Apptainer, recorded, refused when altered, run as a user would run them.

The report image, which takes a minute or two, is built here; that of training is looked at where it is built.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entrobench.errors import PinMismatch
from entrobench.files import sha256_file
from entrobench.images.build import build_images, describe
from entrobench.images.sif import exec_prefix, image_file, lock_file, read_lock, require_locked, state_of
from entrobench.paths import repository_root

ROOT = repository_root()
MISSING = [tool for tool in ("apptainer", "mmdebstrap", "mksquashfs") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)} (docs/images.md)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="images are built by root"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(SIF file of the report image, lock), built here."""
    folder = tmp_path_factory.mktemp("images")
    lock = folder / "images.lock.yaml"
    build_images(["report-cpu"], folder, lock)
    return folder / "report-cpu.sif", lock


def run(argv: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, **options)


def inside(image: Path, folder: Path, script: str, **environment: str) -> str:
    """What a Python script prints in the image; `folder` is writable and the scratch folder."""
    argv = exec_prefix(image, nv=False, binds=[folder], environment=environment, scratch=folder)
    result = run([*argv, "python", "-c", script])
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_build_is_recorded(built):
    image, lock = built
    entry = read_lock(lock).images["report-cpu"]
    assert require_locked(image, lock) == entry.sha256 == sha256_file(image)
    assert entry.bytes == image.stat().st_size
    assert entry.bytes < 500e6
    assert state_of("report-cpu", image.parent, lock)[0] == "ok"
    assert describe(image, "content").strip() == entry.content
    assert not lock.exists(), "an own build is recorded beside it"
    listing = (image.parent / "report-cpu.packages.tsv").read_text()
    rows = [row.split("\t") for row in listing.splitlines()]
    licences = {(kind, name): licence for kind, name, version, licence in rows}
    assert licences["python", "pandas"] == "BSD-3-Clause"
    assert "GPL-2+" in licences["debian", "adduser"]
    assert [row for row in rows if not row[3]] == []
    assert not [name for kind, name in licences if name in ("torch", "vllm", "snakemake")]


def test_nothing_of_the_machine_is_in_the_image(built):
    image, _ = built
    listing = run(
        [
            "apptainer",
            "--silent",
            "exec",
            "--containall",
            str(image),
            "find",
            "/mnt",
            "/opt",
            "-maxdepth",
            "1",
        ]
    )
    assert set(listing.stdout.split()) == {"/mnt", "/opt", "/opt/entrobench", "/opt/requirements"}


def test_an_altered_image_is_refused(built, tmp_path):
    image, lock = built
    copy = tmp_path / image.name
    shutil.copy(image, copy)
    assert require_locked(copy, lock)
    with copy.open("r+b") as stream:
        stream.seek(-4096, os.SEEK_END)
        byte = stream.read(1)
        stream.seek(-4096, os.SEEK_END)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(PinMismatch, match="expected sha256"):
        require_locked(copy, lock)
    command = ["images", "check", "report", "--folder", str(tmp_path), "--lock", str(lock)]
    checked = run([sys.executable, "-m", "entrobench.cli", *command])
    assert checked.returncode == 1
    assert "PinMismatch" in checked.stderr


def test_what_a_command_sees(built, tmp_path, monkeypatch):
    image, _ = built
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    secret = Path.home() / ".entrobench_test_of_home"
    secret.touch()
    beside = ROOT.resolve().parent / ".entrobench_test_of_parent"
    beside.touch()
    script = f"""
import json, os, entrobench, pandas, matplotlib.pyplot
def writable(folder):
    try:
        open(os.path.join(folder, "written"), "w").close()
        return True
    except OSError:
        return False
print(json.dumps({{
    "source": entrobench.__file__, "home": os.path.exists({str(secret)!r}),
    "host": os.path.exists({str(beside)!r}),
    "repository": writable({str(ROOT)!r}), "image": writable("/opt"), "results": writable({str(tmp_path)!r}),
    "environment": dict(os.environ),
}}))
"""
    try:
        seen = json.loads(inside(image, tmp_path, script, LIST="a,b").splitlines()[-1])
    finally:
        secret.unlink()
        beside.unlink()
    assert seen["source"] == str(ROOT.resolve() / "src/entrobench/__init__.py")
    assert not seen["home"]
    assert (seen["repository"], seen["image"], seen["results"]) == (False, False, True)
    environment = seen["environment"]
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment["LIST"] == "a,b"
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    assert [environment[name] for name in switches] == ["1", "1", "1"]
    assert (tmp_path / "written").stat().st_uid == os.getuid()


def test_the_command_line_runs_without_network(built, tmp_path):
    image, _ = built
    argv = exec_prefix(image, nv=False, binds=[tmp_path], environment={}, scratch=tmp_path)
    script = [*argv, "entrobench", "resolve", "papo/7b-math/dapo/seed0", "--results", str(tmp_path)]
    result = run(["unshare", "--net", *script])
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "smoke/papo/7b-math/dapo/seed0/cell.yaml").exists()


def test_a_user_owns_what_a_job_writes(built, tmp_path):
    """As user 65534, with Apptainer's unprivileged mounts; /dev/fuse is opened to it in this test alone."""
    image, _ = built
    if shutil.which("squashfuse_ll") is None:
        pytest.skip("no squashfuse: apt-get install -y --no-install-recommends squashfuse fuse3")
    # Below /tmp, but not below pytest's folder, which is closed to other users
    folder = Path(run(["mktemp", "-d", "/tmp/entrobench-user-XXXXXX"]).stdout.strip())
    try:
        os.chown(folder, 65534, 65534)
        shutil.copy(image, folder / "report-cpu.sif")
        subprocess.run(["mknod", "-m", "666", str(folder / "fuse"), "c", "10", "229"], check=True)
        argv = exec_prefix(
            folder / "report-cpu.sif", nv=False, binds=[folder], environment={}, scratch=folder
        )
        # The checkout of root may be closed to the user too
        argv = [word for word in argv if not word.startswith(f"{ROOT.resolve()}:")]
        at = argv.index("--bind", argv.index(f"{folder}:/var/tmp"))
        del argv[at]
        argv[argv.index("--pwd") + 1] = "/"
        command = shlex.join(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv])
        mounted = f"mount --bind {folder}/fuse /dev/fuse && HOME={folder} {command} touch {folder}/result"
        result = run(["unshare", "--mount", "sh", "-c", mounted], cwd=folder)
        assert result.returncode == 0, result.stderr
        status = (folder / "result").stat()
        assert (status.st_uid, status.st_gid) == (65534, 65534)
        assert not status.st_mode & 0o002
    finally:
        shutil.rmtree(folder)


def test_two_builds_have_the_same_content(built, tmp_path):
    """The one built here and that of `make images`, where it is there, current and of the same Debian, whose
    mirror may have changed in between; else a second one.
    """
    _, lock = built
    other, first = lock_file(), read_lock(lock).images["report-cpu"]
    is_current = state_of("report-cpu", image_file("report", "cpu", None).parent, other)[0] == "ok"
    if not is_current or read_lock(other).images["report-cpu"].debian != first.debian:
        other = tmp_path / "images.lock.yaml"
        build_images(["report-cpu"], tmp_path, other)
    second = read_lock(other).images["report-cpu"]
    assert first.content == second.content
    assert first.packages == second.packages
    assert first.debian == second.debian


def made(name: str) -> Path:
    """The image of `make images`, which is the recorded one, or a skip that says what to type."""
    image = image_file(name, "cpu", None)
    if not image.exists():
        pytest.skip(f"{image} is not built; type: make images IMAGES={name} DEVICE=cpu")
    require_locked(image, lock_file())
    return image


def test_a_models_code_is_run_in_a_sandbox_within_the_image_of_evaluation(tmp_path):
    script = "from entrobench.rewards.code_sandbox import require_sandbox; require_sandbox(); print('ran')"
    assert inside(made("evaluate"), tmp_path, script).split() == ["ran"]


def test_the_training_image_imports_its_libraries(tmp_path):
    image = made("train")
    script = "import torch, vllm, verl; print(torch.__version__, verl.__version__)"
    assert inside(image, tmp_path, script).split()[-2:] == ["2.13.0+cpu", "0.9.1"]
