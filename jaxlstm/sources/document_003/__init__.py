"""Document 003: an RNN's product, and an LSTM's paths by its cells and by its output gates."""

from jaxlstm.sources.document_003.cell_path import cell_path_entries, forward_entries
from jaxlstm.sources.document_003.claims import claim_entries
from jaxlstm.sources.document_003.gate_path import gate_path_entries
from jaxlstm.sources.document_003.rnn import rnn_entries
from jaxlstm.sources.document_003.system import (
    draw,
    hidden_states,
    init,
    rnn_hidden_states,
    rnn_init,
)
from jaxlstm.sources.ledger import Entry

__all__ = ["draw", "entries", "hidden_states", "init", "rnn_hidden_states", "rnn_init"]


def entries() -> list[Entry]:
    """All of the document's equations, then its claims in words."""
    return [
        *rnn_entries(),
        *forward_entries(),
        *cell_path_entries(),
        *gate_path_entries(),
        *claim_entries(),
    ]
