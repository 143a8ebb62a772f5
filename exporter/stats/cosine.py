"""Cosine similarity to a centroid."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def similarity(vectors: ArrayLike, centroid: ArrayLike) -> NDArray[np.float64]:
    """Cosine of the angle between each vector and a centroid.

    A zero vector has no angle; its similarity is 0.

    Not suitable for encoders whose centroid is nearly 0: the angle to it is noise.

    Parameters
    ----------
    vectors : array_like, shape (n, d)
    centroid : array_like, shape (d,)

    Returns
    -------
    ndarray of float64, shape (n,)
        Between -1 and 1.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    array = np.asarray(vectors, dtype=np.float64)
    centre = np.asarray(centroid, dtype=np.float64)
    if array.ndim != 2 or centre.shape != array.shape[1:]:
        raise ValueError(f"shapes {array.shape} and {centre.shape} do not fit: (n, d) and (d,)")
    lengths = np.linalg.norm(array, axis=1) * np.linalg.norm(centre)
    products = array @ centre
    cosine = np.zeros(len(array))
    np.divide(products, lengths, out=cosine, where=lengths > 0)
    return np.clip(cosine, -1.0, 1.0, out=cosine)
