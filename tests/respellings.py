"""Other ways to write a gold answer that keep its meaning, by kind; what a grader must not care about.

Each kind takes a gold's text, without dollars, and returns its respellings, none where the kind does not fit
it. They are made by plain substitution, with nothing of the graders in it.
"""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

Kind = Callable[[str], list[str]]
KINDS: dict[str, Kind] = {}

_INTEGER = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"(-?)(\d*)\.(\d+)")
_FRACTION = re.compile(r"(-?)\\d?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
_WORDS = re.compile(r"\\text\{([A-Za-z]{2,})\}")
_CHOICE = re.compile(r"\\text\{\(([A-E])\)\}")
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)e(-?\d+)")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}")
_UNIT = re.compile(r"\\(?:text|mbox)\{ ?([a-z]+)\}(\^2)?$")
_PLAIN_ATOM = r"(?:\\frac\{\d+\}\{\d+\}|\\sqrt\{\d+\}|\\sqrt\d|\\pi|\d+(?:\.\d+)?|[a-zA-Z](?:\^\{?\d+\}?)?)"
_TERM = rf"{_PLAIN_ATOM}(?: ?{_PLAIN_ATOM})*"
_SUM = re.compile(rf"(-?)({_TERM}) ?([+-]) ?({_TERM})")


def kind(name: str) -> Callable[[Kind], Kind]:
    """Register a kind."""

    def add(function: Kind) -> Kind:
        KINDS[name] = function
        return function

    return add


def _wrap(name: str, *forms: str, fits: Callable[[str], bool] = lambda gold: True) -> None:
    KINDS[name] = lambda gold: [form.replace("@", gold) for form in forms] if fits(gold) else []


def is_number(gold: str) -> bool:
    """Digits, fractions, roots and pi."""
    rest = re.sub(r"\\d?frac|\\sqrt|\\pi", "", gold)
    return re.fullmatch(r"[\d{}.+\- /]+", rest) is not None and gold.count(" ") < 4


def is_plain_number(gold: str) -> bool:
    """An integer, a decimal or one fraction."""
    return any(form.fullmatch(gold) for form in (_INTEGER, _DECIMAL, _FRACTION))


def is_single(gold: str) -> bool:
    """One value: no list, tuple, interval, equation, matrix or text."""
    return not re.search(r"[,=\[\]<>]|\\(?:text|mbox|begin|in|cup|ge|le|pm)|%|\\circ", gold)


def _has_no_text(gold: str) -> bool:
    return not re.search(r"\\(?:text|mbox|begin)|np\.|where", gold)


_wrap("spaces around", "  @  ", "\n@\n")
_wrap("full stop", "@.")
_wrap("dollars", "$@$", "$$@$$")
_wrap("\\( \\) and \\[ \\]", r"\(@\)", r"\[@\]")
_wrap("braces around", "{@}")
_wrap("displaystyle", r"\displaystyle @")
_wrap("thin spaces around", r"\,@\,", r"\;@\;", r"\!@")
_wrap("tie, control space, quad", "~@~", r"\ @\ ", r"\quad @")
_wrap("mathbf", r"\mathbf{@}", fits=is_single)
_wrap("boldsymbol, bm", r"\boldsymbol{@}", r"\bm{@}", fits=_has_no_text)
_wrap("mathrm", r"\mathrm{@}", fits=is_number)
_wrap("text, textbf around a value", r"\text{@}", r"\textbf{@}", fits=is_plain_number)
_wrap("x = value", "x = @", r"\text{Area} = @", fits=is_number)
_wrap("A = expression", "A = @", fits=is_single)
_wrap("approx", r"\approx @", r"x \approx @", "≈ @", fits=is_number)
_wrap("unit: \\text", r"@ \text{ cm}", r"@\text{ meters}", r"@ \text{ apples}", fits=is_number)
_wrap("unit: \\, \\text", r"@ \, \text{cm}", r"@\,\text{erg}", r"@\;\text{years}", fits=is_number)
_wrap("unit: \\ \\text and ~", r"@\ \text{cm}", r"@~\text{cm}", fits=is_number)
_wrap("unit: \\mathrm", r"@ \mathrm{~cm}", r"@\,\mathrm{m}", r"@ \mathrm{~kg}", fits=is_number)
_wrap(
    "unit: compound",
    r"@ \, \text{erg/s}",
    r"@ \mathrm{~m} / \mathrm{s}^{2}",
    r"@\,\text{kg}\cdot\text{m}^2",
    r"@ \text{ miles per hour}",
    r"@\,\frac{\text{m}}{\text{s}}",
    fits=is_number,
)
_wrap("unit: square", r"@ \text{ cm}^2", r"@ \text{ square units}", r"@\,\mathrm{cm}^{3}", fits=is_number)
_wrap("unit: bare word", "@ cm", "@ hours", "@ degrees", fits=is_plain_number)
_wrap("dollar sign", r"\$@", r"\$@ \text{ dollars}", fits=lambda g: is_plain_number(g) and g[0] != "-")
_wrap("percent sign added", r"@\%", "@%", r"@ \%", r"@ \text{ percent}", fits=is_plain_number)
_wrap("degree sign added", r"@^\circ", r"@^{\circ}", "@°", fits=lambda g: _INTEGER.fullmatch(g) is not None)


