"""Document 001: an LSTM without biases under a softmax, differentiated backward in time."""

from jaxlstm.sources.document_001.algorithm import backward
from jaxlstm.sources.document_001.forward import forward_entries
from jaxlstm.sources.document_001.gradients import final_entries, gate_entries, named_entries
from jaxlstm.sources.document_001.recurrence import cell_entries, hidden_entries, last_entries
from jaxlstm.sources.document_001.steps import step_entries
from jaxlstm.sources.document_001.system import draw, hidden_states, init, loss
from jaxlstm.sources.ledger import Entry

__all__ = ["backward", "draw", "entries", "hidden_states", "init", "loss"]


def entries() -> list[Entry]:
    """All of the document's equations, (1) to (9) last."""
    return [
        *forward_entries(),
        *last_entries(),
        *hidden_entries(),
        *cell_entries(),
        *step_entries(),
        *named_entries(),
        *gate_entries(),
        *final_entries(),
    ]
