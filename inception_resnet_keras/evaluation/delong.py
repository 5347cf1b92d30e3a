"""DeLong's variance of areas under ROC curves, and of the difference of two on the same pictures.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), computed by ranks in n log n steps as Sun and Xu, IEEE Signal
Processing Letters 21 (2014), do. Equal scores of a positive and a negative picture count half.
"""

from __future__ import annotations

import numpy as np

from ..common.packages import required


def delong(positives: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curves of several models on the same pictures, and their covariance.

    Args:
        positives: bool (n,): which pictures are of the positive class; at least two are, and two are not.
        scores: float (models, n), greater for what a model takes for positive; not NaN.

    Returns:
        float64 (models,), in [0, 1], and float64 (models, models).

    Raises:
        ValueError: There are fewer than two positive or negative pictures.
    """
    areas, of_positives, of_negatives = components(positives, scores)
    count, other = of_positives.shape[1], of_negatives.shape[1]
    if count < 2 or other < 2:
        raise ValueError(f"positives: {count} pictures are positive and {other} are not; two of each are needed")
    covariance = np.atleast_2d(np.cov(of_positives)) / count + np.atleast_2d(np.cov(of_negatives)) / other
    return areas, covariance


def components(positives: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas, and what each picture contributes to them: DeLong's structural components.

    Args:
        positives: bool (n,). scores: float (models, n). Both as for `delong`, one picture of either kind at least.

    Returns:
        The areas (models,); for each positive picture the share of negative ones that score lower, (models, positive);
        and for each negative picture the share of positive ones that score higher, (models, negative).
    """
    rankdata = required("scipy.stats", "intervals").rankdata

    positives, scores = np.asarray(positives, bool), np.atleast_2d(np.asarray(scores, np.float64))
    first, second = scores[:, positives], scores[:, ~positives]
    ranks = rankdata(scores, axis=1)  # of equal scores the mean of their ranks
    lower = (ranks[:, positives] - rankdata(first, axis=1)) / second.shape[1]
    higher = 1 - (ranks[:, ~positives] - rankdata(second, axis=1)) / first.shape[1]
    return lower.mean(axis=1), lower, higher