def _replace(name: str, *tables: list[tuple[str, str]]) -> None:
    """A kind of regular substitutions; one respelling a table, those that change nothing left out."""

    def respell(gold: str) -> list[str]:
        texts = []
        for table in tables:
            text = gold
            for pattern, new in table:
                text = re.sub(pattern, new, text)
            texts.append(text)
        return [text for text in texts if text != gold]

    KINDS[name] = respell


_replace("percent sign dropped", [(r"\s*\\?%$", "")])
_replace(
    "degree sign otherwise",
    [(r"\^\{?\\circ\}?", "°")],
    [(r"\^\{?\\circ\}?", "")],
    [(r"\^\{?\\circ\}?(?=[\s\d,)]|$)", r"^{\\circ}")],
    [(r"^(\d+)\^\{?\\circ\}?$", r"\1 \\text{ degrees}")],
)
_replace("unicode minus", [("-", "−")], [("-", "–")])
_replace(
    "unicode symbols",
    [
        (r"\\pi(?![a-z])", "π"),
        (r"\\infty", "∞"),
        (r"\\cup", "∪"),
        (r"\\pm", "±"),
        (r"\\cdot ?", "·"),
        (r"\\times ?", "×"),
        (r"\\omega(?![a-z])", "ω"),
        (r"\\geq?(?:slant)? ?", "≥"),
        (r"\\sqrt\{(\d+)\}", r"√\1"),
        (r"\\in ", "∈ "),
    ],
)
_replace("unicode superscripts", [(r"\^(?:2|\{2\})(?!\d)", "²"), (r"\^(?:3|\{3\})(?!\d)", "³")])
_replace("without \\left \\right", [(r"\\(?:left|right) ?(?![a-z])", "")])
_replace(
    "with \\left \\right",
    [(r"(?<!\\left)(?<!\\sqrt)([\[(])", r"\\left\1"), (r"(?<!\\right)(?<!\\sqrt\[\d)([\])])", r"\\right\1")],
    [(r"(?<![a-z])\\\{", r"\\left\\{"), (r"(?<![a-z])\\\}", r"\\right\\}")],
)
_replace("\\bigl \\bigr", [(r"(?<![a-z])\(", r"\\bigl("), (r"(?<![a-z])\)", r"\\bigr)")])
_replace("dfrac, tfrac", [(r"\\d?frac", r"\\dfrac")], [(r"\\d?frac", r"\\tfrac")])
_replace(
    "short \\frac", [(r"\\d?frac\{(\d)\}\{(\d)\}", r"\\frac\1\2")], [(r"\\d?frac\{(\d)\}", r"\\frac \1")]
)
_replace(
    "long \\frac",
    [(r"\\d?frac ?(\d) ?(\d)", r"\\frac{\1}{\2}")],
    [(r"\\d?frac\{", r"\\frac {"), (r"\}\{", "} {")],
)
_replace("fraction with a slash", [(r"(?<!\d)\\d?frac\{(\d+)\}\{(\d+)\}(?![\w\\( ])", r"\1/\2")])
_replace("fraction with \\over", [(r"\\d?frac\{(\d+)\}\{(\d+)\}", r"{\1 \\over \2}")])
_replace(
    "root without braces",
    [(r"\\sqrt\{(\d)\}", r"\\sqrt\1")],
    [(r"\\sqrt\{(\d)\}", r"\\sqrt \1")],
    [(r"\\sqrt\{(\d)\}", r"\\sqrt {\1}")],
)
_replace("root with braces", [(r"\\sqrt ?(\d)", r"\\sqrt{\1}")])
_replace("exponent with braces", [(r"\^(\d)", r"^{\1}")])
_replace("exponent without braces", [(r"\^\{(\d)\}", r"^\1")], [(r"\^\{(\d)\}", r"^ \1")])
_replace("subscript with braces", [(r"_(\d)", r"_{\1}")])
_replace("subscript without braces", [(r"_\{(\d)\}", r"_\1")])
_replace(
    "product with a sign",
    [(r"(?<![\d_^{.,])(\d+)\s?(\\sqrt|\\pi)", r"\1 \\cdot \2")],
    [(r"(?<![\d_^{.,])(\d+)\s?(\\sqrt|\\pi)", r"\1\\times\2")],
    [(r"(?<![\d_^{.,e])(\d+)([a-z])(?![a-z]|\d|-\d)", r"\1*\2")],
)
_replace("no spaces", [(r"(?<![a-zA-Z]) +| +(?![a-zA-Z ])", "")])
_replace(
    "spaces around signs",
    [(r"(?<=[\w})])(?<!\de)([+=-])(?=[\w\\(])", r" \1 ")],
    [(r"(?<=[\w})])(?<!\de)([+=-])(?=[\w\\(])", r"\\,\1\\,")],
)
_replace("geq, leq", [(r"\\geqslant|\\geq?(?![a-z])", r"\\geq")], [(r"\\geqslant|\\geq?(?![a-z])", r"\\ge")])


