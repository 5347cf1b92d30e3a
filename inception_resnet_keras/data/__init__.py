"""Pictures: read, scaled, labelled, split."""

# Constants that help texts and settings need, which must not import NumPy; `sources` decides what a name stands for.
DIGITS = "digits"
DIGITS_SEED = 0  # their held-out fifth is always the same, so that runs can be compared

SOURCE_HELP = (
    "a folder with one folder per class, a .csv of path,label (of a run: RUN/split.csv, or RUN/split.csv:val for its "
    f"held-out pictures), a folder that pack wrote, tfds:NAME[:SPLIT], or {DIGITS} (scikit-learn's handwritten digits)"
)
