"""Types of the arrays that modules exchange."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Numbers = NDArray[np.int32]
