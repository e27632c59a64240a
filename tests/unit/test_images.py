"""Images without Apptainer: recipes, locks, the linter of definitions, the command that runs in one."""

import os
import re
import sys
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from pathlib import Path

import pytest

from entrobench.errors import ConfigError, MissingInput, PinMismatch, UnknownName, UnsupportedPlatform
from entrobench.files import sha256_file
from entrobench.images.build import build_images, machine_settings
from entrobench.images.lint import lint_definition, lint_script
from entrobench.images.pull import pull_images
from entrobench.images.sif import (
    LOCKS,
    NAMES,
    LockedImage,
    exec_prefix,
    image_file,
    local_file,
    read_lock,
    read_published,
    recipe_digest,
    record,
    report_states,
    require_locked,
    requirement_digests,
    state_of,
)
from entrobench.machine.site import Paths, Site, Slurm
from entrobench.paths import repository_root

pytestmark = pytest.mark.slow

ROOT = repository_root()
CONTAINERS = ROOT / "containers"


def entry_of(image: str, path: Path) -> LockedImage:
    """A record of the file `path` as today's build of `image`."""
    return LockedImage(
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        content="0" * 64,
        recipe=recipe_digest(image, CONTAINERS),
        requirements=requirement_digests(image, ROOT),
        packages="0" * 64,
        debian={"suite": "bookworm", "snapshot": "none", "base": "0" * 64},
        apptainer="1.4.5",
        built="2026-01-01",
        seconds=1,
    )


@pytest.fixture
def recorded(tmp_path):
    """(SIF file, lock that records it)."""
    path, lock = tmp_path / "report-cpu.sif", tmp_path / "images.lock.yaml"
    path.write_bytes(b"a SIF file")
    record("report-cpu", entry_of("report-cpu", path), lock)
    return path, lock


# --- Recipes and requirements ---


@pytest.mark.parametrize("path", sorted(CONTAINERS.glob("*.def")), ids=lambda path: path.name)
def test_no_definition_touches_the_machine_that_builds(path):
    assert lint_definition(path) == []


def test_the_script_that_every_definition_copies_is_linted_with_it(tmp_path):
    for path in CONTAINERS.iterdir():
        if path.suffix in (".def", ".sh"):
            (tmp_path / path.name).write_text(path.read_text())
    with (tmp_path / "install.sh").open("a") as stream:
        stream.write("rm -rf /tmp/pip-*\n")
    assert all(lint_definition(tmp_path / f"{name}.def") for name in NAMES)


def test_each_image_has_a_definition_and_locks():
    assert {path.stem for path in CONTAINERS.glob("*.def")} == set(NAMES)
    for image in LOCKS:
        assert image.rpartition("-")[0] in NAMES
        assert len(requirement_digests(image, ROOT)) == len(LOCKS[image]) + 1


@pytest.mark.parametrize(
    "name", sorted({lock for locks in LOCKS.values() for lock in locks} | {"build.lock"})
)
def test_every_locked_package_has_a_hash(name):
    text = (ROOT / "requirements" / name).read_text()
    packages = re.findall(r"^[A-Za-z0-9].*?==(?:.*\\\n)*(?:.*\n)", text, re.MULTILINE)
    assert packages
    assert [package for package in packages if "--hash=sha256:" not in package] == []


def test_the_report_image_has_the_projects_own_requirements():
    # All that pyproject.toml asks for in data and report, but Snakemake, which runs outside of containers
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split("[<>=]", x)[0] for x in [*project["dependencies"], *extras["data"], *extras["report"]]}
    lines = [
        line
        for name in ("report.in", "site.in")
        for line in (ROOT / "requirements" / name).read_text().splitlines()
    ]
    assert {line for line in lines if line[0] not in "#-"} == wanted - {"snakemake"}
    evaluate = (ROOT / "requirements" / "evaluate.in").read_text()
    assert all(re.split("[<>=]", x)[0] in evaluate for x in extras["eval"])


