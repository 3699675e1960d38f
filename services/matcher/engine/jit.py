"""Functions over arrays that numba compiles, for the few loops that would be too slow one numpy step after another.

They are pure like everything here, and may run in threads at the same time. The first call on a machine takes some
seconds to compile. What was compiled is kept in ``NUMBA_CACHE_DIR``, or else beside the source, until that file
changes: so one calls no other than those of its own file. Sums keep their order and no operations are fused, so a
result is the same on every processor.
"""

from numba import njit

jit_kernel = njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz"})
