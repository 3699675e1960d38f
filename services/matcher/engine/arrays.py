"""The array types of the engine, named after what one element is.

``Int64s`` hold rows, counts and keys; ``Codes`` hold the int32 codes of a vocabulary; ``Bits`` hold 64 flags a word.
"""

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Bits = npt.NDArray[np.uint64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
