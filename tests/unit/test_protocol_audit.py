"""What a paper says beside what runs, from the resolved cells."""

from functools import cache

import pytest
from command_line import entrobench

from entrobench.configs import Configs
from entrobench.errors import UnknownName
from entrobench.paths import repository_root
from entrobench.report.protocol_audit import protocol_audit

CONFIGS = Configs(repository_root() / "configs")
RESULTS = repository_root() / "results"


@cache
def audit(paper, scale="paper"):
    return protocol_audit(paper, scale, CONFIGS, RESULTS)


def lines(paper, experiment, key, scale="paper"):
    return {line.methods: line for line in audit(paper, scale)[experiment] if line.key == key}


def test_a_setting_of_all_methods_is_one_line():
    (line,) = lines("papo", "14b-math", "actor_rollout_ref.actor.optim.lr").values()
    assert (line.runs, line.says, line.where, line.status) == ("1e-06", "1e-06", "App. B.4", "stated")


def test_methods_that_differ_have_lines_of_their_own():
    found = lines("papo", "7b-math", "shaper.omega_max")
    of_exploit = next(line for methods, line in found.items() if "papo_exploit" in methods)
    assert (of_exploit.methods, of_exploit.says) == ("papo_exploit, papo_exploit_expansion", "1.0")
    assert {line.runs for line in found.values()} == {"1.0", "1.03", "1.06"}


def test_what_is_not_stated_says_nothing_and_the_authors_code_has_its_column():
    (line,) = lines("papo", "7b-math", "trainer.total_training_steps").values()
    assert (line.runs, line.says, line.status) == ("402", "", "inferred")
    code = [line for line in audit("exchange")["7b"] if line.code]
    assert ("actor_rollout_ref.rollout.n", "8") in {(line.key, line.code) for line in code}


def test_a_value_of_the_scale_shows_as_such():
    (line,) = lines("papo", "7b-math", "trainer.total_training_steps", "smoke").values()
    assert (line.runs, line.says, line.status) == ("32", "", "scale")


def test_the_verb(capsys):
    assert entrobench("protocol", "opefo") == 0
    out = capsys.readouterr().out
    assert "## math-7b" in out
    assert all(row.count("|") - row.count(r"\|") == 9 for row in out.splitlines() if row.startswith("|"))
    with pytest.raises(UnknownName):
        protocol_audit("opefoo", "paper", CONFIGS, RESULTS)
