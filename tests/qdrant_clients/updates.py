"""Many clients change the payload of the same points at once: each change is of another field, and none is lost."""

from concurrent.futures import ThreadPoolExecutor

from common import SIZE, connect, models

NAME = "counters"
CLIENTS = 6
CHANGES = 12


def main():
    client = connect()
    client.create_collection(NAME, vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.DOT))
    points = [1, 2, 3]
    client.upsert(NAME, points=[models.PointStruct(id=i, vector=[i] * SIZE, payload={"text": "t"}) for i in points])

    def change(worker):
        own = connect(grpc=worker % 2 == 1)
        for n in range(CHANGES):
            own.set_payload(NAME, payload={f"w{worker}-{n}": n}, points=points)
            if n % 4 == 0:
                own.update_vectors(NAME, points=[models.PointVectors(id=worker % 3 + 1, vector=[worker] * SIZE)])

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(change, range(CLIENTS)))
    expected = {"text": "t"} | {f"w{w}-{n}": n for w in range(CLIENTS) for n in range(CHANGES)}
    for point in client.retrieve(NAME, points):
        assert point.payload == expected, (point.id, expected.items() ^ point.payload.items())
    print("ok")


main()
