"""Units behind an answer in the one spelling: where the value ends, and whether two units are one."""

import re
from dataclasses import dataclass
from functools import lru_cache

from entrobench.rewards.spelling import spelled

Dimensions = frozenset[tuple[str, int]]

# The name of a unit, then other words for it without the s of a plural
_UNITS = """
    m meter metre; cm centimeter centimetre; mm millimeter millimetre; km kilometer kilometre;
    nm nanometer nanometre; in inch inche; ft foot feet; yd yard; mi mile; s sec second; ms millisecond;
    min minute; h hr hour; day; week; month; yr year; g gm gram; kg kilogram; mg milligram; lb pound;
    oz ounce; L l liter litre; mL ml milliliter millilitre; gal gallon; N newton; J joule; kJ; W watt; kW;
    V volt; mV; A amp ampere; K kelvin; C celsius; F fahrenheit; Pa pascal; kPa; atm; Hz hertz; mol mole; eV;
    keV; MeV; erg; dyne; cal; pc parsec; AU; rad radian; ° deg degree; % percent; $ dollar; cent; T tesla;
    Å angstrom; sr; G gauss; H henry; Ω ohm; μm micron; M molar; ppm
"""
_KNOWN = {word: words.split()[0] for words in _UNITS.split(";") for word in words.split()}
_SPEEDS = {"mph": "mi/h", "kmph": "km/h", "kph": "km/h"}
_SINGLE_LETTERS = frozenset(word for word in _KNOWN if len(word) == 1)
# A number before one of these is another number, or none
_NO_UNIT = frozenset(
    [
        "or",
        "and",
        "million",
        "billion",
        "trillion",
        "thousand",
        "hundred",
        "dozen",
        "half",
        "halves",
        "third",
        "thirds",
        "quarter",
        "quarters",
        "mod",
        "base",
        "factorial",
        "squared",
        "cubed",
        "not",
        "if",
        "to",
        "is",
        "th",
        "st",
        "nd",
        "rd",
    ]
)
_SYMBOL = r"\\text\{[^{}]*\}|\\mu|\\Omega|\\AA|\\odot"
_POWER = r"(?:\^\{-?\d\})?"
_PART = rf"(?:(?:{_SYMBOL}){_POWER})"
_WORDS = (
    "cm|mm|km|kg|ft|mL|ml|mph|inch|inches|feet|foot|meters|metres|miles|hours|minutes|seconds|days|years|"
    "dollars|cents|degrees|percent|pounds|grams|liters|units|points|students"
)
_UNIT = re.compile(
    rf"(?<=[\w)}}\]!.])(?:"
    rf"(?:\\cdot|/)?{_PART}(?:(?:\\cdot|/){{0,2}}[()]?{_PART}\)?)*"
    rf"|\\frac\{{{_PART}+\}}\{{{_PART}+\}}{_POWER}"
    rf"|\^\{{\\circ\}}(?:\\text\{{[CF]\}}|[CF])?"
    rf"|\\%"
    rf"|(?<=[\d}}])(?:{_WORDS}){_POWER}(?:/(?:{_WORDS}|s|h){_POWER})?"
    rf")$"
)
_CLOSED = re.compile(r"(?:\d|[-+./()^{}!|\[\]]|\\(?:frac|sqrt|pi|cdot|pm|infty|ln|log|binom)(?![a-zA-Z]))+")
_WORD = re.compile(r"[A-Za-z°%$ÅμΩ]+|\^\{?(-?\d+)\}?|/")


@dataclass(frozen=True)
class Measured:
    """A value and the unit behind it, "" where there is none."""

    value: str
    unit: str


@lru_cache(maxsize=8192)
def measured(text: str) -> Measured:
    """`text`, in the one spelling, with its unit apart."""
    found = _UNIT.search(text)
    if found is None or not _is_unit(found.group()):
        return Measured(text, "")
    value = text[: found.start()]
    return Measured(value, found.group()) if value.strip("-") else Measured(text, "")


def _is_unit(text: str) -> bool:
    words = [
        word for part in re.findall(r"\\text\{([^{}]*)\}", text) for word in re.split(r"[^A-Za-z]+", part)
    ]
    return not any(
        word.lower() in _NO_UNIT or (len(word) == 1 and word not in _SINGLE_LETTERS) for word in words if word
    )


def is_closed(text: str) -> bool:
    """Whether `text` is a number written with digits, roots, logarithms and pi: no letter is in it."""
    return _CLOSED.fullmatch(text) is not None


def are_other_units(first: str, second: str) -> bool:
    """Whether both are units that are known and not the same; what is not known decides nothing."""
    left, right = dimensions(first), dimensions(second)
    are_known = all(word in _KNOWN.values() for word, _ in left | right)
    return bool(left and right) and are_known and left != right


@lru_cache(maxsize=1024)
def dimensions(unit: str) -> Dimensions:
    """Base words with their powers: `m/s^2`, `\\text{meters per square second}`."""
    text = re.sub(r"\\frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1/\2", unit)
    for name, symbol in (
        (r"\^\{\\circ\}", "°"),
        (r"\\%", "%"),
        (r"\\mu(?![a-z])", "μ"),
        (r"\\Omega", "Ω"),
        (r"\\AA", "Å"),
    ):
        text = re.sub(name, symbol, text)
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).replace(r"\cdot", " ")
    text = re.sub(r"°\s*([CF])\b", r"\1", text)
    for name, parts in _SPEEDS.items():
        text = re.sub(rf"\b{name}\b", parts, text)
    powers: dict[str, int] = {}
    sign, factor, last = 1, 1, ""
    for match in _WORD.finditer(re.sub(r"\bper\b", "/", text)):
        word = match.group()
        if match[1] is not None:
            powers[last] = powers.get(last, 0) + sign * (int(match[1]) - 1)
        elif word == "/":
            sign = -1
        elif word in ("square", "sq", "cubic", "cu"):
            factor = 3 if word[0] == "c" else 2
        elif word not in ("unit", "units", "of"):
            last = _base(word)
            powers[last] = powers.get(last, 0) + sign * factor
            factor = 1
    return frozenset((word, power) for word, power in powers.items() if power and word)


def _base(word: str) -> str:
    for form in (word, word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")):
        if form in _KNOWN:
            return _KNOWN[form]
    return word.lower().removesuffix("s")


def without_units(answer: str, gold: str, unit: str = "") -> tuple[str, str] | None:
    """Both, in the one spelling, without the units that one may leave out; None where the units differ.

    `unit` is what the problem's data name. A unit that the gold lacks is dropped where the gold is a number,
    or where the gold has no words and the unit is a word: then it can be no factor of an expression.
    """
    found, expected = measured(answer), measured(gold)
    wanted = expected.unit or spelled(unit)
    if found.unit and wanted and are_other_units(found.unit, wanted):
        return None
    may_drop = bool(wanted) or is_closed(expected.value) or (r"\text" not in gold and r"\text" in found.unit)
    return found.value if found.unit and may_drop else answer, expected.value
