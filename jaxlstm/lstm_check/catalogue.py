"""The LSTM's catalogue of likely mistakes in a backward pass, each a sentence about an equation."""

import functools
import itertools
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from jaxlstm.gradient_check import Catalogue, Hypothesis
from jaxlstm.lstm_check import mistakes_in_lines as in_lines
from jaxlstm.lstm_check import mistakes_in_time as in_time
from jaxlstm.lstm_check.backward_with_amounts import gradient_with_amounts
from jaxlstm.lstm_check.choices import LOSSES, STATE, amounts
from jaxlstm.lstm_check.mistakes_in_lines import PRODUCTS, SUMS, Mistake, Path, replaced
from jaxlstm.types import GATES, Activations

OF_LETTER = dict(zip("ifgo", GATES, strict=True))
ORDERS = ("iofg", "fiog", "giof", "oifg", "ogfi")
"""Gate orders that are more than a swap of two gates."""


@functools.cache
def lstm_catalogue(time: int, activations: Activations = Activations()) -> Catalogue:
    """The mistakes that a backward pass over ``time`` steps may hold, the likeliest first.

    Of a function with the arguments params, inputs [T, B, D], initial state and, where it takes
    them, lengths [B] and resets [T, B], in this order; its outputs those of ``lstm``.

    Args:
        time: T.
        activations: of the candidate and the cell. What is no mistake with them is left out, such
            as 1 - g^2 for phi' where phi is tanh.

    Returns:
        The catalogue; the same one for the same arguments, so that its gradient compiles once.
    """
    mistakes = itertools.chain(
        in_lines.terms(),
        in_lines.terms_in_one_place(),
        in_lines.factors(activations),
        in_lines.factors_of_several_gates(),
        in_lines.cotangents(),
        in_time.ends_of_time(),
        in_time.other_steps(activations),
        in_time.missing_steps(time),
        in_time.lengths(),
        in_time.resets(),
        in_time.truncation(time),
        _transposes(),
        _gates_of_others(),
        _losses(),
    )
    gradient = functools.partial(gradient_with_amounts, activations)
    return Catalogue(gradient, tuple(_without_repeats(mistakes, time)))


def _without_repeats(mistakes: Iterable[Mistake], time: int) -> Iterator[Hypothesis]:
    """All but those that change nothing, and those that change or say the same as one before."""
    seen: set[object] = {None}
    for equation, words, entries, kind in mistakes:
        change = amounts(entries, time)
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(change)])
        keys = {flat.tobytes() if flat.any() else None, (equation, words)}
        if seen.isdisjoint(keys):
            yield Hypothesis(equation, words, change, kind)
        seen |= keys


def _transposes() -> Iterator[Mistake]:
    for equation, words in (
        ("B4", "uses W where W' belongs"),
        ("B5", "uses d_z' h_{t-1} where h_{t-1}' d_z belongs"),
    ):
        blocks = [("transposed", equation, gate) for gate in GATES]
        yield Mistake(equation, words, dict.fromkeys(blocks, 1))
        for gate, block in zip(GATES, blocks, strict=True):
            yield Mistake(f"{equation} {gate}", words, {block: 1})


def _gates_of_others() -> Iterator[Mistake]:
    """Gates in each other's place, in one product after [B3] or in several."""
    in_d_z = ("B2", PRODUCTS, " in all of d_z")
    in_sums = ("B5", SUMS, " in every sum over time")
    in_one = [(equation, [equation], "") for equation in PRODUCTS]
    for equation, equations, where in (in_d_z, in_sums, in_one[0]):
        for order in ORDERS:
            words = f"takes the gates in the order {', '.join(order)}{where}"
            yield _ordered(equation, words, equations, order)
    for equation, equations, where in (in_d_z, in_sums, *in_one):
        for y, other in itertools.combinations("ifgo", 2):
            order = "ifgo".translate(str.maketrans(y + other, other + y))
            yield _ordered(equation, f"swaps the gates {y} and {other}{where}", equations, order)
    for y, other in itertools.permutations("ifgo", 2):
        block = (("gates", "B4", OF_LETTER[y]), OF_LETTER[other], OF_LETTER[y])
        yield replaced(f"B4 {OF_LETTER[y]}", f"uses the block of {other} in W", block)


def _ordered(equation: str, words: str, equations: Iterable[str], order: str) -> Mistake:
    """In the place of each gate's columns of d_z those of another."""
    moved = [(gate, OF_LETTER[y]) for gate, y in zip(GATES, order, strict=True)]
    choices: list[tuple[Path, str, str]] = []
    for name, (gate, taken) in itertools.product(equations, moved):
        if gate != taken:
            place, of = (taken, gate) if name in ("B4", "B8") else (gate, taken)
            choices.append((("gates", name, place), of, place))
    return replaced(equation, words, *choices)


def _losses() -> Iterator[Mistake]:
    rounded, clipped = LOSSES[1:4], LOSSES[4:]
    for places, what, losses in (
        (["d_z"], "d_z is", rounded + clipped),
        (["d_h"], "d_h is", rounded + clipped),
        (["d_c"], "d_c is", rounded + clipped),
        (["parameters"], "the parameters' gradients are", rounded + clipped[:2]),
        (["d_x"], "d_x is", rounded),
        (["d_z", *STATE, "parameters", "d_x"], "everything is", rounded),
    ):
        for loss in losses:
            how = "rounded through" if loss in rounded else "clipped"
            choices = [(("losses", place), loss, "exact") for place in places]
            yield replaced("precision", f"{what} {how} {loss}", *choices)
