"""OlympiadBench's rules, from the columns of its data; golds as they stand there."""

import json

import pytest

from entrobench.errors import ConfigError
from entrobench.rewards.graders import GRADERS

C, W = "correct", "incorrect"


def verdict(answer, gold, **columns):
    completion = rf"\boxed{{{answer}}}"
    result = GRADERS["olympiadbench"](completion, {"answer": gold} | columns).verdict
    assert GRADERS["olympiadbench"](completion, json.dumps({"answer": gold} | columns)).verdict == result
    return result


@pytest.mark.parametrize(
    ("gold", "answer", "wanted"),
    [
        ("1,3,5", "5, 1, 3", C),
        ("1,3,5", r"\{5, 3, 1\}", C),
        ("1,3,5", r"1, 3 \text{ and } 5", C),
        ("1,3,5", "1,3", W),
        ("1,3,5", "1,3,5,7", W),
        ("1,3,5", "1,3,3", W),
        ("-2,-2", "-2", W),
        ("16,3,1,1", "1,1,3,16", C),
        ("16,3,1,1", "1,3,16", W),
        (r"$\frac{32}{9}$,$\frac{1}{2}$", r"0.5, \frac{32}{9}", C),
        (r"$1$,$\frac{3 + \sqrt{21}}{2}$,$\frac{3 - \sqrt{21}}{2}$", r"1, \frac{3 \pm \sqrt{21}}{2}", C),
        ("$-2,0,2$", r"0, \pm 2", C),
        ("$221,$8$", "8,221", C),
        (r"$(\frac{1}{4}, \frac{1}{27})$", r"\frac{1}{4}, \frac{1}{27}", C),
        ("$69$,$84$", "69", W),
        ("2500,7500", "2500,7501", W),
        ("1,006", "1006", W),  # two answers, no thousands
    ],
)
def test_several_numbers_in_any_order(gold, answer, wanted):
    assert verdict(answer, gold, is_multiple_answer=True, answer_type="Numerical") == wanted


@pytest.mark.parametrize(
    ("gold", "answer", "is_multiple", "wanted"),
    [
        ("$(2,4)$", "(2, 4)", False, C),
        ("$(2,4)$", "2,4", False, C),
        ("$(2,4)$", "(4,2)", False, W),
        ("$(2,4)$", "(2,4,6)", False, W),
        (r"$(4, \log _{10} 2)$", r"\left(4, \log_{10} 2\right)", False, C),
        ("$(3,2)$", "(x,y)=(3,2)", False, C),
        ("$(1,1), (3,2)$", "(3,2),(1,1)", True, C),
        ("$(1,1), (3,2)$", "(2,3),(1,1)", True, W),
        ("$(1,1), (3,2)$", "(1,1)", True, W),
        ("$(6,3),(9,3),(9,5),(54,5)$", r"\{(54,5),(9,5),(9,3),(6,3)\}", True, C),
        (r"$(45^{\circ}, 60^{\circ}),(135^{\circ}, 60^{\circ})$", "(135,60),(45,60)", True, C),
        (r"$(-\frac{1}{2}, \frac{7}{2})$", r"(-0.5, 3.5)", True, C),
    ],
)
def test_tuples_keep_their_order(gold, answer, is_multiple, wanted):
    assert verdict(answer, gold, is_multiple_answer=is_multiple, answer_type="Tuple") == wanted


@pytest.mark.parametrize(
    ("gold", "answer", "wanted"),
    [
        (r"$[\frac{1}{2}, 8]$", "[0.5, 8]", C),
        (r"$[\frac{1}{2}, 8]$", "(0.5, 8]", W),
        (r"$[\frac{1}{2}, 8]$", r"x \in \left[\frac{1}{2}, 8\right]", C),
        (r"(-\infty,-5)", r"\left(-\infty, -5\right)", C),
        (r"(-\infty,-5)", r"(-\infty,-5]", W),
        (r"$(-\sqrt{11},-2)\cup (\sqrt{11},9)$", r"(\sqrt{11},9) \cup (-\sqrt{11},-2)", C),
        (r"$(-\infty, 0) \cup\{1\}$.", r"\{1\} \cup (-\infty, 0)", C),
        (r"$(-\infty, 0) \cup\{1\}$.", r"(-\infty, 0)", W),
        ("$t(0,4]$", "(0,4]", C),
        ("(0,1)", "0,1", W),
    ],
)
def test_intervals_keep_their_brackets(gold, answer, wanted):
    assert verdict(answer, gold, answer_type="Interval") == wanted


