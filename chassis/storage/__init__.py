"""Storage: aggregates, projections and plain documents in MongoDB."""

import os

# motor runs every call in one pool of threads, and reads its size at import. Its default is five for each processor:
# on a small machine ten calls that wait for a slow server would stop the whole process. The connection pool has 100.
os.environ.setdefault("MOTOR_MAX_WORKERS", "100")
