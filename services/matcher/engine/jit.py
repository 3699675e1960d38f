"""The decorator of loops over arrays that numba compiles, because one numpy step after another would be too slow.

A kernel is pure and may run in several threads at the same time. The first call on a machine compiles it, which takes
some seconds. The compiled code is cached in ``NUMBA_CACHE_DIR``, or beside the source, until that source file changes.
Changes in another file do not invalidate the cache. Therefore a kernel may only call kernels of its own file.
Sums keep their order and no operations are fused, so that a result is the same on every processor.
"""

from numba import njit

jit_kernel = njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz"})
