"""A bar on standard error for what takes long, with a word on how it goes."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def told_progress() -> Progress:
    """How much is done, the time left, and what each bar's field ``told`` holds."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    return Progress(*columns, transient=True, console=Console(stderr=True))