@pytest.mark.parametrize(
    ("image", "large"), [("report-cpu", "cpu"), ("evaluate-cpu", "cpu"), ("evaluate-cuda", "cuda")]
)
def test_images_agree_on_the_version_of_a_package(image, large):
    def versions(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text()
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))

    whole = versions(f"{large}.lock")
    small = {
        k: v
        for lock in LOCKS[image]
        if lock not in ("torch.lock", "grader.lock", "appworld.lock")
        for k, v in versions(lock).items()
    }
    shared = small.keys() & whole.keys()
    assert len(shared) > 20
    assert {name for name in shared if whole[name] != small[name]} == set()


# --- The linter ---

BAD_COMMANDS = {
    "plain": "rm -rf /tmp/x",
    "all of it": "rm -rf /tmp/*",
    "the folder itself": "rm -r /tmp",
    "above": "rm -rf /",
    "above /var/tmp": "rm -rf /var",
    "device": "rm /dev/null",
    "var tmp": "rm -f /var/tmp/a /opt/b",
    "climbs": "rm -rf /opt/../tmp",
    "variable": "rm -rf $TMPDIR/build",
    "variable of the build": "rm -rf {{ folder }}",
    "after cd": "cd /tmp && rm -rf *",
    "relative": "rm -rf build",
    "pattern": "rm -rf /t?p/x",
    "braces": "rm -rf /{tmp,opt}/x",
    "quotes": 'rm -rf "/tmp/a b"',
    "split by quotes": "r'm' -rf /t'mp'/x",
    "continued": "rm -rf \\\n    /opt/a \\\n    /tmp/x",
    "continued within": "rm -rf /t\\\nmp/x",
    "path of rm": "/bin/rm -rf /tmp/x",
    "through env": "env A=1 nice rm -rf /tmp/x",
    "in a shell": "sh -c 'rm -rf /tmp/x'",
    "in a substitution": 'echo "$(rm -rf /tmp/x)"',
    "in backticks": "echo `rm -rf /tmp/x`",
    "in a condition": "if true; then rm -rf /tmp/x; fi",
    "find delete": "find /tmp -name x -delete",
    "find here": "find -delete",
    "find exec": "find /tmp -exec rm {} +",
    "xargs": "ls /tmp | xargs rm",
    "rmdir": "rmdir /tmp/x",
    "moved away": "mv /tmp/x /opt/x",
    "truncate": "truncate -s 0 /tmp/x",
    "python": "python3 -c 'import shutil; shutil.rmtree(\"/opt/x\")'",
    "command in a variable": "$DELETE /tmp/x",
    "eval": "eval 'whatever'",
    "rsync": "rsync -a --delete /opt/empty/ /tmp/",
    "unreadable": "echo 'a",
}
GOOD_COMMANDS = {
    "own folder": "rm -r /opt/uv-cache",
    "own folders": "rm -rf /var/lib/apt/lists /opt/x",
    "comment": "# rm -rf /tmp/*",
    "comment behind": "echo a # rm -rf /tmp",
    "words": 'echo "nothing is removed from /tmp"',
    "reads": "ls /tmp > /dev/null 2>&1",
    "a program of a known name": '"$environment/bin/pip" install x',
    "find in an own folder": "find /opt/x -name y -delete",
}


def definition(folder: Path, body: str) -> Path:
    path = folder / "x.def"
    path.write_text(f"Bootstrap: localimage\nFrom: base\n{body}\n")
    return path


