"""Pictures: read, scaled, labelled, split."""

# Constants that help texts and settings need, which must not import NumPy; `sources` decides what a name stands for.
DIGITS = "digits"
DIGITS_SEED = 0  # their held-out fifth is always the same, so that runs can be compared

SOURCE_HELP = (
    "a folder with one folder per class, or with train, val and test folders of them; a .csv of path,label (and split, "
    "group, weight; of a run: RUN/split.csv); SOURCE:train, :val or :test for one part of those; a folder that pack "
    f"wrote, tfds:NAME[:SPLIT], or {DIGITS} (scikit-learn's handwritten digits)"
)
