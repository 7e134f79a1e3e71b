"""What a gradient costs: time, and the memory that the compiler sets aside for it."""

from jaxlstm.benchmark.cost import Cost, measure_costs

__all__ = ["Cost", "measure_costs"]
