"""Charts as blank images: the suite makes thousands beside what it tests, which took a third of its time."""

from typing import Any


def save_blank(figure: Any, target: Any, *, format: str = "png", dpi: int = 100, **_: Any) -> None:
    """In place of matplotlib's `Figure.savefig`: an image of the figure's size with nothing on it."""
    width, height = (round(inches * dpi) for inches in figure.get_size_inches())
    if format == "svg":
        target.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"/>'.encode())
    else:
        from PIL import Image

        Image.new("RGB", (width, height), "white").save(target, format)


def use_blank_charts() -> None:
    """For the rest of this process."""
    from matplotlib.figure import Figure

    Figure.savefig = save_blank  # type: ignore[method-assign,assignment]
