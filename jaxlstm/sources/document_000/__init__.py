"""Document 000: an LSTM of sigmoids, differentiated forward in time."""

from jaxlstm.sources.document_000.algorithm import gradient, hidden_states, init
from jaxlstm.sources.document_000.cell_path import cell_path_entries
from jaxlstm.sources.document_000.claims import claim_entries
from jaxlstm.sources.document_000.gate_path import bound_entries, gate_path_entries
from jaxlstm.sources.document_000.generic import forward_entries, gate_entries, generic_entries
from jaxlstm.sources.document_000.paths import form_entries
from jaxlstm.sources.document_000.specific import specific_entries
from jaxlstm.sources.document_000.system import draw
from jaxlstm.sources.ledger import Entry

__all__ = ["draw", "entries", "gradient", "hidden_states", "init"]


def entries() -> list[Entry]:
    """All of (1) to (33), in the document's order, then the claims of 5.2 and 6.2."""
    return [
        *forward_entries(),
        *generic_entries(),
        *gate_entries(),
        *specific_entries(),
        *form_entries(),
        *cell_path_entries(),
        *gate_path_entries(),
        *bound_entries(),
        *claim_entries(),
    ]
