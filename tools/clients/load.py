"""Many of Qdrant's clients at once: no call may fail, and the server may not grow.

target/clients/venv/bin/python tools/clients/load.py --url http://127.0.0.1:6333 --api-key srk_… --pid $(pidof strongroom)

Each client writes, searches with a filter, reads, changes payloads, lists and counts by turns, over gRPC or REST, in a
collection that all share. Prints one line of JSON: calls and milliseconds by kind, and the resident memory of the server
in MiB, every fifth of the time, from when all points are there.
"""

import argparse
import json
import random
import threading
import time

from qdrant_client import QdrantClient, models

NAME = "load"
SIZE = 384
POINTS = 4096


def vector(rng):
    return [rng.gauss(0, 1) for _ in range(SIZE)]


def point(rng, at):
    return models.PointStruct(id=at, vector=vector(rng), payload={"text": "word " * 64, "n": at % 10})


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


class Client(threading.Thread):
    def __init__(self, seed, connect, until):
        super().__init__(daemon=True)
        self.rng, self.connect, self.until = random.Random(seed), connect, until
        self.took, self.failed = {}, []

    def run(self):
        client, rng = self.connect(), self.rng
        few = lambda: [rng.randrange(POINTS) for _ in range(4)]
        some = lambda: models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=rng.randrange(10)))])
        calls = {
            "upsert": lambda: client.upsert(NAME, points=[point(rng, at) for at in few()], wait=True),
            "search": lambda: client.query_points(NAME, query=vector(rng), limit=10, with_payload=True),
            "filtered": lambda: client.query_points(NAME, query=vector(rng), query_filter=some(), limit=10),
            "retrieve": lambda: client.retrieve(NAME, ids=few(), with_payload=True),
            "payload": lambda: client.set_payload(NAME, payload={"seen": rng.random()}, points=few(), wait=True),
            "scroll": lambda: client.scroll(NAME, limit=10),
            "count": lambda: client.count(NAME),
        }
        while time.monotonic() < self.until:
            kind = rng.choice(list(calls))
            start = time.monotonic()
            try:
                calls[kind]()
                self.took.setdefault(kind, []).append(time.monotonic() - start)
            except Exception as e:
                self.failed.append(f"{kind}: {e}"[:200])
        client.close()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--url", required=True)
    options.add_argument("--api-key", required=True)
    options.add_argument("--grpc-port", type=int, help="over gRPC there; else over REST")
    options.add_argument("--pid", type=int, required=True, help="the server's")
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--seconds", type=int, default=60)
    asked = options.parse_args()
    grpc = {"prefer_grpc": True, "grpc_port": asked.grpc_port} if asked.grpc_port else {}
    connect = lambda: QdrantClient(url=asked.url, api_key=asked.api_key, timeout=60, check_compatibility=False, **grpc)

    first, rng = connect(), random.Random(0)
    if first.collection_exists(NAME):
        first.delete_collection(NAME)
    first.create_collection(NAME, vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE))
    for start in range(0, POINTS, 256):
        first.upsert(NAME, points=[point(rng, at) for at in range(start, start + 256)], wait=True)
    until = time.monotonic() + asked.seconds
    clients = [Client(seed + 1, connect, until) for seed in range(asked.clients)]
    for client in clients:
        client.start()
    resident = [resident_mib(asked.pid)]
    for _ in range(5):
        time.sleep(asked.seconds / 5)
        resident.append(resident_mib(asked.pid))
    for client in clients:
        client.join()
    first.delete_collection(NAME)

    took, failed = {}, [why for client in clients for why in client.failed]
    for client in clients:
        for kind, times in client.took.items():
            took.setdefault(kind, []).extend(times)
    summary = {}
    for kind, times in sorted(took.items()):
        times.sort()
        at = lambda part: round(times[min(int(len(times) * part), len(times) - 1)] * 1000, 1)
        summary[kind] = {"calls": len(times), "p50_ms": at(0.5), "p99_ms": at(0.99)}
    print(json.dumps({"clients": asked.clients, "failed": failed[:5], "failures": len(failed), "calls": summary,
                      "resident_mib": resident}))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
