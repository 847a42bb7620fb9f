"""Random operations, put to the endpoint and to the Python client's own in-memory mode: the answers have to be equal.

STRONGROOM_DIFFERENTIAL is how many operations, STRONGROOM_TEST_SEED repeats a run.
"""

import inspect
import os

from common import QdrantClient, close, connect, models, seeded, vector

NAME = "random"
SIZE = 6
IDS = 60
WORDS = ["red", "green", "blue", "grey"]
CITIES = [{"lon": 13.4, "lat": 52.5}, {"lon": -0.1, "lat": 51.5}, {"lon": 2.35, "lat": 48.85}]
METRICS = [models.Distance.COSINE, models.Distance.DOT, models.Distance.EUCLID]


def point_id(rng):
    n = rng.randrange(IDS)
    return n if n % 3 else f"00000000-0000-4000-8000-{n:012x}"


def payload(rng):
    made = {}
    if rng.random() < 0.8:
        made["color"] = rng.choice(WORDS)
    if rng.random() < 0.8:
        made["n"] = rng.randrange(-20, 20)
    if rng.random() < 0.5:
        made["x"] = round(rng.uniform(-5, 5), 2)
    if rng.random() < 0.4:
        made["tags"] = rng.sample(WORDS, rng.randrange(0, 4))
    if rng.random() < 0.4:
        made["deep"] = {"flag": rng.random() < 0.5, "list": [{"k": rng.choice(WORDS), "v": rng.randrange(5)} for _ in range(rng.randrange(3))]}
    if rng.random() < 0.3:
        made["city"] = rng.choice(CITIES)
    if rng.random() < 0.3:
        made["at"] = f"20{rng.randrange(10, 30)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}T0{rng.randrange(10)}:00:00Z"
    if rng.random() < 0.2:
        made["none"] = None
    if rng.random() < 0.5:
        made["text"] = " ".join(rng.choices(WORDS, k=3))
    return made


def condition(rng, depth=0):
    field = models.FieldCondition
    kinds = [
        lambda: field(key="color", match=models.MatchValue(value=rng.choice(WORDS))),
        lambda: field(key="color", match=models.MatchAny(any=rng.sample(WORDS, 2))),
        lambda: field(key="color", match=models.MatchExcept(**{"except": rng.sample(WORDS, 2)})),
        lambda: field(key="tags", match=models.MatchValue(value=rng.choice(WORDS))),
        lambda: field(key="text", match=models.MatchText(text=rng.choice(WORDS))),
        lambda: field(key="n", match=models.MatchValue(value=rng.randrange(-20, 20))),
        lambda: field(key="n", range=models.Range(gte=rng.randrange(-20, 5), lt=rng.randrange(0, 20))),
        lambda: field(key="x", range=models.Range(gt=round(rng.uniform(-5, 5), 2))),
        lambda: field(key="deep.flag", match=models.MatchValue(value=rng.random() < 0.5)),
        lambda: field(key="deep.list[].v", range=models.Range(lte=rng.randrange(5))),
        lambda: field(key="tags", values_count=models.ValuesCount(gte=rng.randrange(3))),
        lambda: field(key="at", range=models.DatetimeRange(gte=f"20{rng.randrange(10, 30)}-01-01T00:00:00Z")),
        lambda: field(
            key="city",
            geo_radius=models.GeoRadius(center=models.GeoPoint(**rng.choice(CITIES)), radius=rng.choice([1e4, 5e5])),
        ),
        lambda: models.IsEmptyCondition(is_empty=models.PayloadField(key=rng.choice(["tags", "none", "n"]))),
        lambda: models.IsNullCondition(is_null=models.PayloadField(key=rng.choice(["none", "n"]))),
        lambda: models.HasIdCondition(has_id=[point_id(rng) for _ in range(5)]),
        lambda: models.NestedCondition(
            nested=models.Nested(
                key="deep.list",
                filter=models.Filter(
                    must=[
                        field(key="k", match=models.MatchValue(value=rng.choice(WORDS))),
                        field(key="v", range=models.Range(gte=rng.randrange(5))),
                    ]
                ),
            )
        ),
    ]
    if depth < 2 and rng.random() < 0.15:
        return make_filter(rng, depth + 1)
    return rng.choice(kinds)()


