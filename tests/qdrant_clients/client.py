"""The official Python client, unmodified, over REST or gRPC: every call that is supported, once at least."""

import sys

from common import SIZE, close, connect, models

NAME = "docs"
UUID = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"


def refused(call, words, code):
    """The call is refused, with a sentence that has these words."""
    try:
        call()
    except Exception as e:  # The client has one kind for REST and another for gRPC.
        status = getattr(e, "status_code", None) or e.code().name
        assert status in code, (status, str(e))
        # Over REST it has the bytes of the answer, as Python writes them.
        assert words in str(e).replace("\\'", "'"), str(e)
        return
    raise AssertionError(f"not refused: {words}")


def collections(client):
    client.create_collection(NAME, vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE))
    refused(
        lambda: client.create_collection(
            NAME, vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
        ),
        "already exists",
        (409, "ALREADY_EXISTS"),
    )
    assert client.collection_exists(NAME) and not client.collection_exists("none")
    assert [c.name for c in client.get_collections().collections] == [NAME]
    info = client.get_collection(NAME)
    assert info.status == models.CollectionStatus.GREEN and info.points_count == 0
    assert info.config.params.vectors.size == SIZE
    assert info.config.params.vectors.distance == models.Distance.COSINE
    refused(lambda: client.get_collection("none"), "doesn't exist", (404, "NOT_FOUND"))
    client.update_collection(NAME, metadata={"owner": "acme", "n": 1})
    assert client.get_collection(NAME).config.metadata == {"owner": "acme", "n": 1}


def points(client):
    client.upsert(
        NAME,
        points=[
            models.PointStruct(id=1, vector=[1, 0, 0, 0], payload={"text": "a cat", "city": "Berlin", "n": 1}),
            models.PointStruct(id=2, vector=[0, 1, 0, 0], payload={"text": "a dog", "city": "London", "n": 2}),
            models.PointStruct(id=UUID, vector=[0.6, 0.8, 0, 0], payload={"city": "Berlin", "tags": ["x", "y"]}),
        ],
        wait=True,
    )
    client.upsert(
        NAME,
        points=models.Batch(ids=[4, 5], vectors=[[0, 0, 2, 0], [0, 0, 0, 3]], payloads=[{"n": 4}, {"n": 5}]),
        wait=True,
    )
    assert client.count(NAME).count == 5
    berlin = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))])
    assert client.count(NAME, count_filter=berlin).count == 2
    found = client.retrieve(NAME, ids=[1, UUID, 99], with_vectors=True)
    assert [p.id for p in found] == [1, UUID]
    assert found[0].payload == {"text": "a cat", "city": "Berlin", "n": 1}
    # Qdrant keeps what is compared by cosine with length 1.
    assert close(found[1].vector, [0.6, 0.8, 0.0, 0.0]) and close(client.retrieve(NAME, [4], with_vectors=True)[0].vector, [0, 0, 1, 0])
    hits = client.query_points(NAME, query=[1, 0, 0, 0], query_filter=berlin, limit=10, with_payload=True).points
    assert [h.id for h in hits] == [1, UUID] and close(hits[0].score, 1.0) and close(hits[1].score, 0.6)
    assert hits[0].payload["text"] == "a cat"
    hits = client.query_points(NAME, query=[1, 0, 0, 0], score_threshold=0.5, with_payload=["n"]).points
    # gRPC has no payload where nothing is left of it.
    assert [(h.id, h.payload or {}) for h in hits] == [(1, {"n": 1}), (UUID, {})]
    # The nearest to a point are the others.
    assert [h.id for h in client.query_points(NAME, query=1, limit=1).points] == [UUID]
    many = client.query_batch_points(
        NAME, requests=[models.QueryRequest(query=[0, 1, 0, 0], limit=1), models.QueryRequest(query=2, limit=1)]
    )
    assert [r.points[0].id for r in many] == [2, UUID]
    recommended = client.query_points(
        NAME,
        query=models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[1], negative=[2], strategy=models.RecommendStrategy.BEST_SCORE
            )
        ),
        limit=3,
    ).points
    assert 1 not in [h.id for h in recommended] and 2 not in [h.id for h in recommended] and recommended
    groups = client.query_points_groups(NAME, query=[1, 0, 0, 0], group_by="city", limit=5, group_size=1).groups
    assert [(g.id, [h.id for h in g.hits]) for g in groups] == [("Berlin", [1]), ("London", [2])]
    facet = client.facet(NAME, key="city")
    assert [(h.value, h.count) for h in facet.hits] == [("Berlin", 2), ("London", 1)]


def pages(client):
    page, offset = client.scroll(NAME, limit=2)
    assert [p.id for p in page] == [1, 2] and offset == 4
    page, offset = client.scroll(NAME, limit=2, offset=offset)
    assert [p.id for p in page] == [4, 5] and offset == UUID
    page, offset = client.scroll(NAME, limit=2, offset=offset)
    assert [p.id for p in page] == [UUID] and offset is None
    ordered, _ = client.scroll(
        NAME, limit=3, order_by=models.OrderBy(key="n", direction=models.Direction.DESC, start_from=4)
    )
    assert [p.id for p in ordered] == [4, 2, 1]
    some, _ = client.scroll(NAME, scroll_filter=models.Filter(must=[models.HasIdCondition(has_id=[2, UUID])]))
    assert [p.id for p in some] == [2, UUID]


