"""What each checker makes of each mutant.

``PYTHONPATH=tests python -m mutants.scores`` prints one table, by the equation that is wrong.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jaxlstm.gradient_check import GradientReport, check_gradients
from jaxlstm.gradient_check.call import Point, make_point
from jaxlstm.gradient_check.modes import Trusted, reverse, trust
from jaxlstm.gradient_check.one_dtype import sets_of
from jaxlstm.gradient_check.rounding import relative_errors
from jaxlstm.lstm_check import CheckConfig, draw_problem
from jaxlstm.lstm_check.catalogue import lstm_catalogue
from jaxlstm.lstm_check.problem import Outputs, Problem
from jaxlstm.types import Activations
from mutants import ALL, HELD_APART, Mutant, as_function

Shape = tuple[int, int, int, int]

SHAPES = ((6, 2, 3, 4), (40, 8, 16, 32), (150, 16, 32, 64), (300, 4, 8, 16))
NOTICEABLE = 20
"""Yardsticks by which a gradient must be off to count as wrong."""
KINDS = {
    **{f"B{n}": f"[B{n}]" for n in range(1, 9)},
    "outputs": "an ignored cotangent",
    "final": "an ignored cotangent",
    "initial": "the initial state",
    "truncation": "truncation in time",
    "lengths": "lengths and resets",
    "resets": "lengths and resets",
    "precision": "precision",
}
"""What is wrong, by the first word of a mutant's first label."""
OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "jax check_grads": lambda f, args: check_grads(f, args, order=1, modes=["rev"]),
    "chex": lambda f, args: chex.assert_numerical_grads(f, args, order=1, modes=["rev"]),
}
"""Other checkers, at their own tolerances."""


class Score(NamedTuple):
    """Who catches a mutant, and whether the right equation is named."""

    mutant: Mutant
    noticeable: bool
    named: bool
    reproduced: bool
    caught_by: frozenset[str]


@cache
def problem(shape: Shape) -> Problem:
    """A random LSTM with resets inside the lengths and short rows."""
    drawn = (draw_problem(CheckConfig(*shape, seed=seed)) for seed in range(100))
    return next(p for p in drawn if telling(p))


def telling(drawn: Problem) -> bool:
    """Whether lengths and resets matter: a short row, and a reset inside a length."""
    *_, lengths, resets = drawn.args
    inside = np.arange(1, len(resets))[:, None] < lengths
    return bool((lengths < len(resets)).any() and (resets[1:] & inside).any())


def candidate(mutant: Mutant) -> Callable[..., Any]:
    function = as_function(mutant)
    return lambda *args: Outputs(*function(*args))


def check(mutant: Mutant, shape: Shape, dtype: str, *, hypotheses: Any = None) -> GradientReport:
    drawn = problem(shape)
    return check_gradients(
        candidate(mutant),
        drawn.reference,
        drawn.args,
        cotangents=drawn.cotangents,
        dtypes=[dtype],
        blocks=drawn.blocks,
        axes=drawn.axes,
        also=(),
        hypotheses=hypotheses,
        jit=False,
    )


@cache
def truth(shape: Shape, dtype: str) -> tuple[Point, Any, Trusted]:
    """The gradient under all cotangents and each alone, and what rounding does to each leaf."""
    drawn = problem(shape)
    with jax.enable_x64(True):
        point = make_point(drawn.reference, drawn.args, drawn.cotangents).rounded(np.dtype(dtype))
        sets = sets_of(point.cotangents)
        trusted = trust(reverse, point.call, point.floats, point.others, sets, np.dtype(dtype), 1)
    return point, sets, trusted


def off_by(mutant: Mutant, shape: Shape, dtype: str) -> float:
    """By how many yardsticks the mutant's gradient is off, for the leaf where it is most."""
    point, sets, trusted = truth(shape, dtype)
    with jax.enable_x64(dtype == "float64"):
        call = point.call.of(candidate(mutant))
        floats = [jnp.asarray(leaf) for leaf in point.floats]
        runs = [reverse(call, floats, point.others, [leaf[k] for leaf in sets]) for k in range(4)]
    worst = 0.0
    for n, exact in enumerate(trusted.truth):
        found = np.stack([np.asarray(run[n], np.float64) for run in runs])
        error = relative_errors(found, exact, (0,))
        yards = np.max([relative_errors(moved, exact, (0,)) for moved in trusted.rounded[n]], 0)
        ratios = np.divide(error, yards, out=np.where(error > 0, np.inf, 0.0), where=yards > 0)
        worst = max(worst, float(ratios.max()))
    return worst


@cache
def catalogue(time: int) -> Any:
    return lstm_catalogue(time, Activations())


def score(mutant: Mutant, shape: Shape = SHAPES[0], dtype: str = "float32") -> Score:
    """The mutant under every checker, in float32 as the others take it."""
    noticeable = off_by(mutant, shape, dtype) > NOTICEABLE
    report = check(mutant, shape, dtype, hypotheses=catalogue(shape[0]))
    caught = {"check_gradients"} if report.failures else set()
    caught |= {name for name, run in OTHERS.items() if fails(run, mutant, shape, dtype)}
    reproduced = bool(report.explanations) and report.explanations[0].reproduces
    named = named_rightly(report, mutant)
    return Score(mutant, noticeable, named, reproduced, frozenset(caught))


def fails(run: Callable[[Any, Any], Any], mutant: Mutant, shape: Shape, dtype: str) -> bool:
    drawn, function = problem(shape), as_function(mutant)
    leaves, treedef = jax.tree.flatten(drawn.args[:3])
    floats = tuple(jnp.asarray(leaf, dtype) for leaf in leaves)

    def of_arrays(*floats: Any) -> Any:
        return jax.tree.leaves(function(*treedef.unflatten(floats), *drawn.args[3:]))

    try:
        run(of_arrays, floats)
    except AssertionError:
        return True
    return False


def named_rightly(report: GradientReport, mutant: Mutant, among: int = 2) -> bool:
    """Whether one of the first explanations names an equation that a fair judge would accept.

    A line as a whole ("B2") is right only of a mutant that is wrong in several gates.
    """
    lines = [label.split()[0] for label in mutant.equation]
    whole = {line for line in lines if lines.count(line) > 1}
    said = {e.equation for e in report.explanations[:among]}
    return bool(said & (set(mutant.equation) | whole))


def table(scores: Iterable[Score]) -> Table:
    """How many of the noticeable mutants each checker catches, and how many are named rightly."""
    found = Table(
        *("what is wrong", "mutants", "check_gradients", "named rightly", *OTHERS), box=SIMPLE_HEAD
    )
    counted = [one for one in scores if one.noticeable]
    kinds = {kind: [s for s in counted if kind_of(s.mutant) == kind] for kind in KINDS.values()}
    held_apart = [s for s in counted if s.mutant in HELD_APART]
    for kind, some in {**kinds, "all": counted, "of these held apart": held_apart}.items():
        caught = [sum(name in s.caught_by for s in some) for name in ("check_gradients", *OTHERS)]
        numbers = [len(some), caught[0], sum(s.named for s in some), *caught[1:]]
        found.add_row(kind, *map(str, numbers), end_section=kind == "precision")
    return found


def kind_of(mutant: Mutant) -> str:
    return KINDS[mutant.equation[0].split()[0]]


if __name__ == "__main__":
    Console().print(table([score(mutant) for mutant in track(ALL.values())]))