@pytest.mark.parametrize("command", BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_a_deletion_on_the_machine_is_found(tmp_path, command):
    findings = lint_definition(definition(tmp_path, f"%post\n    {command}"))
    assert findings
    assert all(finding.startswith(f"{tmp_path / 'x.def'}:3: %post: ") for finding in findings)


@pytest.mark.parametrize("command", GOOD_COMMANDS.values(), ids=GOOD_COMMANDS)
def test_other_commands_pass(tmp_path, command):
    assert lint_definition(definition(tmp_path, f"%post\n    {command}")) == []


@pytest.mark.parametrize(
    "body",
    [
        "%setup\n    touch /opt/x",
        "%files\n    /tmp/wheels /opt/wheels",
        "%files\n    ../secrets /opt",
        "%files\n    $HOME/x /opt",
        "%test\n    rm -rf /tmp/x",
    ],
)
def test_other_sections_are_read_too(tmp_path, body):
    assert len(lint_definition(definition(tmp_path, body))) == 1


def test_a_script_is_linted_by_the_same_rules(tmp_path):
    script = tmp_path / "x.sh"
    script.write_text("set -e\nrm -rf /tmp/x\n")
    assert len(lint_script(script)) == 1


# --- The lock ---


def test_the_recorded_file_passes(recorded):
    path, lock = recorded
    assert require_locked(path, lock) == sha256_file(path)
    assert require_locked(path, lock) == sha256_file(path)  # now from the kept digest
    assert state_of("report-cpu", path.parent, lock)[0] == "ok"


def test_one_altered_byte_is_refused(recorded):
    path, lock = recorded
    expected = require_locked(path, lock)
    path.write_bytes(b"b SIF file")
    with pytest.raises(PinMismatch, match=f"expected sha256 {expected}.*found {sha256_file(path)}") as error:
        require_locked(path, lock)
    assert "make images IMAGES=report DEVICE=cpu" in str(error.value)
    assert state_of("report-cpu", path.parent, lock)[0] == "another file"
    with pytest.raises(PinMismatch):
        report_states(["report-cpu"], path.parent, lock, required=False)


def test_a_kept_digest_that_makes_no_sense_is_not_believed(recorded):
    path, lock = recorded
    expected = require_locked(path, lock)
    kept = path.with_name(f".{path.name}.sha256")
    assert expected in kept.read_text()
    for nonsense in ("", "[]", '{"of": 1}', kept.read_text().replace(expected, "x")):
        kept.write_text(nonsense)
        assert require_locked(path, lock) == expected


def test_a_file_without_a_record_and_a_missing_file(recorded, capsys):
    path, lock = recorded
    other = path.with_name("evaluate-cpu.sif")
    with pytest.raises(MissingInput, match="make images IMAGES=evaluate DEVICE=cpu"):
        require_locked(other, lock)
    report_states(["report-cpu", "evaluate-cpu"], path.parent, lock, required=False)
    assert re.search(r"^not built +evaluate-cpu", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(MissingInput, match="not built"):
        report_states(["evaluate-cpu"], path.parent, lock, required=True)
    other.write_bytes(b"")
    with pytest.raises(PinMismatch, match="expected a record of evaluate-cpu, found none"):
        require_locked(other, lock)


def test_a_changed_requirement_makes_the_record_stale(recorded):
    path, lock = recorded
    entry = read_lock(lock).images["report-cpu"]
    changed = entry.model_copy(update={"requirements": entry.requirements | {"report.lock": "0" * 64}})
    record("report-cpu", changed, lock)
    assert state_of("report-cpu", path.parent, lock) == ("stale", "changed since it was built: report.lock")
    record("report-cpu", entry.model_copy(update={"recipe": "0" * 64}), lock)
    assert state_of("report-cpu", path.parent, lock) == ("stale", "changed since it was built: recipe")
    with pytest.raises(PinMismatch, match="recipe"):
        report_states(["report-cpu"], path.parent, lock, required=True)


def test_a_record_leaves_the_others_alone(recorded):
    path, lock = recorded
    record("evaluate-cpu", entry_of("evaluate-cpu", path), lock)
    assert list(read_lock(lock).images) == ["evaluate-cpu", "report-cpu"]


def test_a_lock_with_an_unknown_key_is_named(recorded):
    path, lock = recorded
    lock.write_text(lock.read_text() + "    colour: red\n")
    with pytest.raises(ConfigError, match="colour"):
        require_locked(path, lock)


def test_the_committed_lock_can_be_read():
    lock = CONTAINERS / "images.lock.yaml"
    assert set(read_published(lock).images) <= set(LOCKS)
    for image, entry in read_published(lock).images.items():
        assert sha256_file(CONTAINERS / "locks" / f"{image}.packages.tsv") == entry.packages


# --- Names and the command ---


def test_where_an_image_lies(tmp_path):
    site = Site(slurm=Slurm(partition="gpu"), paths=Paths(images=str(tmp_path)))
    assert image_file("train", "cuda", site) == tmp_path / "train-cuda.sif"
    assert image_file("report", "cuda", site) == tmp_path / "report-cpu.sif"
    assert image_file("train", "cpu", None) == ROOT / "containers" / "images" / "train-cpu.sif"
    with pytest.raises(UnknownName, match="train, evaluate, report"):
        image_file("trian", "cpu", None)


def test_a_command_sees_named_folders_only(tmp_path):
    results, scratch = tmp_path / "results", tmp_path / "scratch"
    argv = exec_prefix(
        Path("/x/train-cuda.sif"),
        nv=True,
        binds=[results, results],
        environment={"HF_HUB_OFFLINE": "0", "LIST": "a,b"},
        scratch=scratch,
    )
    start = argv.index("apptainer")
    assert argv[start : start + 3] == ["apptainer", "--silent", "exec"]
    # A compiler or a folder of the caller's that is not in the image is worse than none
    assert {"--unset=CC", "--unset=TMPDIR", "--unset=ROCR_VISIBLE_DEVICES"} <= set(argv[1:start])
    assert argv[-1] == "/x/train-cuda.sif"
    assert {"--nv", "--no-home"} <= set(argv)
    assert "--cleanenv" not in argv  # it would take CUDA_VISIBLE_DEVICES away
    binds = [argv[n + 1] for n, word in enumerate(argv) if word == "--bind"]
    assert binds == [
        f"{scratch}:/tmp",
        f"{scratch}:/var/tmp",
        f"{ROOT.resolve()}:{ROOT.resolve()}:ro",
        f"{results}:{results}",
    ]
    variables = [argv[n + 1] for n, word in enumerate(argv) if word == "--env"]
    assert {"HF_HUB_OFFLINE=0", "TRANSFORMERS_OFFLINE=1", "HF_DATASETS_OFFLINE=1"} <= set(variables)
    assert '"LIST=a,b"' in variables


def test_what_apptainer_cannot_take_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="colon or comma"):
        exec_prefix(Path("x.sif"), nv=False, binds=[tmp_path / "a,b"], environment={})
    with pytest.raises(ConfigError, match="NAME"):
        exec_prefix(Path("x.sif"), nv=False, binds=[], environment={"NAME": 'a"b'})


def test_the_machines_index_and_certificates_reach_the_build(tmp_path):
    certificates, wheels = tmp_path / "ca.pem", tmp_path / "wheels"
    certificates.write_text("")
    wheels.mkdir()
    variables, places = machine_settings(
        {
            "PIP_INDEX_URL": "https://example.org/simple",
            "PIP_CERT": str(certificates),
            "PIP_FIND_LINKS": f"{wheels} https://example.org/links",
            "HF_TOKEN": "secret",
        }
    )
    assert variables == {
        "PIP_INDEX_URL": "https://example.org/simple",
        "UV_DEFAULT_INDEX": "https://example.org/simple",
        "PIP_CERT": "/mnt/ca.crt",
        "SSL_CERT_FILE": "/mnt/ca.crt",
        "UV_FIND_LINKS": "/mnt/wheels0,https://example.org/links",
    }
    assert places == {certificates: "/mnt/ca.crt", wheels: "/mnt/wheels0"}
    assert machine_settings({}) == ({}, {})


def test_a_build_is_refused_where_it_would_see_its_own_folder_emptied(tmp_path, monkeypatch):
    monkeypatch.setattr("entrobench.images.build._require_builder", lambda: None)
    monkeypatch.setenv("ENTROBENCH_BUILD_DIR", "/tmp/images")
    with pytest.raises(ConfigError, match="outside /tmp"):
        build_images(["report-cpu"], tmp_path, tmp_path / "lock.yaml")
    with pytest.raises(UnknownName, match="report-cuda"):
        build_images(["report-cuda"], tmp_path, tmp_path / "lock.yaml")


def test_who_cannot_build_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(MissingInput, match=r"apptainer is not on PATH.*containers/install-apptainer.sh"):
        build_images(["report-cpu"], tmp_path, tmp_path / "lock.yaml")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UnsupportedPlatform, match="copy SIF files from where you can build them"):
        build_images(["report-cpu"], tmp_path, tmp_path / "lock.yaml")


