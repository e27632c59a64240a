"""One spelling of a mathematical answer, so that typography decides nothing: `\\dfrac12` is `\\frac{1}{2}`.

Both graders read what comes out here. The text is read once, as TeX reads it: commands, groups, arguments.
What only sets type (spaces, \\left, \\mathbf, dollars) is dropped, what has several names gets one (\\geq is
\\ge, U+2212 is -, * is \\cdot), and arguments get their braces. Nothing is evaluated but the digits of one
number: 0.50 is 0.5, 1\\frac{1}{2} is \\frac{3}{2}.
"""

import re
from functools import lru_cache

# Deeper than any answer; the reader calls itself once or twice for each level
MAX_DEPTH = 60

# Pairs of a character and the command that prints it
_PRINTED = """
    × times ✕ times ⨯ times · cdot ⋅ cdot ∙ cdot • cdot ∗ cdot ± pm ∓ mp ≤ le ≥ ge ⩽ le ⩾ ge ≠ ne ≈ approx
    ∞ infty √ sqrt ∘ circ ∪ cup ∩ cap ∈ in ∅ emptyset → to ∠ angle … ldots ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil
    ∑ sum ∏ prod ∫ int ℏ hbar α alpha β beta γ gamma δ delta ε epsilon ζ zeta η eta θ theta κ kappa λ lambda
    μ mu µ mu ν nu ξ xi π pi ρ rho σ sigma τ tau φ phi ϕ phi χ chi ψ psi ω omega
    Γ Gamma Δ Delta Θ Theta Λ Lambda Σ Sigma Φ Phi Ψ Psi Ω Omega
"""
_UNICODE = {
    **{character: rf"\{name} " for character, name in re.findall(r"(\S) (\w+)", _PRINTED)},
    **dict.fromkeys("−–—‒﹣－", "-"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("′’", "'"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\u2061\u2062\u2063\ufeff", ""),
    **dict(zip("（），％＝", "(),%=", strict=True)),
    **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}"},
    **{"¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
    "∛": r"\sqrt[3]",
    "°": r"^\circ ",
}
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
_RAISED = str.maketrans(_SUPERSCRIPTS, "0123456789+-n")
_LOWERED = str.maketrans(_SUBSCRIPTS, "0123456789")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words("sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log lg exp")
_TEXT_STYLES = _words(
    "text mathrm textrm textnormal textup mbox hbox textbf textit textsf texttt emph operatorname"
)
_MATH_STYLES = _words("mathbf mathit mathsf mathtt mathnormal boldsymbol bm pmb boxed fbox")
_DROPPED = _words(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle "
    "scriptstyle limits nolimits quad qquad thinspace medspace thickspace enspace negthinspace allowbreak "
    "nobreak strut mathstrut relax rm bf it therefore textdollar"
)
_DROPPED_WITH_ARGUMENT = _words("hspace vspace phantom hphantom vphantom tag label color textcolor")
_NAMES = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), r"\ge"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), r"\le"),
    **dict.fromkeys(("times", "ast", "cdotp", "centerdot"), r"\cdot"),
    **dict.fromkeys(("dots", "cdots", "dotsc", "dotsb"), r"\ldots"),
    **dict.fromkeys(("vert", "lvert", "rvert", "mid"), "|"),
    **dict.fromkeys(("rightarrow", "longrightarrow"), r"\to"),
    **dict.fromkeys(("simeq", "approxeq", "doteq", "thickapprox"), r"\approx"),
    **{"neq": r"\ne", "lt": "<", "gt": ">", "div": "/", "colon": ":", "varnothing": r"\emptyset"},
    **{"lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")"},
    **{"degree": r"^{\circ}", "textdegree": r"^{\circ}", "infin": r"\infty", "bigcup": r"\cup"},
    **{"tg": r"\tan", "ctg": r"\cot", "arctg": r"\arctan", "varepsilon": r"\epsilon", "varphi": r"\phi"},
}
_BARE_WORDS = {name: "\\" + name for name in FUNCTIONS | {"pi", "infty"}} | {
    "infinity": r"\infty",
    "or": r"\text{or}",
    "and": r"\text{and}",
}
# A lone backslash is a control space whose space was stripped
_SPACES = frozenset((r"\,", r"\;", r"\:", r"\!", r"\>", r"\ ", "~", "\\\n", "\\\t", "\\"))
_DOLLARS = frozenset(("$", r"\$", r"\(", r"\)", r"\[", r"\]"))
_ACCENTS = frozenset(["overline", "underline", "bar", "hat", "vec", "dot", "ddot", "tilde", "widehat"])
_MATRICES = frozenset(["pmatrix", "bmatrix", "Bmatrix", "matrix", "smallmatrix", "array"])