def make_filter(rng, depth=0):
    some = lambda: [condition(rng, depth) for _ in range(rng.randrange(1, 3))]
    parts = {}
    for name in ("must", "should", "must_not"):
        if rng.random() < 0.4:
            parts[name] = some()
    if rng.random() < 0.15:
        parts["min_should"] = models.MinShould(conditions=some() + some(), min_count=rng.randrange(1, 3))
    return models.Filter(**(parts or {"must": some()}))


def maybe_filter(rng):
    return make_filter(rng) if rng.random() < 0.6 else None


def selector(rng, filters=True):
    if filters and rng.random() < 0.3:
        return make_filter(rng)
    return list(dict.fromkeys(point_id(rng) for _ in range(rng.randrange(1, 4))))


def points(rng):
    return [
        models.PointStruct(id=point_id(rng), vector=vector(rng, SIZE), payload=payload(rng))
        for _ in range(rng.randrange(1, 6))
    ]


def wanted(rng):
    with_payload = rng.choice([True, False, ["color", "deep.list[].k"], models.PayloadSelectorExclude(exclude=["n", "deep"])])
    return {"with_payload": with_payload, "with_vectors": rng.random() < 0.3}


def operation(rng):
    """What to do, as a name and a function of a client, and how its answers are compared."""
    pick = rng.random()
    if pick < 0.25:
        made = points(rng)
        return "upsert", lambda c: c.upsert(NAME, points=made), done
    if pick < 0.29:
        ids = selector(rng)
        return "delete", lambda c: c.delete(NAME, points_selector=ids), done
    if pick < 0.36:
        new, at = payload(rng) or {"n": 1}, selector(rng)
        key = rng.choice([None, None, "deep", "deep.more", "deep.list[]"])
        return "set", lambda c: c.set_payload(NAME, payload=new, points=at, key=key), done
    if pick < 0.39:
        new, at = payload(rng), selector(rng)
        return "overwrite", lambda c: c.overwrite_payload(NAME, payload=new, points=at), done
    if pick < 0.42:
        at, keys = selector(rng), rng.sample(["n", "deep.flag", "deep.list[].k", "tags", "text"], 2)
        return "unset", lambda c: c.delete_payload(NAME, keys=keys, points=at), done
    if pick < 0.43:
        at = selector(rng)
        return "clear", lambda c: c.clear_payload(NAME, points_selector=at), done
    if pick < 0.46:
        new = [models.PointVectors(id=i, vector=vector(rng, SIZE)) for i in selector(rng, filters=False)]
        return "vectors", lambda c: c.update_vectors(NAME, points=new), done
    if pick < 0.50:
        made, only = points(rng), make_filter(rng)
        steps = [
            models.UpsertOperation(upsert=models.PointsList(points=made)),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"n": 3}, filter=only)),
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["x"], filter=only)),
        ]
        return "batch", lambda c: c.batch_update_points(NAME, update_operations=steps), done
    if pick < 0.54:
        # Each id once: of two, the client in memory asks the condition of the second with the first in place.
        made, only = list({p.id: p for p in points(rng)}.values()), make_filter(rng)
        mode = rng.choice([None, models.UpdateMode.INSERT_ONLY, models.UpdateMode.UPDATE_ONLY])
        return "upsert if", lambda c: c.upsert(NAME, points=made, update_filter=only, update_mode=mode), done
    if pick < 0.62:
        only = maybe_filter(rng)
        return "count", lambda c: c.count(NAME, count_filter=only).count, same
    if pick < 0.70:
        only, how, limit = maybe_filter(rng), wanted(rng), rng.randrange(1, 30)
        offset = rng.choice([None, point_id(rng)])
        return "scroll", lambda c: page(c.scroll(NAME, scroll_filter=only, limit=limit, offset=offset, **how)), same
    if pick < 0.73:
        only, direction = maybe_filter(rng), rng.choice(list(models.Direction))
        by = models.OrderBy(key=rng.choice(["x", "at"]), direction=direction)
        return "order", lambda c: [r.order_value for r in c.scroll(NAME, scroll_filter=only, order_by=by, limit=100)[0]], same
    if pick < 0.76:
        ids, how = selector(rng, filters=False), wanted(rng)
        return "retrieve", lambda c: [record(r) for r in c.retrieve(NAME, ids=ids, **how)], same
    if pick < 0.79:
        only, key = maybe_filter(rng), rng.choice(["color", "tags", "n", "deep.flag"])
        return "facet", lambda c: [(h.value, h.count) for h in c.facet(NAME, key=key, facet_filter=only, limit=50).hits], same
    if pick < 0.82:
        query, only = vector(rng, SIZE), maybe_filter(rng)
        return "groups", lambda c: [
            (g.id, [(h.id, h.score) for h in g.hits])
            for g in c.query_points_groups(NAME, query=query, group_by="color", query_filter=only, group_size=2, limit=3).groups
        ], same
    if pick < 0.85:
        # Ids that are there: what is not is refused by both, but in other words.
        near, how, only = point_id(rng), wanted(rng), maybe_filter(rng)
        return "like", lambda c: [hit(h) for h in c.query_points(NAME, query=near, query_filter=only, limit=8, **how).points], ranked
    if pick < 0.88:
        strategy = rng.choice(list(models.RecommendStrategy))
        examples = models.RecommendInput(
            positive=[vector(rng, SIZE), point_id(rng)], negative=[vector(rng, SIZE)], strategy=strategy
        )
        query = models.RecommendQuery(recommend=examples)
        return "recommend", lambda c: [hit(h) for h in c.query_points(NAME, query=query, limit=8).points], ranked
    query, only, how = vector(rng, SIZE), maybe_filter(rng), wanted(rng)
    limit, offset = rng.randrange(1, 20), rng.randrange(0, 5)
    return "query", lambda c: [
        hit(h) for h in c.query_points(NAME, query=query, query_filter=only, limit=limit, offset=offset, **how).points
    ], ranked


