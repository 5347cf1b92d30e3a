"""DeLong's variance of areas under ROC curves, and of the difference of two areas on the same images.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), computed from ranks in n log n steps as in Sun and Xu, IEEE
Signal Processing Letters 21 (2014). A positive and a negative image of equal score count half.
"""

from __future__ import annotations

import numpy as np

from ..common.packages import required


def delong(positives: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curves of several models on the same images, and their covariance.

    Args:
        positives: bool (n,): which images are of the positive class; at least two are and at least two are not.
        scores: float (models, n): higher means more likely positive; not NaN.

    Returns:
        The areas, float64 (models,), in [0, 1], and their covariance, float64 (models, models).

    Raises:
        ValueError: There are fewer than two positive or fewer than two negative images.
    """
    areas, of_positives, of_negatives = components(positives, scores)
    count, other = of_positives.shape[1], of_negatives.shape[1]
    if count < 2 or other < 2:
        raise ValueError(f"positives: {count} pictures are positive and {other} are not; two of each are needed")
    covariance = np.atleast_2d(np.cov(of_positives)) / count + np.atleast_2d(np.cov(of_negatives)) / other
    return areas, covariance


def components(positives: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas, and the contribution of each image to them: DeLong's structural components.

    Args:
        positives: bool (n,), as for `delong`, with at least one positive and one negative image.
        scores: float (models, n), as for `delong`.

    Returns:
        The areas, (models,); for each positive image the share of negative images that score lower, (models,
        positives); and for each negative image the share of positive images that score higher, (models, negatives).
    """
    rankdata = required("scipy.stats", "intervals").rankdata

    positives, scores = np.asarray(positives, bool), np.atleast_2d(np.asarray(scores, np.float64))
    first, second = scores[:, positives], scores[:, ~positives]
    ranks = rankdata(scores, axis=1)  # equal scores get the mean of their ranks
    lower = (ranks[:, positives] - rankdata(first, axis=1)) / second.shape[1]
    higher = 1 - (ranks[:, ~positives] - rankdata(second, axis=1)) / first.shape[1]
    return lower.mean(axis=1), lower, higher
