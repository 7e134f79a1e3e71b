"""What the commands that draw have in common."""

from pathlib import Path
from types import ModuleType

from jaxlstm.cli.arguments import BadInputError

ENDINGS = (".png", ".pdf", ".svg")


def plotting(destination: str, option: str = "--plot") -> ModuleType:
    """``jaxlstm.plotting``, where its extra is installed and the file's ending is one it draws."""
    if Path(destination).suffix.lower() not in ENDINGS:
        raise BadInputError(f"{option}: expected a .png, .pdf or .svg file, got {destination!r}.")
    try:
        from jaxlstm import plotting
    except ImportError as error:
        raise BadInputError(f"{option}: needs matplotlib: pip install 'jaxlstm[plot]'.") from error
    return plotting