def record(r):
    return {"id": r.id, "payload": r.payload, "vector": r.vector}


def hit(h):
    return {**record(h), "score": h.score}


def page(answer):
    found, offset = answer
    return [record(r) for r in found], offset


def done(_, __):
    return True


def over_grpc(answer):
    """An answer as gRPC can say it, which knows no payload that is not there."""
    if isinstance(answer, dict):
        return {k: None if k == "payload" and v == {} else over_grpc(v) for k, v in answer.items()}
    return [over_grpc(a) for a in answer] if isinstance(answer, (list, tuple)) else answer


def same(ours, theirs):
    return close(ours, theirs)


def ranked(ours, theirs):
    """The same hits; those with the same score in any order."""
    if not close([h["score"] for h in ours], [h["score"] for h in theirs]):
        return False
    by_id = {h["id"]: h for h in theirs}
    # One that ties with the last may be another.
    ties = lambda h: theirs and abs(h["score"] - theirs[-1]["score"]) < 1e-4 * max(1, abs(h["score"]))
    return all(close(h, by_id[h["id"]]) if h["id"] in by_id else ties(h) for h in ours)


def everything(client):
    found, _ = client.scroll(NAME, limit=IDS, with_vectors=True)
    return [record(r) for r in found]


def unlike(ours, theirs):
    """The records that one has and the other has not."""
    return [r for r in ours if not any(close(r, t) for t in theirs)], [t for t in theirs if not any(close(r, t) for r in ours)]


def run(do, client):
    try:
        return "answer", do(client)
    except Exception as e:
        return "refused", f"{type(e).__name__}: {e}"


def main():
    rng = seeded()
    total = int(os.environ.get("STRONGROOM_DIFFERENTIAL", "10000"))
    counts, n = {}, 0
    clients = [connect(), connect(grpc=True)]
    while n < total:
        memory = QdrantClient(":memory:")
        metric = rng.choice(METRICS)
        for client in (clients[0], memory):
            client.delete_collection(NAME)
            client.create_collection(NAME, vectors_config=models.VectorParams(size=SIZE, distance=metric))
        for _ in range(500):
            name, do, compare = operation(rng)
            client = rng.choice(clients)
            ours, theirs = run(do, client), run(do, memory)
            if client is clients[1]:
                ours, theirs = over_grpc(ours), over_grpc(theirs)
            equal = ours[0] == theirs[0] and (ours[0] == "refused" or compare(ours[1], theirs[1]))
            asked = inspect.getclosurevars(do).nonlocals
            assert equal, f"operation {n}, {name}, {metric}, {asked}:\n{ours[1]}\ninstead of\n{theirs[1]}"
            if compare is done:
                ours, theirs = everything(clients[0]), everything(memory)
                assert same(ours, theirs), f"after operation {n}, {name}, {asked}:\n{unlike(ours, theirs)}"
            counts[name] = counts.get(name, 0) + 1
            n += 1
    print(f"{n} operations: {counts}")
    print("ok")


main()