def test_a_user_with_subordinate_ids_builds_as_root_of_a_namespace(tmp_path, monkeypatch):
    program = tmp_path / "unshare"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["entrobench", "images", "build", "report"])
    started = []
    monkeypatch.setattr("os.execvp", lambda file, command: started.append((file, command)))
    monkeypatch.setattr("entrobench.images.build._require_builder", lambda: sys.exit(3))
    with pytest.raises(SystemExit):
        build_images(["report-cpu"], tmp_path, tmp_path / "lock.yaml")
    ((file, command),) = started
    assert file == "unshare"
    assert "--map-auto" in command
    assert command[-3:] == ["images", "build", "report"]


@pytest.mark.parametrize("image", ["train-cpu", "evaluate-cpu"])
def test_what_torch_asks_for_is_locked_beside_it(image):
    # Images install torch without its requirements; setuptools comes with Debian's venv
    text = "".join((ROOT / "requirements" / name).read_text(encoding="utf-8") for name in LOCKS[image])
    locked = set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))
    asked = {
        re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in requires("torch") if "extra" not in line
    }
    on_cpu = {name for name in asked if not name.startswith(("nvidia", "cuda", "triton"))}
    assert "sympy" in on_cpu
    assert on_cpu - locked <= {"setuptools"}


# --- Own builds and published ones ---