def payloads(client):
    client.set_payload(NAME, payload={"n": 10, "text": "a lion"}, points=[1])
    assert client.retrieve(NAME, [1])[0].payload == {"text": "a lion", "city": "Berlin", "n": 10}
    client.set_payload(NAME, payload={"x": 1}, key="deep.er", points=[1])
    client.delete_payload(NAME, keys=["city", "deep.er.x"], points=[1])
    assert client.retrieve(NAME, [1])[0].payload == {"text": "a lion", "n": 10, "deep": {"er": {}}}
    client.overwrite_payload(NAME, payload={"only": "this"}, points=[1])
    assert client.retrieve(NAME, [1])[0].payload == {"only": "this"}
    london = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="London"))])
    client.set_payload(NAME, payload={"capital": True}, points=london)
    assert client.retrieve(NAME, [2])[0].payload["capital"] is True
    client.clear_payload(NAME, points_selector=[1])
    assert client.retrieve(NAME, [1])[0].payload == {}
    refused(lambda: client.set_payload(NAME, payload={"n": 0}, points=[99]), "99", (404, "NOT_FOUND"))
    client.update_vectors(NAME, points=[models.PointVectors(id=1, vector=[0, 0, 1, 0])])
    assert close(client.retrieve(NAME, [1], with_vectors=True)[0].vector, [0, 0, 1, 0])
    client.batch_update_points(
        NAME,
        update_operations=[
            models.UpsertOperation(
                upsert=models.PointsList(points=[models.PointStruct(id=6, vector=[1, 1, 0, 0], payload={"n": 6})])
            ),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"m": 7}, points=[6])),
            models.DeleteOperation(delete=models.PointIdsList(points=[5])),
        ],
    )
    assert client.retrieve(NAME, [5, 6])[0].payload == {"n": 6, "m": 7}


def names(client):
    client.create_payload_index(NAME, field_name="city", field_schema=models.PayloadSchemaType.KEYWORD)
    assert client.get_collection(NAME).payload_schema["city"].data_type == models.PayloadSchemaType.KEYWORD
    params = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    client.create_payload_index(NAME, field_name="city", field_schema=params)
    assert client.get_collection(NAME).payload_schema["city"].params.is_tenant
    client.delete_payload_index(NAME, field_name="city")
    assert client.get_collection(NAME).payload_schema == {}
    client.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=NAME, alias_name="live"))]
    )
    assert [(a.alias_name, a.collection_name) for a in client.get_aliases().aliases] == [("live", NAME)]
    assert client.count("live").count == client.count(NAME).count
    client.update_collection_aliases(
        [models.RenameAliasOperation(rename_alias=models.RenameAlias(old_alias_name="live", new_alias_name="now"))]
    )
    assert [a.alias_name for a in client.get_collection_aliases(NAME).aliases] == ["now"]
    client.update_collection_aliases(
        [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="now"))]
    )
    refused(lambda: client.count("now"), "doesn't exist", (404, "NOT_FOUND"))


def hybrid(client):
    name = "hybrid"
    client.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=SIZE, distance=models.Distance.DOT)},
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    info = client.get_collection(name).config.params
    assert info.vectors["dense"].distance == models.Distance.DOT
    assert info.sparse_vectors["words"].modifier == models.Modifier.IDF
    sparse = lambda *pairs: models.SparseVector(indices=[i for i, _ in pairs], values=[v for _, v in pairs])
    client.upsert(
        name,
        points=[
            models.PointStruct(id=1, vector={"dense": [1, 0, 0, 0], "words": sparse((7, 1.0), (3, 0.5))}),
            models.PointStruct(id=2, vector={"dense": [0, 1, 0, 0]}),
            models.PointStruct(id=3, vector={"words": sparse((3, 2.0))}),
        ],
    )
    hits = client.query_points(name, query=sparse((3, 1.0)), using="words", with_vectors=True).points
    assert [h.id for h in hits] == [3, 1]
    assert hits[1].vector["words"].indices == [3, 7] and close(hits[1].vector["dense"], [1, 0, 0, 0])
    fused = client.query_points(
        name,
        prefetch=[
            models.Prefetch(query=[1, 0.1, 0, 0], using="dense", limit=5),
            models.Prefetch(query=sparse((3, 1.0), (7, 1.0)), using="words", limit=5),
        ],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
    ).points
    assert fused[0].id == 1 and {h.id for h in fused} == {1, 2, 3}
    client.delete_vectors(name, vectors=["words"], points=[1])
    assert list(client.retrieve(name, [1], with_vectors=True)[0].vector) == ["dense"]
    assert client.delete_collection(name)


def unoffered(client):
    code = (501, "UNIMPLEMENTED")
    vectors = lambda **more: models.VectorParams(size=SIZE, distance=models.Distance.COSINE, **more)
    refused(lambda: client.create_collection("x", vectors_config=vectors(), shard_number=3), "shard", code)
    refused(lambda: client.create_collection("x", vectors_config=vectors(), replication_factor=2), "backups", code)
    refused(
        lambda: client.create_collection(
            "x", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.MANHATTAN)
        ),
        "Manhattan",
        code,
    )
    refused(
        lambda: client.query_points(
            NAME, query=models.DiscoverQuery(discover=models.DiscoverInput(target=2, context=[]))
        ),
        "recommend",
        code,
    )
    refused(
        lambda: client.create_payload_index(NAME, "text", field_schema=models.PayloadSchemaType.TEXT), "words", code
    )
    assert not client.collection_exists("x")


def gone(client):
    client.delete(NAME, points_selector=[1])
    berlin = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))])
    client.delete(NAME, points_selector=models.FilterSelector(filter=berlin))
    assert {p.id for p in client.scroll(NAME, limit=100)[0]} == {2, 4, 6}
    assert client.delete_collection(NAME) and not client.collection_exists(NAME)


def main():
    client = connect(grpc=sys.argv[1] == "grpc")
    for part in (collections, points, pages, payloads, names, hybrid, unoffered, gone):
        part(client)
    print("ok")


main()
