"""The five source documents as running code, and the ledger that judges every printed line.

Each document's module has ``draw(seed)``, a random point and what is true there, and ``entries()``;
of its forward system ``init(key, input_size, hidden_size)``, parameters, and with them and inputs
[T, D] ``hidden_states(params, inputs)`` [T, H].
"""

from collections.abc import Iterable
from functools import lru_cache
from types import ModuleType
from typing import Any

from jaxlstm.sources import document_000, document_001, document_002, document_003, document_004
from jaxlstm.sources.ledger import Entry, Judgement, judge

DOCUMENTS: dict[str, ModuleType] = {
    "000": document_000,
    "001": document_001,
    "002": document_002,
    "003": document_003,
    "004": document_004,
}

__all__ = ["DOCUMENTS", "Entry", "Judgement", "judge_document"]


def judge_document(
    document: str, seeds: Iterable[int] = range(12), equation: str | None = None
) -> list[Judgement]:
    """Judges every entry of a document on one draw for each seed.

    Args:
        document: "000" to "004".
        seeds: of the draws.
        equation: the only one to judge, or None.

    Returns:
        In the document's order.
    """
    module, seeds = DOCUMENTS[document], tuple(seeds)
    draws = [_draw(document, seed) for seed in seeds]
    entries = [e for e in module.entries() if equation in (None, e.equation)]
    return [judge(entry, draws, seeds) for entry in entries]


@lru_cache(maxsize=512)
def _draw(document: str, seed: int) -> Any:
    return DOCUMENTS[document].draw(seed)
