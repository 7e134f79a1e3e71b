"""Document 002's stacked form: Ihat = Theta I, and the gradient by Theta."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_002.formulas import before, by, by_latex, entry, value
from jaxlstm.sources.document_002.system import GATES, HATS, Draw
from jaxlstm.sources.ledger import Entry

Formula = Callable[[Draw], ndarray]


# Ihat = Theta I, and what the three stand for.


def form_entries() -> Iterable[Entry]:
    """The linear map, its three definitions, and the stacks W and U, which are not printed."""
    yield entry(
        "Ihat = Theta I",
        r"\hat{I} = \Theta I",
        printed=theta_times_I,
        truth=hats,
        verdict="typographical",
        used_by=("F1",),
        note="The t of Ihat^t and of I^t is missing; the definitions below have it.",
    )
    hats_latex = r"\hat{I}^t = [\hat{a}^t \ \hat{i}^t \ \hat{f}^t \ \hat{o}^t]^T"
    yield from _stack("Ihat", hats_latex, hats, hats_side_by_side, theta_directions)
    yield entry("Theta", r"\Theta = [W \ U]", printed=theta, truth=slope_by_I, kind="definition")
    for A, truth in (("W", slope_by_x), ("U", slope_by_h)):
        yield entry(
            A,
            f"{A} = [{' '.join(rf'{A}_{gate}^T' for gate in GATES)}]^T",
            printed=None,
            corrected=partial(stack, A),
            truth=truth,
            verdict="supplied",
            kind="definition",
            note="The four gates' matrices one above the other, in Ihat's order.",
        )
    I_latex = r"I^t = [x^t \ h^{t-1}]^T"
    yield from _stack("I", I_latex, inputs_and_state, inputs_and_state_side_by_side, slope_by_theta)


def _stack(
    name: str, statement: str, end_to_end: Formula, side_by_side: Formula, truth: Formula
) -> Iterable[Entry]:
    """A definition by a bracket of columns, in two readings."""
    line = partial(entry, name, statement, truth=truth, kind="definition")
    yield line(
        printed=end_to_end,
        reading="columns end to end",
        verdict="typographical",
        note="The columns in the bracket want a transpose of their own.",
    )
    yield line(
        printed=side_by_side,
        corrected=end_to_end,
        reading="columns side by side",
        verdict="ill-formed",
        note="Not the one long column that Theta multiplies.",
    )


def stack(A: str, q: Draw) -> ndarray:
    """The four gates' W or U, one above the other."""
    return np.concatenate([q.params[f"{A}_{gate}"] for gate in GATES])


def theta(q: Draw) -> ndarray:
    """[W U]."""
    return np.concatenate([stack("W", q), stack("U", q)], axis=1)


def inputs_and_state(q: Draw) -> ndarray:
    """x^t above h^{t-1}."""
    return np.concatenate([q.x[q.t], before("h", q)])


def inputs_and_state_side_by_side(q: Draw) -> ndarray:
    """x^t beside h^{t-1}, transposed."""
    return np.stack([q.x[q.t], before("h", q)], axis=1).T


def hats(q: Draw) -> ndarray:
    """The four pre-activations, one above the other."""
    return np.concatenate([value(hat, q) for hat in HATS])


def hats_side_by_side(q: Draw) -> ndarray:
    """The four pre-activations, one beside the other, transposed."""
    return np.stack([value(hat, q) for hat in HATS], axis=1).T


def theta_times_I(q: Draw) -> ndarray:
    """Theta I^t."""
    return theta(q) @ inputs_and_state(q)


def theta_directions(q: Draw) -> ndarray:
    """The pre-activations, linear in Theta: their derivative by it, times it."""
    return np.tensordot(q.hats_by["Theta"][q.t], theta(q), 2)


def slope_by_theta(q: Draw) -> ndarray:
    """What multiplies Theta: the derivative of a pre-activation by its own row of Theta."""
    return q.hats_by["Theta"][q.t][0, 0]


def slope_by_I(q: Draw) -> ndarray:
    """The pre-activations' derivative by I^t."""
    return q.hats_by["I"][q.t]


def slope_by_x(q: Draw) -> ndarray:
    """The pre-activations' derivative by x^t."""
    return slope_by_I(q)[:, : q.x.shape[1]]


def slope_by_h(q: Draw) -> ndarray:
    """The pre-activations' derivative by h^{t-1}."""
    return slope_by_I(q)[:, q.x.shape[1] :]


# The gradient by Theta.


def gradient_entries() -> Iterable[Entry]:
    """dTheta^t, line by line, the sum over time, and dE/dx^t, which is not printed."""
    line = partial(entry, "dTheta^t", truth=by_theta_at)
    at_t = r"\partial E/\partial\Theta|_t"
    yield line(
        statement=rf"\delta\Theta^t = {at_t}",
        printed=by_theta_difference,
        line=1,
        kind="definition",
    )
    chain_rule = r"\partial E/\partial\hat{I}^t \cdot \partial\hat{I}^t/\partial\Theta|_t"
    yield line(statement=chain_rule, printed=by_theta_chain, line=2)
    columns = r" \ ".join(by_latex(hat) for hat in HATS)
    result = partial(line, statement=rf"\delta\Theta^t = [{columns}] \times I^t")
    yield result(printed=outer_product, reading="outer product", used_by=("B5", "B6"))
    yield result(
        printed=matrix_product,
        corrected=outer_product,
        reading="matrix product",
        verdict="ill-formed",
        note="A row of 4H times a column of D + H.",
    )
    yield entry(
        "dE/dTheta",
        r"\partial E/\partial\Theta = \sum_{t=1}^{T} \delta\Theta^t",
        printed=over_time,
        truth=lambda q: q.by_theta,
        used_by=("B5", "B6"),
    )
    yield entry(
        "dE/dx^t",
        f"{by_latex('x')} = " + " + ".join(rf"W_{g}^T {by_latex(g + '^')}" for g in GATES),
        printed=None,
        corrected=by_input,
        truth=partial(by, "x"),
        verdict="supplied",
        used_by=("B8",),
        note="What a layer below needs.",
    )


def by_theta_at(q: Draw) -> ndarray:
    """dE by the Theta of time t alone."""
    return q.by_theta_at[q.t]


def by_theta_difference(q: Draw) -> ndarray:
    """dE/dTheta less that by the Theta of all other times."""
    others = [rows for t, rows in enumerate(q.by_theta_at) if t not in (0, q.t)]
    return q.by_theta - np.sum(others, axis=0)


def by_hats(q: Draw) -> ndarray:
    """dE by the four pre-activations, one behind the other."""
    return np.concatenate([by(hat, q) for hat in HATS])


def by_theta_chain(q: Draw) -> ndarray:
    """dE/dIhat^t dIhat^t/dTheta."""
    return np.tensordot(by_hats(q), q.hats_by["Theta"][q.t], 1)


def outer_product(q: Draw) -> ndarray:
    """Every entry of dE/dIhat^t times every entry of I^t."""
    return np.outer(by_hats(q), inputs_and_state(q))


def matrix_product(q: Draw) -> ndarray:
    """The row dE/dIhat^t times the column I^t."""
    return by_hats(q)[None] @ inputs_and_state(q)[:, None]


def over_time(q: Draw) -> ndarray:
    """The sum of dTheta^t."""
    return q.by_theta_at[1:].sum(0)


def by_input(q: Draw) -> ndarray:
    """What comes back from the gates to x^t."""
    return sum((q.params[f"W_{g}"].T @ by(f"{g}^", q) for g in GATES), np.zeros_like(q.x[q.t]))
