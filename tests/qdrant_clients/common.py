"""What the scripts have in common: where the endpoint is and with which key, from the environment."""

import os
import random

from qdrant_client import QdrantClient, models

SIZE = 4


def connect(grpc=False, key="STRONGROOM_KEY"):
    """A client of the endpoint: the official one, with a URL and an API key."""
    host, rest = os.environ["STRONGROOM_REST"].rsplit(":", 1)
    return QdrantClient(
        url=f"http://{host}:{rest}",
        grpc_port=int(os.environ["STRONGROOM_GRPC"].rsplit(":", 1)[1]),
        prefer_grpc=grpc,
        api_key=os.environ[key],
        timeout=60,
    )


def vector(rng, size=SIZE):
    return [round(rng.uniform(-1, 1), 3) for _ in range(size)]


def close(a, b, places=1e-4):
    """Whether two answers are the same, but for the last digits of numbers that are no integers."""
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) <= places * max(1.0, abs(a), abs(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(close(x, y) for x, y in zip(a, b))
    return a == b


def seeded():
    seed = int(os.environ.get("STRONGROOM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    return random.Random(seed)


__all__ = ["SIZE", "QdrantClient", "close", "connect", "models", "seeded", "vector"]