@kind("spaces behind commas")
def _comma_spaces(gold: str) -> list[str]:
    if "," not in gold or r"\!" in gold or re.fullmatch(r"\d{1,3}(,\d{3})+", gold):
        return []
    pieces = re.split(", *", gold)
    return [comma.join(pieces) for comma in (", ", r",\, ", r", \quad ")]


@kind("decimal zeros")
def _zeros(gold: str) -> list[str]:
    if _INTEGER.fullmatch(gold):
        return [f"{gold}.0", f"{gold}.00"]
    match = _DECIMAL.fullmatch(gold)
    if match is None:
        return []
    sign, whole, part = match.groups()
    return [
        f"{gold}0",
        f"{sign}.{part}" if whole in ("", "0") else f"{gold}00",
        f"{sign}{whole or '0'}.{part}",
    ]


def _value(gold: str) -> Fraction | None:
    if _INTEGER.fullmatch(gold) or _DECIMAL.fullmatch(gold):
        return Fraction(gold)
    match = _FRACTION.fullmatch(gold)
    if match is None:
        return None
    value = Fraction(int(match[2] or match[3]), int(match[4] or match[5]))
    return -value if match[1] else value


@kind("fraction as a decimal")
def _as_decimal(gold: str) -> list[str]:
    value = _value(gold)
    if value is None or value.denominator == 1 or not _FRACTION.fullmatch(gold):
        return []
    scaled = value * 10**6
    return [f"{float(value):.6f}".rstrip("0")] if scaled.denominator == 1 else []


@kind("decimal as a fraction")
def _as_fraction(gold: str) -> list[str]:
    value = _value(gold)
    if value is None or value.denominator == 1 or not _DECIMAL.fullmatch(gold):
        return []
    sign = "-" if value < 0 else ""
    return [
        rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}",
        f"{value.numerator}/{value.denominator}",
    ]


@kind("fraction not reduced")
def _not_reduced(gold: str) -> list[str]:
    value = _value(gold)
    if value is None or _DECIMAL.fullmatch(gold):
        return []
    return [rf"\frac{{{3 * value.numerator}}}{{{3 * value.denominator}}}"]


@kind("sign of a fraction")
def _signed_fraction(gold: str) -> list[str]:
    value = _value(gold)
    if value is None or value >= 0 or not _FRACTION.fullmatch(gold):
        return []
    above, below = -value.numerator, value.denominator
    return [rf"\frac{{-{above}}}{{{below}}}", rf"\frac{{{above}}}{{-{below}}}", f"-{above}/{below}"]


@kind("improper as a mixed number")
def _as_mixed(gold: str) -> list[str]:
    value = _value(gold)
    if value is None or abs(value) < 1 or value.denominator == 1 or not _FRACTION.fullmatch(gold):
        return []
    whole, rest = divmod(abs(value.numerator), value.denominator)
    sign = "-" if value < 0 else ""
    part = rf"\frac{{{rest}}}{{{value.denominator}}}"
    return [f"{sign}{whole}{part}", rf"{sign}{whole}\,{part}", f"{sign}{whole} {rest}/{value.denominator}"]


@kind("mixed number as improper")
def _as_improper(gold: str) -> list[str]:
    match = re.fullmatch(r"(\d+) ?\\frac\{(\d+)\}\{(\d+)\}", gold)
    if match is None:
        return []
    whole, above, below = map(int, match.groups())
    return [
        rf"\frac{{{whole * below + above}}}{{{below}}}",
        str(float(Fraction(whole * below + above, below))),
    ]


