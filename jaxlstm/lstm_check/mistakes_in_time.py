"""Mistakes in time: at its ends, at other steps, in lengths, resets and truncation."""

from collections.abc import Iterable, Iterator

import numpy as np

from jaxlstm.lstm_check.choices import HIDDEN, READ_AT, STATE
from jaxlstm.lstm_check.mistakes_in_lines import SUMS, Mistake, replaced, scaled, spelled
from jaxlstm.types import Activations

CUT_EVERY = (2, 3, 4, 5, 8, 10, 16, 20, 25, 32, 50)
MOST_SINGLE_CUTS = 40


def ends_of_time() -> Iterator[Mistake]:
    """What enters for the final state, and what is returned for the initial one."""
    swap = [("d_h", "d_c"), ("d_c", "d_h")]
    for name, words, pairs in (
        ("hidden", "takes the cell state's", swap[:1]),
        ("cell", "takes the hidden state's", swap[1:]),
        ("hidden", "is swapped with the cell state's", swap),
    ):
        final, initial = f"final {name} cotangent", f"initial {name} gradient"
        late = [(("initial", d), f"{d} of the first step", d) for d, _ in pairs]
        returned = [(("initial", d), taken, d) for d, taken in pairs]
        entering = [(("final", "at the end", d), taken, d) for d, taken in pairs]
        moved = {("final", "at the end", d, d): -1 for d, _ in pairs}
        moved |= {("final", "a step early", d, d): 1 for d, _ in pairs}
        too = ", as the cell state's does" if len(pairs) == 2 else ""
        yield replaced(initial, f"misses the first step{too}", *late)
        yield replaced(initial, words, *returned)
        yield replaced(final, words, *entering)
        yield Mistake(final, f"enters before the last step{too}", moved)
    for name, states in (("hidden", STATE[:1]), ("cell", STATE[1:]), ("hidden and cell", STATE)):
        short = f"the final {name} state's cotangent in sequences shorter than T"
        passing = [("padding", d, "all") for d in states]
        yield scaled(f"final {name.split()[0]} cotangent", short, *passing)
    both = [("final", "at the end", d, d) for d in STATE]
    yield scaled("final hidden cotangent", "the final hidden and cell state's cotangent", *both)


def other_steps(activations: Activations) -> Iterator[Mistake]:
    """Sequences that are read at other steps, and other states in [B5]."""
    for state in HIDDEN[1:]:
        words = f"uses {spelled(state, activations)} where h_{{t-1}} belongs"
        yield replaced("B5", words, (("hidden",), state, HIDDEN[0]))
    for equation, field, name in (
        ("outputs cotangent", "d_outputs", "d_y"),
        ("B6", "inputs", "x"),
        ("B8", "d_inputs", "d_x"),
    ):
        for step in READ_AT[1:]:
            at, _, around = step.partition(",")
            words = f"uses {name}_{{{at}}} where {name}_t belongs{around and ', wrapping' + around}"
            yield replaced(equation, words, ((field,), step, "t"))


def missing_steps(time: int) -> Iterator[Mistake]:
    """Sums and sequences that lack steps."""
    first, last = range(1), range(time - 1, time)
    for words, steps in (
        ("leaves out the first step", first),
        ("leaves out the last step", last),
        ("takes the last step alone", range(time - 1)),
        ("takes the first step alone", range(1, time)),
    ):
        yield _without("outputs cotangent", words, steps, "d_y")
        for equation in (*SUMS, "B8"):
            yield _without(equation, words, steps, equation)
        yield _without("B5", f"every sum over time {words}", steps, *SUMS)
    loop = _without("truncation", "the loop leaves out the first step", first, *SUMS, "B8")
    late = {("initial", d, f"{d} of the first step"): 1 for d in STATE}
    yield loop._replace(entries=loop.entries | late | {("initial", d, d): -1 for d in STATE})


def _without(equation: str, words: str, steps: Iterable[int], *places: str) -> Mistake:
    return Mistake(equation, words, {("steps", name, t): -1 for name in places for t in steps})


def lengths() -> Iterator[Mistake]:
    """Steps beyond the length that count, or steps within that do not."""
    all_but_d_y = ("d_z", *STATE, "d_x")
    places = {
        "the state's cotangent": STATE,
        "the sums over time and d_x": ("d_z", "d_x"),
        "the outputs' cotangent": ("d_y",),
        "the whole backward pass": ("d_y", *all_but_d_y),
    }
    fewer = {
        "the sums over time": ("d_z",),
        "the state's cotangent and the sums over time": ("d_z", *STATE),
        "the whole backward pass but the outputs' cotangent": all_but_d_y,
        "d_c": ("d_c",),
    }
    for words, mask, by_whom in (
        ("are ignored by", "all", places | fewer),
        ("are a step too short for", "a step shorter", places),
        ("are a step too long for", "a step longer", places),
    ):
        for whom, where in by_whom.items():
            choices = [(("lengths", place), mask, "valid") for place in where]
            yield replaced("lengths", f"{words} {whom}", *choices)


def resets() -> Iterator[Mistake]:
    """Resets that the state's cotangent passes, and others that stop it."""
    passed = [(("resets", d), "all", "without reset") for d in STATE]
    h, c = (f"{y}_{{t-1}} from before the reset" for y in "hc")
    factors = [(("hidden",), h, "h_{t-1}"), (("values", "B2 forget"), c, "c_{t-1}")]
    yield replaced("resets", "are ignored by the state's cotangent", *passed)
    yield replaced("resets", "are ignored by the whole backward pass", *passed, *factors)
    for d, choice in zip(STATE, passed, strict=True):
        yield replaced("resets", f"are ignored by {d}", choice)
    for mask in ("a step early", "a step late"):
        shifted = [(("resets", d), mask, "without reset") for d in STATE]
        yield replaced("resets", f"act {mask}", *shifted)
    own_step = (("lengths", "d_z"), "valid without reset", "valid")
    yield replaced("resets", "also stop the cotangent of their own step", own_step)
    beyond = [(("padding", d), "without reset", "all") for d in STATE]
    yield replaced("resets", "also act beyond the length", *beyond)


def truncation(time: int) -> Iterator[Mistake]:
    """Steps from which the state's cotangent does not pass to those before."""
    every = [("kept", d, t) for d in STATE for t in range(time)]
    yield scaled("truncation", "the state's cotangent at every step", *every)
    yield _cut("the state's cotangent stops at every step but the first", range(1, time), *STATE)
    for d in STATE:
        yield _cut(f"{d} stops at every step but the first", range(1, time), d)
    for step in _single_cuts(time):
        yield _cut(f"the state's cotangent stops at step {step}", [step], *STATE)
    for k in CUT_EVERY:
        words = f"the state's cotangent stops every {k} steps"
        yield _cut(words, range(k, time, k), *STATE)
        yield _cut(f"{words}, counted from T", range(time - k, 0, -k), *STATE)


def _cut(words: str, steps: Iterable[int], *states: str) -> Mistake:
    return Mistake("truncation", words, {("kept", d, t): -1 for d in states for t in steps})


def _single_cuts(time: int) -> list[int]:
    """All steps but the first if they are few; else round ones, and some in between."""
    if time <= MOST_SINGLE_CUTS:
        return list(range(1, time))
    from_ends = {step for k in (1, *CUT_EVERY) for step in (k, time - k) if 0 < step < time}
    round_ones = from_ends | {time // 4, time // 3, time // 2, 2 * time // 3, 3 * time // 4}
    between = np.linspace(1, time - 1, MOST_SINGLE_CUTS - len(round_ones), dtype=int)
    return sorted(round_ones.union(between.tolist()))
