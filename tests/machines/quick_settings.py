"""Settings of the tests for real processes: the same order of timings, all of them short."""

from tests.settings import *

PROVIDER_CALL_SECONDS = 2
SLICE_SECONDS = 3
WORKER_TIMEOUT_SECONDS = 5
LEASE_SECONDS = 6
WATCH_SECONDS = 0.5
Q_CLUSTER = {**Q_CLUSTER, "timeout": WORKER_TIMEOUT_SECONDS, "retry": 10}
LOGGING = {**LOGGING, "root": {"handlers": ["console"], "level": "WARNING"}}