@pytest.mark.parametrize(
    ("unit", "gold", "answer", "wanted"),
    [
        ("minute", "45", "45", C),
        ("minute", "45", r"45 \text{ minutes}", C),
        ("minute", "45", r"45\text{ min}", C),
        ("minute", "45", r"45 \text{ hours}", W),
        ("km", r"$\frac{41}{12}$", r"\frac{41}{12} \mathrm{~km}", C),
        ("$cm^2$", "$166$", r"166\text{ cm}^2", C),
        ("$cm^2$", "$166$", r"166 \mathrm{~cm}^{2}", C),
        ("km/h", r"$\frac{600}{7}$", r"\frac{600}{7} \text{ km/h}", C),
        ("km/h", r"$\frac{600}{7}$", r"\frac{600}{7}", C),
        (r"^{\circ}", "90", r"90^\circ", C),
        (r"^{\circ}", "90", "91", W),
    ],
)
def test_the_unit_may_stand_there_or_not(unit, gold, answer, wanted):
    assert verdict(answer, gold, unit=unit) == wanted


def test_the_unit_of_angles_with_names():
    gold = r"$\angle B E A_{1}=90$,$\angle A E B_{1}=90$"
    assert verdict(r"90^\circ, 90^\circ", gold, is_multiple_answer=True, unit=r"^{\circ}") == C


@pytest.mark.parametrize(
    ("answer", "wanted"),
    # |4.3 - 4.2| = 0.1 is within 1e-1, |4.31 - 4.2| is not
    [
        ("4.2", C),
        (r"4.3\%", C),
        ("4.1", C),
        ("4.31", W),
        ("4.09", W),
        (r"\frac{21}{5}", C),
        ("x", W),
        ("4", W),
    ],
)
def test_tolerance(answer, wanted):
    assert verdict(answer, "4.2", unit="%", error="1e-1") == wanted


@pytest.mark.parametrize(
    ("gold", "answer", "wanted"),
    [
        ("$f(x)=2 x$", "f(x)=2x", C),
        ("$f(x)=2 x$", "2x", C),
        (r"$m n-\lfloor m / 2\rfloor$", r"mn - \left\lfloor m/2 \right\rfloor", C),
        (r"$-(n-1) / 2$", r"\frac{1-n}{2}", C),
        ("$n^{2}+1$", "n^2-1", W),
    ],
)
def test_expressions(gold, answer, wanted):
    assert verdict(answer, gold, answer_type="Expression") == wanted


def test_several_functions():
    gold = "$f(x)=x$,$f(x)=2-x$"
    columns = {"is_multiple_answer": True, "answer_type": "Expression"}
    assert verdict("f(x)=2-x, f(x)=x", gold, **columns) == C
    assert verdict("f(x)=2-x", gold, **columns) == W


def test_a_plain_gold_has_no_columns():
    assert GRADERS["olympiadbench"](r"\boxed{2}", "$2$").verdict == C
    assert GRADERS["math500"](r"\boxed{2}", {"answer": "2"}).verdict == C


@pytest.mark.parametrize(
    "gold",
    [
        {"answer": "2", "colour": "red"},
        {"unit": "km"},
        {"answer": "2", "error": "small"},
        {"answer": "2", "unit": 3},
    ],
)
def test_a_gold_with_other_columns_is_refused(gold):
    with pytest.raises(ConfigError, match="gold: "):
        GRADERS["olympiadbench"](r"\boxed{2}", gold)