_NUMBER = r"(?:\d+\.\d+|\d+\.(?=\s*(?:[/^)}]|\\[dtc]?frac|\\cdot|\\times|$))|\d+|\.\d+)"
_TOKEN = re.compile(
    rf"\\[A-Za-z]+\*?|\\.|{_NUMBER}[eE][+-]?\d{{1,4}}(?!\w|\.\d)|{_NUMBER}|[A-Za-z]+|\s+|.", re.DOTALL
)
_IS_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SEPARATED = re.compile(
    r"(?<![\d.])(?<!(?<!\\),)\d{1,3}(?:(?:\{,\}(?:\s*\\!)?|,\s*\\!\s*|\\[,;]|~|\\ )\d{3})+(?!\d)", re.ASCII
)
_SEPARATOR = re.compile(r"[^\d]+", re.ASCII)
_COMMAS = re.compile(r"(?<![\d.])(?<!(?<!\\),)\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_ROW_GAP = re.compile(r"\\\\\s*\[-?\d+(?:\.\d+)?\s*(?:pt|em|ex|mm|cm)\]")
_TEXT_SPACING = re.compile(r"\\[,;:!> ]|~|\\q?quad(?![a-zA-Z])|\s+")
_COUNTED = re.compile(r"([-+]?\d[\d.,:]*)\s*([A-Za-z%].*)")
_UNIT_SYMBOLS = re.compile(r"[gJKLmNsVW](?: ?[/ ] ?[A-Za-z]{1,3}(?:\^\{?-?\d\}?)?)+")
# What may stand before a mixed number or a fraction with a slash
_OPENING = _words(r"+ - ( [ { , ; = & \\ \{ \pm \mp \le \ge < > \approx | \in \cup")


class _Unreadable(Exception):
    """The text is no TeX: a brace without its partner, or too many levels."""


def join_thousands(text: str) -> str:
    """`1{,}234`, `1,\\!234` and `1\\,234` with their digits together."""
    return _SEPARATED.sub(lambda number: _SEPARATOR.sub("", number.group()), text)


def spelled_pair(answer: str, gold: str, has_thousands: bool = True) -> tuple[str, str]:
    """Both in one spelling. A comma between groups of three digits is dropped where the other side has no
    comma: it separates thousands there, unless (`has_thousands` false) the gold is a list of numbers.
    """
    answer, gold = join_thousands(answer), join_thousands(gold)
    if has_thousands:
        if "," not in gold or _COMMAS.fullmatch(gold.strip(" $")):
            answer = _COMMAS.sub(lambda number: number.group().replace(",", ""), answer)
        if "," not in answer:
            gold = _COMMAS.sub(lambda number: number.group().replace(",", ""), gold)
    return spelled(answer), spelled(gold)


@lru_cache(maxsize=8192)
def spelled(text: str) -> str:
    """`text` in the one spelling; as it stands, without outer spaces, if it is no TeX."""
    for character, name in _UNICODE.items():
        if character in text:
            text = text.replace(character, name)
    text = re.sub(f"[{_SUPERSCRIPTS}]+", lambda m: f"^{{{m.group().translate(_RAISED)}}}", text)
    text = re.sub(f"[{_SUBSCRIPTS}]+", lambda m: f"_{{{m.group().translate(_LOWERED)}}}", text)
    try:
        atoms = _Reader(_ROW_GAP.sub(r"\\\\", join_thousands(text))).whole()
    except _Unreadable:
        return text.strip()
    return re.sub(r"^(?:\\approx ?|[=+:])+", "", joined(atoms).rstrip(".,;:"))


def joined(atoms: list[str]) -> str:
    """Atoms as text: a space only where two would become one."""
    parts: list[str] = []
    last = ""
    for atom in atoms:
        if last and atom and _runs_together(last, atom):
            parts.append(" ")
        parts.append(atom)
        last = atom or last
    return "".join(parts)


def _runs_together(left: str, right: str) -> bool:
    if left[-1].isdecimal():
        return right[0].isdecimal()
    return left[-1].isalpha() and right[0].isalpha() and _ends_in_command(left)


def _ends_in_command(text: str) -> bool:
    return re.search(r"\\[A-Za-z]+$", text) is not None


class _Reader:
    """Reads TeX from left to right into atoms, each in the one spelling."""

    def __init__(self, text: str, depth: int = 0) -> None:
        self._tokens = _TOKEN.findall(text)[::-1]  # the next one last
        self._depth = depth

    def whole(self) -> list[str]:
        """All atoms. Raises _Unreadable."""
        atoms = self._group(None)
        return _bare(atoms)

    def _group(self, end: str | None) -> list[str]:
        self._deeper()
        atoms: list[str] = []
        while self._tokens:
            token = self._tokens.pop()
            if token == end:
                self._depth -= 1
                return _rewritten(atoms)
            self._read(token, atoms)
        if end is not None:
            raise _Unreadable
        self._depth -= 1
        return _rewritten(atoms)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Unreadable

    def _read(self, token: str, atoms: list[str]) -> None:
        if token.isspace() or token in _SPACES or token in _DOLLARS:
            return
        if token[0].isdecimal() or (token[0] == "." and len(token) > 1):
            atoms.extend(_number(token))
        elif token[0] == "\\" and token[1:2].isalpha():
            self._command(token[1:].rstrip("*"), atoms)
        elif token == "{":
            atoms.extend(_as_group(self._group("}")))
        elif token in "^_":
            atoms.extend(self._script(token))
        elif token == "'":
            atoms.append(r"^{\prime}")
        elif token in ("}", r"\end"):
            raise _Unreadable
        elif token.isalpha():
            self._letters(token, atoms)
        elif token == "*":
            if self._tokens and self._tokens[-1] == "*":  # Python's power
                self._tokens[-1] = "^"
            else:
                atoms.append(r"\cdot")
        else:
            atoms.append({"%": r"\%", r"\|": "|"}.get(token, token))

    def _letters(self, token: str, atoms: list[str]) -> None:
        if token == "np" and self._tokens[-1:] == ["."]:  # numpy, in golds of Minerva
            self._tokens.pop()
        elif token == "sqrt":
            self._root(atoms)
        else:
            atoms.append(_BARE_WORDS.get(token, token))

    def _script(self, sign: str) -> list[str]:
        content = joined(self._argument(is_single=False))
        return [f"{sign}{{{content}}}"] if content else []

    def _command(self, name: str, atoms: list[str]) -> None:
        if name in _DROPPED:
            if name in ("left", "right") and self._tokens[-1:] == ["."]:
                self._tokens.pop()
        elif name in _DROPPED_WITH_ARGUMENT:
            self._raw_argument()
        elif name in _TEXT_STYLES or name in _MATH_STYLES:
            atoms.extend(self._styled(name))
        elif (known := _NAMES.get(name, "\\" + name)) in (r"\frac", r"\binom"):
            first = joined(_bare(self._argument(is_single=True)))
            second = joined(_bare(self._argument(is_single=True)))
            atoms.append(f"{known}{{{_without_commas(first)}}}{{{_without_commas(second)}}}")
        elif name == "sqrt":
            self._root(atoms)
        elif name in _ACCENTS:
            atoms.append(rf"\{name}{{{joined(self._argument(is_single=True))}}}")
        elif name == "begin":
            self._environment(atoms)
        elif name == "end":
            raise _Unreadable
        elif known[1:] in FUNCTIONS:
            self._function(known, atoms)
        else:
            atoms.append(known)

    def _root(self, atoms: list[str]) -> None:
        self._skip_spaces()
        index = ""
        if self._tokens[-1:] == ["["]:
            self._tokens.pop()
            index = f"[{joined(self._group(']'))}]"
            self._skip_spaces()
        if self._tokens[-1:] == ["("]:
            self._tokens.pop()
            content = self._group(")")
        else:
            content = self._argument(is_single=False)
        atoms.append(rf"\sqrt{index}{{{joined(_bare(content))}}}")

    def _function(self, known: str, atoms: list[str]) -> None:
        atoms.append(known)
        self._skip_spaces()
        while self._tokens[-1:] in (["^"], ["_"]):
            atoms.extend(self._script(self._tokens.pop()))
            self._skip_spaces()
        if self._tokens[-1:] == ["{"]:
            self._tokens.pop()
            content = _bare(self._group("}"))
            atoms.extend(content if len(content) == 1 else ["(", *content, ")"])

    def _environment(self, atoms: list[str]) -> None:
        name = self._raw_argument().rstrip("*")
        if name == "array":
            self._raw_argument()
        body = self._group(r"\end")
        self._raw_argument()
        while body and body[-1] == "\\\\":
            body.pop()
        known = "pmatrix" if name in _MATRICES else name
        atoms.append(rf"\begin{{{known}}}{joined(body)}\end{{{known}}}")

    def _styled(self, name: str) -> list[str]:
        """What a command of type holds: words stay text, anything else is mathematics."""
        content = " ".join(
            _TEXT_SPACING.sub(" ", self._raw_argument().replace(r"\$", "")).replace("$", "").split()
        )
        if content in FUNCTIONS:
            return ["\\" + content]
        is_text = name in _TEXT_STYLES
        if len(content) == 1 and content.isalpha():
            return [rf"\text{{{content}}}" if is_text else content]
        if is_text and _UNIT_SYMBOLS.fullmatch(content):
            return [rf"\text{{{re.sub('[{}]', '', content)}}}"]
        if "\\" in content or "=" in content:
            return self._inner(content)
        if is_text and (counted := _COUNTED.fullmatch(content)):
            return [*_Reader(counted[1], self._depth).whole(), rf"\text{{{counted[2].rstrip(' .')}}}"]
        if re.search(r"[A-Za-z]{2}|[a-z]\.", content) if is_text else re.fullmatch(r"[A-Za-z ]{3,}", content):
            return [rf"\text{{{content.rstrip(' .')}}}"]
        return self._inner(content)

    def _inner(self, text: str) -> list[str]:
        return _as_group(_Reader(text, self._depth).whole())

    def _skip_spaces(self) -> None:
        while self._tokens and (self._tokens[-1].isspace() or self._tokens[-1] in _SPACES):
            self._tokens.pop()

    def _argument(self, is_single: bool) -> list[str]:
        """One argument: a group, or one token; of several digits `is_single` takes the first, as TeX does."""
        self._skip_spaces()
        if not self._tokens:
            raise _Unreadable
        self._deeper()
        atoms = self._argument_at_hand(is_single)
        self._depth -= 1
        return atoms

    def _argument_at_hand(self, is_single: bool) -> list[str]:
        token = self._tokens.pop()
        if token == "{":
            return self._group("}")
        if token in ("+", "-") and not is_single:  # x^-1
            return [token, *self._argument(is_single)]
        if (token[0].isdecimal() and is_single and len(token) > 1) or (
            token.isalpha() and len(token) > 1 and token not in _BARE_WORDS
        ):
            token, rest = token[0], token[1:]
            self._tokens.append(rest)
        atoms: list[str] = []
        self._read(token, atoms)
        return atoms

    def _raw_argument(self) -> str:
        """The text of one argument as it stands."""
        self._skip_spaces()
        if not self._tokens:
            return ""
        token = self._tokens.pop()
        if token != "{":
            return token
        parts: list[str] = []
        level = 1
        while self._tokens:
            token = self._tokens.pop()
            level += (token == "{") - (token == "}")
            if level == 0:
                return "".join(parts)
            parts.append(token)
        raise _Unreadable


def _number(token: str) -> list[str]:
    """A number without zeros that say nothing; 1e5 as 1 \\cdot 10^{5}."""
    digits, marker, exponent = re.sub("[eE]", "e", token).partition("e")
    whole, _, part = digits.partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    number = f"{whole}.{part}" if part else whole
    return [number, r"\cdot", "10", f"^{{{int(exponent)}}}"] if marker else [number]


def _bare(atoms: list[str]) -> list[str]:
    """Atoms of a group that is the whole of its place, without further braces around it."""
    while len(atoms) == 1 and atoms[0][0] == "{" and atoms[0][-1] == "}":
        atoms = [atoms[0][1:-1]]
    return atoms


def _as_group(atoms: list[str]) -> list[str]:
    """A group within other atoms: braces only where they hold several together."""
    return atoms if len(atoms) <= 1 else ["{" + joined(atoms) + "}"]


def _without_commas(text: str) -> str:
    return text.replace(",", "") if _COMMAS.fullmatch(text) else text


def _rewritten(atoms: list[str]) -> list[str]:
    """Atoms of one level: \\over, fractions with a slash, mixed numbers, brackets around a matrix."""
    if r"\over" in atoms:
        place = atoms.index(r"\over")
        above, below = joined(atoms[:place]), joined(_rewritten(atoms[place + 1 :]))
        return [rf"\frac{{{above}}}{{{below}}}"]
    done: list[str] = []
    place = 0
    while place < len(atoms):
        atom = atoms[place]
        following = atoms[place + 1 : place + 4]
        if _is_slashed(done, atom, following):
            atom = rf"\frac{{{atom}}}{{{following[1]}}}"
            place += 2
        if (
            atom.startswith(r"\begin{pmatrix}")
            and done[-1:] in (["("], ["["])
            and following[:1] in ([")"], ["]"])
        ):
            done.pop()
            place += 1
        elif (mixed := _mixed(done, atom)) is not None:
            done.pop()
            atom = mixed
        elif (
            atom == ")"
            and len(done) > 2
            and done[-2] == "("
            and done[-3][1:] in FUNCTIONS
            and (place + 1 == len(atoms) or atoms[place + 1] in ("+", "-", "=", ","))
        ):  # \cot(x)
            atom = done.pop()
            done.pop()
        done.append(atom)
        place += 1
    return done


def _is_slashed(before: list[str], atom: str, following: list[str]) -> bool:
    if len(following) < 2 or following[0] != "/" or before[-1:] == ["/"] or atom == "/":
        return False
    is_plain = _IS_NUMBER.fullmatch(atom) and _IS_NUMBER.fullmatch(following[1])
    return bool(is_plain) and not (len(following) > 2 and following[2][0] in "^_!.")


def _mixed(before: list[str], atom: str) -> str | None:
    """The improper fraction of `whole` and a proper fraction after it, else None."""
    proper = re.fullmatch(r"\\frac\{(\d{1,12})\}\{(\d{1,12})\}", atom)
    if proper is None or not before or not re.fullmatch(r"\d{1,12}", before[-1]):
        return None
    if len(before) > 1 and before[-2] not in _OPENING:
        return None
    whole, above, below = int(before[-1]), int(proper[1]), int(proper[2])
    return rf"\frac{{{whole * below + above}}}{{{below}}}" if 0 < above < below and whole else None