def test_an_own_build_holds_until_a_published_one_is_fetched(recorded, tmp_path):
    path, lock = recorded
    published = read_lock(lock).images["report-cpu"]
    path.write_bytes(b"an own build")
    record("report-cpu", entry_of("report-cpu", path), local_file(lock))
    before = lock.read_bytes()
    assert require_locked(path, lock) == sha256_file(path) != published.sha256
    place = tmp_path / "place"
    place.mkdir()
    (place / "report-cpu.sif").write_bytes(b"a SIF file")
    pull_images(["report-cpu"], f"file://{place}", tmp_path, lock)
    assert path.read_bytes() == b"a SIF file"
    assert require_locked(path, lock) == published.sha256
    assert lock.read_bytes() == before, "the record that git has stays as it is"


def test_an_image_comes_over_http_and_another_file_is_refused_and_changes_nothing(recorded, tmp_path):
    path, lock = recorded
    place = tmp_path / "place"
    place.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(place))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        path.unlink()
        with pytest.raises(MissingInput, match=r"report-cpu\.sif cannot be fetched: File not found"):
            pull_images(["report-cpu"], address, tmp_path, lock)
        (place / "report-cpu.sif").write_bytes(b"another file")
        with pytest.raises(PinMismatch, match="It is not the image that"):
            pull_images(["report-cpu"], address, tmp_path, lock)
        assert not path.exists()
        (place / "report-cpu.sif").write_bytes(b"a SIF file")
        pull_images(["report-cpu"], f"{address}/", tmp_path, lock)
        server.shutdown()
    assert path.read_bytes() == b"a SIF file"


def test_a_registry_is_asked_by_the_digest(recorded, tmp_path, monkeypatch):
    path, lock = recorded
    expected = read_lock(lock).images["report-cpu"].sha256
    path.unlink()
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "apptainer"
    script.write_text('#!/bin/sh\nprintf "a SIF file" > "$5"; echo "$6" > ' + str(tmp_path / "asked") + "\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    pull_images(["report-cpu"], "oras://registry.example/lab/images", tmp_path, lock)
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == f"oras://registry.example/lab/images:report-cpu-{expected[:12]}"
    assert path.read_bytes() == b"a SIF file"


@pytest.mark.parametrize("place", ["", "registry.example/lab"])
def test_without_a_place_nothing_is_fetched_and_the_advice_is_to_build(recorded, tmp_path, place):
    with pytest.raises(
        ConfigError, match=r"images_from in configs/site\.yaml.*\n.*make images IMAGES=report"
    ):
        pull_images(["report-cpu"], place, tmp_path, recorded[1])
