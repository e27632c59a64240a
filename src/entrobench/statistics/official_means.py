"""Means over the categories of a benchmark, as its authors report them.

BFCL (Patil et al. 2025; bfcl-eval's eval_runner_helper.py, generate_leaderboard_csv):

    Non-Live = mean(Simple, Multiple, Parallel, Parallel Multiple), Simple = mean(Python, Java, JavaScript)
    Live     = mean over all problems, so that categories weigh by their size

ACEBench (Chen et al. 2025; evaluation_helper.py, generate_result_csv): Atom = mean of its six categories,
Single-turn = mean of its two. The authors have no mean of these two, and PAPO, which shows English and
Chinese, does not say how they enter. Here, as the authors' mean of all Normal categories: the unweighted
mean of the eight.

All functions take category -> a value for each problem, such as its share of correct samples, and raise
ValueError for a category that is missing, unknown or empty.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

Values = Mapping[str, Sequence[float]]

BFCL_SIMPLE = ("simple", "java", "javascript")
BFCL_NON_LIVE = ("multiple", "parallel", "parallel_multiple")
BFCL_LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
ACEBENCH_ATOM = (
    "atom_bool",
    "atom_enum",
    "atom_number",
    "atom_list",
    "atom_object_deep",
    "atom_object_short",
)
ACEBENCH_SINGLE_TURN = ("single_turn_single_function", "single_turn_parallel_function")


def bfcl_non_live(values: Values) -> float:
    """BFCL's Non-Live AST accuracy."""
    _check(values, (*BFCL_SIMPLE, *BFCL_NON_LIVE))
    return _mean([unweighted(values, BFCL_SIMPLE), *(_mean(values[name]) for name in BFCL_NON_LIVE)])


def bfcl_live(values: Values) -> float:
    """BFCL's Live AST accuracy."""
    _check(values, BFCL_LIVE)
    return _mean([value for name in BFCL_LIVE for value in values[name]])


def acebench(values: Values) -> float:
    """ACEBench's Atom and Single-turn categories with equal weights."""
    categories = (*ACEBENCH_ATOM, *ACEBENCH_SINGLE_TURN)
    _check(values, categories)
    return unweighted(values, categories)


def unweighted(values: Values, categories: Collection[str]) -> float:
    """The mean over `categories` of the mean of each, such as ACEBENCH_ATOM."""
    return _mean([_mean(values[name]) for name in categories])


# Benchmark -> its official mean; for all others the mean over problems is the official one
OFFICIAL_MEANS: dict[str, Callable[[Values], float]] = {
    "bfcl_live": bfcl_live,
    "bfcl_non_live": bfcl_non_live,
    "acebench_en": acebench,
    "acebench_zh": acebench,
}


def _check(values: Values, categories: Collection[str]) -> None:
    if set(values) != set(categories) or not all(values.values()):
        found = {name: len(values[name]) for name in sorted(values)}
        raise ValueError(f"expected problems in each of {sorted(categories)}, found {found}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
