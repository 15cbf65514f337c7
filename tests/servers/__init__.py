"""Real servers on loopback, each a context manager, for tests, fault campaigns and benchmarks alike.

Every server lives in a folder of its own (configuration, data, log), listens on a free port of 127.0.0.1, and is gone when its block ends.
One that does not come up raises `ServerDidNotStart` with the end of its log.
"""