@kind("thousands separated")
def _thousands(gold: str) -> list[str]:
    plain = re.sub(r"[,\\! ]|\{,\}", "", gold)
    if not _INTEGER.fullmatch(plain) or abs(int(plain)) < 1000:
        return []
    if "," in gold and not re.fullmatch(r"\d{1,3}(,(\\! ?)?\d{3})+", gold):
        return []
    return [plain] + [
        f"{int(plain):,}".replace(",", sign) for sign in (",", "{,}", r"\,", r",\!", " ", r"{,}\!")
    ]


@kind("thousands within an expression")
def _thousands_inside(gold: str) -> list[str]:
    if (
        "," in gold
        or "text" in gold
        or "_" in gold
        or re.fullmatch(r"-?\d+", gold)
        or not re.search(r"(?<![\d.])\d{4,}(?!\.)", gold)
    ):
        return []
    grouped = re.sub(r"(?<![\d.])\d{4,}(?!\.)", lambda m: f"{int(m.group()):,}", gold)
    return [grouped.replace(",", sign) for sign in ("{,}", r"\,")]


@kind("scientific notation")
def _scientific(gold: str) -> list[str]:
    match = _SCIENTIFIC.fullmatch(gold)
    if match is None:
        return []
    digits, power = match.groups()
    forms = [rf"{digits} \times 10^{{{power}}}", rf"{digits}\cdot10^{{{power}}}", f"{digits}×10^{{{power}}}"]
    return (
        forms
        + [rf"{digits} \times 10^{{{power}}} \, \text{{erg/s}}", rf"x \approx {digits} \times 10^{{{power}}}"]
        + (
            [rf"{digits} \times 10^{power}"]
            if power[0] != "-"
            else [rf"10^{{{power}}}"]
            if digits == "1"
            else []
        )
    )


@kind("small decimal in scientific notation")
def _small(gold: str) -> list[str]:
    match = re.fullmatch(r"0?\.0+([1-9])(\d*)", gold)
    if match is None:
        return []
    power = len(gold.partition(".")[2]) - len(match[1] + match[2]) + 1
    digits = match[1] + (f".{match[2]}" if match[2] else "")
    return [rf"{digits} \times 10^{{-{power}}}", rf"{digits}\cdot 10^{{-{power}}}"]


@kind("matrix: spaces and rows")
def _matrix_spaces(gold: str) -> list[str]:
    match = _MATRIX.fullmatch(gold)
    if match is None:
        return []
    tight = re.sub(r"\s+", "", match[1])
    loose = match[1].replace("\\\\", "\n\\\\[4pt]\n").replace("&", "  &  ")
    return [rf"\begin{{pmatrix}}{body}\end{{pmatrix}}" for body in (tight, loose, match[1] + r" \\ ")]


@kind("matrix: other brackets")
def _matrix_brackets(gold: str) -> list[str]:
    match = _MATRIX.fullmatch(gold)
    if match is None:
        return []
    columns = "c" * (match[1].split(r"\\")[0].count("&") + 1)
    array = rf"\begin{{array}}{{{columns}}}{match[1]}\end{{array}}"
    return [
        rf"\begin{{bmatrix}}{match[1]}\end{{bmatrix}}",
        rf"\left({array}\right)",
        rf"\left[{array}\right]",
    ]


@kind("matrix: entries as \\frac")
def _matrix_entries(gold: str) -> list[str]:
    return (
        [re.sub(r"(\d+)/(\d+)", r"\\frac{\1}{\2}", gold)] if _MATRIX.fullmatch(gold) and "/" in gold else []
    )


@kind("x in an interval")
def _member(gold: str) -> list[str]:
    interval = r"(?:\\left)?[\[(].*,.*(?:\\right)?[\])]"
    is_interval = re.fullmatch(interval, gold) and (r"\infty" in gold or r"\cup" in gold or "]" in gold)
    if is_interval and "t(" not in gold:
        return [rf"x \in {gold}", rf"x\in{gold}"]
    return [gold.partition(r"\in")[2].strip()] if re.match(r"x ?\\in", gold) else []


@kind("interval as inequalities")
def _inequality(gold: str) -> list[str]:
    match = re.fullmatch(r"(?:x \\in )?([\[(])(-?[\w\\{}]+), ?(-?[\w\\{}]+)([\])])", gold)
    if (
        match is None
        or not (r"\infty" in gold or r"\in" in gold or "]" in gold)
        or (match[2].startswith(r"-\inf") and match[3] == r"\infty")
    ):
        return []
    opening, low, high, closing = match.groups()
    left, right = {"[": r"\le", "(": "<"}[opening], {"]": r"\le", ")": "<"}[closing]
    if high == r"\infty":
        return [f"x {'>' if opening == '(' else chr(92) + 'ge'} {low}", f"{low} {left} x"]
    return [f"x {right} {high}"] if low == r"-\infty" else [f"{low} {left} x {right} {high}"]


