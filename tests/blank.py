"""Charts as blank images: the suite makes thousands beside what it tests, which took a third of its time."""

from functools import cache
from typing import Any


def use_blank_charts() -> None:
    """From now on the charts of runs and evaluations are empty figures, and any figure is written as a blank image."""
    for owner, name, _, blank in _charts():
        setattr(owner, name, blank)


def use_charts() -> None:
    """From now on charts are drawn."""
    for owner, name, drawn, _ in _charts():
        setattr(owner, name, drawn)


@cache
def _charts() -> list[tuple[Any, str, Any, Any]]:
    """(owner, name, what draws, what stands in for it) of all that draws."""
    from matplotlib.figure import Figure

    from inception_resnet_keras.evaluation import curves, plots

    figures = [
        (module, name, drawn, empty_figure)
        for module in (curves, plots)
        for name, drawn in vars(module).items()
        if getattr(drawn, "__annotations__", {}).get("return") == "Figure" and hasattr(drawn, "__wrapped__")
    ]
    return [(Figure, "savefig", Figure.savefig, save_blank), *figures]


def empty_figure(*_: Any, **__: Any) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(4, 3))


def save_blank(figure: Any, target: Any, *, format: str = "png", dpi: int = 100, **_: Any) -> None:
    """In place of matplotlib's `Figure.savefig`: an image of the figure's size with nothing on it."""
    width, height = (round(inches * dpi) for inches in figure.get_size_inches())
    if format == "svg":
        target.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"/>'.encode())
    else:
        from PIL import Image

        Image.new("RGB", (width, height), "white").save(target, format)
