"""`entrobench verify-data`: what is here, what is missing, what is wrong."""

import shutil

import pytest
import yaml
from command_line import entrobench
from real_counts import PROBLEMS

from entrobench.configs import Configs
from entrobench.data.verification import report, row_count, verify_all
from entrobench.errors import CorruptFile
from entrobench.files import read_json, sha256_file
from entrobench.paths import repository_root

ROWS = '{"problem": "p", "answer": "1"}\n{"problem": "q", "answer": "2"}\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with one benchmark and one other file, and a folder of real data that has both."""
    for kind in ("datasets", "benchmarks", "papers"):
        (tmp_path / "configs" / kind).mkdir(parents=True)
    real = tmp_path / "real"
    real.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (real / name).write_text(ROWS, encoding="utf-8")
    size, sha256 = len(ROWS), sha256_file(real / "a.jsonl")
    pin = {"bytes": size, "sha256": sha256, "rows": 2, "ways": [{"kind": "file", "path": "a.jsonl"}]}
    benchmark = {
        "benchmark": "toy",
        "title": "toy",
        "adapter": "math",
        "counts": {"problems": 2},
        "source": {"kind": "files", "files": {"problems": pin}},
    }
    write(tmp_path / "configs/benchmarks/toy.yaml", benchmark)
    other = {"files": [{"path": "b.jsonl", "bytes": size, "rows": 2, "sha256": sha256}]}
    write(tmp_path / "configs/other_files.yaml", other)
    monkeypatch.setenv("ENTROBENCH_ROOT", str(tmp_path))
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(real))
    return tmp_path


def write(path, content):
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def run(project):
    """Exit status of the command, and what it wrote: name -> check."""
    status = entrobench("verify-data", "--results", project / "results")
    checks = read_json(project / "results" / "data" / "verification.json")["checks"]
    return status, {check["name"]: check for check in checks}


def test_everything_is_here(project, monkeypatch, capsys):
    status, checks = run(project)
    assert status == 0
    assert {name: check["status"] for name, check in checks.items()} == {"toy": "ok", "b.jsonl": "ok"}
    assert checks["toy"]["rows"] == 2
    assert checks["toy"]["files"]["problems"]["bytes"] == len(ROWS)
    assert "mismatch: 0" in capsys.readouterr().out


def test_missing_files_are_no_failure_and_say_what_to_do(project, monkeypatch, capsys):
    shutil.rmtree(project / "real")
    status, checks = run(project)
    assert status == 0
    assert {check["status"] for check in checks.values()} == {"missing"}
    assert "ENTROBENCH_SHARED_DATA" in checks["toy"]["note"]
    assert "Type: snakemake results/paper/benchmarks/toy.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(("paths", "missing"), [("{}", ["mirrored"]), ("{mirror: MIRROR}", [])])
def test_the_mirror_of_the_site_is_looked_into(project, monkeypatch, paths, missing):
    for name in ("ENTROBENCH_MIRROR", "ENTROBENCH_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, "")  # so that what the commands set goes with the test
        monkeypatch.delenv(name)
    mirror = project / "mirror"
    (mirror / "me/mirrored").mkdir(parents=True)
    shutil.copy(project / "real/a.jsonl", mirror / "me/mirrored")
    benchmark = yaml.safe_load((project / "configs/benchmarks/toy.yaml").read_text())
    way = {"kind": "hub", "repository": "me/mirrored", "revision": "0" * 40, "path": "a.jsonl"}
    benchmark["source"]["files"]["problems"]["ways"] = [way]
    write(project / "configs/benchmarks/mirrored.yaml", benchmark | {"benchmark": "mirrored"})
    site = f"slurm: {{partition: gpu}}\npaths: {paths.replace('MIRROR', str(mirror))}\n"
    (project / "configs/site.yaml").write_text(site)
    _, checks = run(project)
    assert [name for name, check in checks.items() if check["status"] == "missing"] == missing
    monkeypatch.delenv("ENTROBENCH_MIRROR", raising=False)
    assert entrobench("contamination", "--results", project / "results") == 0
    assert list(read_json(project / "results/data/contamination.json")["not_audited"]) == missing


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-9], "truncated"),
        (lambda content: content.replace(b"q", b"r"), "has sha256"),
    ],
)
def test_a_file_that_differs_fails(project, monkeypatch, capsys, name, change, message):
    path = project / "real" / name
    path.write_bytes(change(path.read_bytes()))
    status, checks = run(project)
    assert status == 1
    (wrong,) = (check for check in checks.values() if check["status"] == "mismatch")
    assert message in wrong["note"]
    assert f"Type: rm {path}" in wrong["note"]
    assert "differ from their pins" in capsys.readouterr().err


def test_other_counts_and_rows_fail(project, monkeypatch):
    path = project / "configs/benchmarks/toy.yaml"
    content = yaml.safe_load(path.read_text())
    write(path, content | {"counts": {"problems": 3}})
    status, checks = run(project)
    assert (status, checks["toy"]["status"]) == (1, "mismatch")
    assert "expected 3 problems, found 2" in checks["toy"]["note"]


def test_row_counts(tmp_path):
    for name, content, rows in (
        ("a.jsonl", ROWS, 2),
        ("b.json", "[1, 2, 3]", 3),
        ("c.jsonl", '{"a": 1}\n', 1),
    ):
        (tmp_path / name).write_text(content)
        assert row_count(tmp_path / name) == rows
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptFile, match=r"d\.parquet cannot be read as parquet"):
        row_count(tmp_path / "d.parquet")


# Rows as the survey of the data has them; the adapters' and recipes' own figures are pinned in configs/
KNOWN = PROBLEMS | {
    "dapo_math_17k": 17917 - 519 - 7 - 5,
    "aime24/dapo_aime-2024.parquet": 30 * 32,
    "amc23/opd_test.parquet": 43 + 40,
    "entropy2performance_eval/aime8.parquet": 240,
    "tool_rlla_toolrl/rlla_4k_test.parquet": 80,
}


def test_the_real_data_are_what_they_are_known_to_be(real_data):
    checks = {check.name: check for check in verify_all(Configs(repository_root() / "configs"))}
    assert not [check for check in checks.values() if check.status == "mismatch"]
    assert {name: checks[name].rows for name in KNOWN} == KNOWN
    files = checks["bfcl_non_live"].files
    assert [files[f"question_{name}"]["rows"] for name in ("java", "javascript", "irrelevance")] == [
        100,
        50,
        240,
    ]
    files = checks["bfcl_live"].files
    assert [files[f"question_live_{name}"]["rows"] for name in ("irrelevance", "relevance")] == [882, 18]
    text = report(list(checks.values()))
    assert "other_texts=14116" in text
    assert "instructions=834" in text
