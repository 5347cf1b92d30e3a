"""Reading, scaling, labelling and splitting pictures."""

# Constants for help texts and settings. They are here because importing them must not import NumPy; `sources` decides
# what a name stands for.
DIGITS = "digits"
DIGITS_SEED = 0  # fixed, so that all runs on the digits hold out the same fifth and can be compared

SOURCE_HELP = (
    "a folder with one folder per class, or with folders train, val and test that each hold such folders; a .csv with "
    "the columns path,label (and optionally split, group, weight), such as RUN/split.csv; SOURCE:train, SOURCE:val or "
    "SOURCE:test for one part of those; a folder written by pack; tfds:NAME[:SPLIT]; or "
    f"{DIGITS} (scikit-learn's handwritten digits)"
)