@kind("union in another order")
def _union(gold: str) -> list[str]:
    pieces = gold.rstrip(".").split(r"\cup")
    return [r" \cup ".join(reversed(pieces))] if len(pieces) > 1 else []


@kind("list in another order")
def _list_order(gold: str) -> list[str]:
    if (
        re.search(r"[()\[\]=]|\\[{!]|where", gold)
        or not re.fullmatch(r"[^,]{1,20}(, ?[^,]{1,20})+", gold)
        or re.fullmatch(r"\d{1,3},\d{3}", gold)
    ):
        return []
    pieces = [piece.strip() for piece in gold.split(",")]
    return [", ".join(reversed(pieces)), r" \text{ and } ".join(pieces), r"\{" + ", ".join(pieces) + r"\}"]


@kind("plus and minus as two values")
def _pm(gold: str) -> list[str]:
    if gold.count(r"\pm") != 1 or "{" in gold.partition(r"\pm")[0]:
        return []
    return [f"{gold.replace(chr(92) + 'pm', '+')}, {gold.replace(chr(92) + 'pm', '-')}"]


@kind("word")
def _word(gold: str) -> list[str]:
    match = _WORDS.fullmatch(gold)
    if match is None:
        return []
    word = match[1]
    return [
        word,
        word.capitalize(),
        rf"\textbf{{{word}}}",
        rf"\mathrm{{{word}}}",
        rf"\text{{ {word} }}",
        rf"\text{{{word}.}}",
    ]


@kind("choice")
def _choice(gold: str) -> list[str]:
    match = _CHOICE.fullmatch(gold)
    return (
        [
            f"({match[1]})",
            match[1],
            rf"\textbf{{({match[1]})}}",
            rf"\mathrm{{({match[1]})}}",
            rf"\text{{{match[1]}}}",
        ]
        if match
        else []
    )


@kind("sum in another order")
def _sum(gold: str) -> list[str]:
    match = _SUM.fullmatch(gold)
    if match is None or _SCIENTIFIC.fullmatch(gold):
        return []
    sign, left, middle, right = match.groups()
    return [f"{'-' if middle == '-' else ''}{right} {sign or '+'} {left}"]


@kind("product in another order")
def _product(gold: str) -> list[str]:
    match = re.fullmatch(r"(\d+) ?(\\sqrt\{\d+\}|\\pi)", gold)
    return [rf"{match[2]} \cdot {match[1]}"] if match else []


@kind("equation: value alone, sides exchanged")
def _equation(gold: str) -> list[str]:
    match = re.fullmatch(r"([a-zA-Z]|[a-zA-Z]\([a-z]\)) ?= ?([^=,]+)", gold)
    return [match[2], f"{match[2]} = {match[1]}"] if match else []


@kind("unit of the gold otherwise")
def _gold_unit(gold: str) -> list[str]:
    match = _UNIT.search(gold)
    if match is None or not match.start():
        return []
    value = gold[: match.start()].strip()
    power = match[2] or ""
    return [value, rf"{value}\,\text{{{match[1]}}}{power}", rf"{value} \mathrm{{~{match[1]}}}{power}"]


@kind("value and its approximation")
def _approximation(gold: str) -> list[str]:
    value = _value(gold)
    if value is None or value.denominator == 1 or not _FRACTION.fullmatch(gold):
        return []
    return [rf"{gold} \approx {float(value):.4g}"] if abs(value) > Fraction(1, 100) else []


@kind("calculation and its result")
def _result(gold: str) -> list[str]:
    return (
        [f"{int(gold) - 7} + 7 = {gold}", f"x = {int(gold) - 7} + 7 = {gold}"]
        if re.fullmatch(r"\d{2,15}", gold)
        else []
    )


_UNIT_KINDS = ("unit: ", "dollar sign", "percent sign added", "degree sign added")


def respellings(gold: object) -> Iterator[tuple[str, str]]:
    """All (kind, respelling) of a gold, a string, a number or OlympiadBench's object. Where its data name a
    unit no other is put behind it: that is another answer.
    """
    columns = gold if isinstance(gold, dict) else {"answer": gold}
    text = str(columns["answer"])
    text = text if text.startswith(r"\$") else text.replace("$", "")
    for name, respell in KINDS.items():
        if not (columns.get("unit") and name.startswith(_UNIT_KINDS)):
            for respelling in respell(text.strip()):
                yield name, respelling
