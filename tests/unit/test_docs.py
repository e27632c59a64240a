"""What the pages say is what the program does."""

import re
import shutil

import pytest

from entrobench.configs import Configs
from entrobench.cost.estimate import estimate
from entrobench.errors import CorruptFile
from entrobench.paths import repository_root
from entrobench.report.states import artifact_states, update_page

ROOT = repository_root()
DOCS = ROOT / "docs"
# How names of columns are written in the source: f"flow/{name}" stands for several
NAMED = re.compile(r'f?"((?:adapo|covariance|entropy|flow|groups|high_entropy|mismatch|opefo|papo|perplexity|'
                   r'polarity|position|record|repo|sampling|token_stats)/[\w{}]+)"')  # fmt: skip


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Without this machine's site.yaml, whose GPUs are not those of the pages."""
    folder = tmp_path_factory.mktemp("docs") / "configs"
    shutil.copytree(ROOT / "configs", folder, ignore=shutil.ignore_patterns("site.yaml"))
    return Configs(folder)


@pytest.mark.parametrize("paper", ["papo", "exchange", "repo", "opefo"])
def test_a_papers_page_lists_every_artifact_as_it_stands(paper, configs, tmp_path):
    page = tmp_path / f"{paper}.md"
    page.write_text((DOCS / "papers" / page.name).read_text())
    update_page(page, artifact_states(paper, "paper", configs, tmp_path))
    assert page.read_text() == (DOCS / "papers" / page.name).read_text(), (
        f"type: entrobench artifacts {paper} --docs docs/papers --results nowhere"
    )
    (tmp_path / "x.md").write_text("no marks")
    with pytest.raises(CorruptFile, match=r"x\.md: expected the lines"):
        update_page(tmp_path / "x.md", [])


def test_budgets_are_what_the_estimate_says(configs, tmp_path):
    rows = re.findall(
        r"\| ([\d,.]+) \| `make estimate TARGET=(\S+) SCALE=(\w+)` \|", (DOCS / "budgets.md").read_text()
    )
    assert len(rows) == 9
    for hours, target, scale in rows:
        found = estimate(target, scale, configs, tmp_path, None).gpu_hours
        assert f"{float(hours.replace(',', '')):.3g}" == f"{found:.3g}" or hours == f"{found:.1f}", target


def test_every_column_of_ours_is_explained():
    glossary = (DOCS / "metrics.md").read_text()
    explained = set(re.findall(r"`([\w/]+)`", glossary))
    explained |= {re.sub(r"positive$", "negative", name) for name in explained}
    sources = [
        p for part in ("algorithms", "training") for p in (ROOT / "src/entrobench" / part).glob("*.py")
    ]
    named = {name for path in sources for name in NAMED.findall(path.read_text())}
    assert len(named) > 30
    for name in named:
        pattern = re.compile(re.sub(r"\{[^}]*\}", r"\\w+", name) + r"\Z")
        assert any(pattern.match(each) for each in explained), name


@pytest.mark.parametrize(
    "page", sorted([*DOCS.rglob("*.md"), ROOT / "README.md"]), ids=lambda path: path.name
)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, place = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if place and file.suffix == ".md":
            heads = re.findall(r"(?m)^#+ (.+)$", file.read_text())
            anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert place in anchors, f"{target}: {sorted(anchors)}"
