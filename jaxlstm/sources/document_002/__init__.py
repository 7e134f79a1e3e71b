"""Document 002: an LSTM with W on the input and U on the state, differentiated backward in time."""

from jaxlstm.sources.document_002.algorithm import backward
from jaxlstm.sources.document_002.errors import (
    cell_entries,
    gate_entries,
    hat_entries,
    output_entries,
)
from jaxlstm.sources.document_002.forward import forward_entries
from jaxlstm.sources.document_002.notes import note_entries
from jaxlstm.sources.document_002.stacked import form_entries, gradient_entries
from jaxlstm.sources.document_002.system import draw, hidden_states, init
from jaxlstm.sources.ledger import Entry

__all__ = ["backward", "draw", "entries", "hidden_states", "init"]


def entries() -> list[Entry]:
    """All of the document's equations, and what it needs but does not print, then its notes."""
    return [
        *forward_entries(),
        *output_entries(),
        *cell_entries(),
        *gate_entries(),
        *hat_entries(),
        *form_entries(),
        *gradient_entries(),
        *note_entries(),
    ]
