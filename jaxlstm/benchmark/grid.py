"""What is measured where nothing else is asked for."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jaxlstm.benchmark.peers.peer import FORWARD, GRADIENT, STEP, Shape

GRID = (
    Shape(100, 32, 128, 128),
    Shape(100, 64, 256, 256),
    Shape(100, 64, 512, 512),
    Shape(1000, 1, 128, 128),
    Shape(50, 128, 1024, 1024),
)
INFERENCE = Shape(1, 1, 256, 256)
SWEPT = Shape(50, 16, 64, 64)
DOUBLINGS = 3


class Plan(NamedTuple):
    """One comparison to make; in a sweep, the size that it is doubled along."""

    task: str
    shape: Shape
    axis: str | None = None


def plan_grid(shapes: Iterable[Shape] | None, tasks: Iterable[str] | None) -> Iterator[Plan]:
    """Every task at every shape, a step at one step of it.

    >>> [str(plan.shape) for plan in plan_grid(None, ["step"])]
    ['1,1,256,256']
    """
    for task in tasks or (FORWARD, GRADIENT, STEP)[: 2 if shapes else 3]:
        for shape in shapes or ((INFERENCE,) if task == STEP else GRID):
            yield Plan(task, shape._replace(time=1) if task == STEP else shape)


def plan_sweep(base: Shape = SWEPT) -> Iterator[Plan]:
    """The gradient with each of T, B and H doubled three times.

    >>> [plan.shape.batch for plan in plan_sweep(Shape(5, 3, 2, 2)) if plan.axis == "batch"]
    [3, 6, 12, 24]
    """
    for axis in ("time", "batch", "hidden"):
        for k in range(DOUBLINGS + 1):
            yield Plan(GRADIENT, base._replace(**{axis: getattr(base, axis) * 2**k}), axis)
