"""Document 004: one step's derivative by h_{t-1}, and what a forget gate can reach."""

from jaxlstm.sources.document_004.gates import gate_entries, sigmoid_entries
from jaxlstm.sources.document_004.maximum import argmax_entries, maximum_entries
from jaxlstm.sources.document_004.step import cell_by_hidden_entries, forward_entries, step_entries
from jaxlstm.sources.document_004.system import draw, hidden_states, init
from jaxlstm.sources.ledger import Entry

__all__ = ["draw", "entries", "hidden_states", "init"]


def entries() -> list[Entry]:
    """All of the document's equations and claims."""
    return [
        *forward_entries(),
        *cell_by_hidden_entries(),
        *step_entries(),
        *sigmoid_entries(),
        *gate_entries(),
        *argmax_entries(),
        *maximum_entries(),
    ]
