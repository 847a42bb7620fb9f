"""LangChain's and LlamaIndex's vector stores over Qdrant, unmodified: written, searched with a filter, deleted."""

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    ExactMatchFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaStore

from common import SIZE, connect, models


def embed(text):
    """A vector for each of a few words: no model is needed to see whether they are found."""
    words = ["cat", "dog", "rate", "bank"]
    return [0.1 + text.count(word) for word in words]


class Words(Embeddings):
    def embed_documents(self, texts):
        return [embed(text) for text in texts]

    def embed_query(self, text):
        return embed(text)


def langchain(client):
    client.create_collection("chain", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE))
    store = QdrantVectorStore(client=client, collection_name="chain", embedding=Words())
    documents = [
        Document(page_content="the cat sat on the mat", metadata={"kind": "pet"}),
        Document(page_content="the dog barked", metadata={"kind": "pet"}),
        Document(page_content="the bank raised its rate", metadata={"kind": "money"}),
    ]
    ids = store.add_documents(documents)
    assert len(ids) == 3
    assert store.similarity_search("cat", k=1)[0].page_content == "the cat sat on the mat"
    money = models.Filter(must=[models.FieldCondition(key="metadata.kind", match=models.MatchValue(value="money"))])
    found = store.similarity_search_with_score("cat", k=5, filter=money)
    assert [(d.page_content, d.metadata["kind"]) for d, _ in found] == [("the bank raised its rate", "money")]
    assert [d.page_content for d in store.get_by_ids([ids[1]])] == ["the dog barked"]
    assert store.delete([ids[0]])
    assert "cat" not in store.similarity_search("cat", k=3)[0].page_content
    client.delete_collection("chain")


def llamaindex(client):
    store = LlamaStore(client=client, collection_name="llama")
    texts = {"a": "the cat sat on the mat", "b": "the dog barked", "c": "the bank raised its rate"}
    nodes = [
        TextNode(
            text=text,
            embedding=embed(text),
            metadata={"kind": "money" if name == "c" else "pet"},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{name}")},
        )
        for name, text in texts.items()
    ]
    assert len(store.add(nodes)) == 3
    found = store.query(VectorStoreQuery(query_embedding=embed("cat"), similarity_top_k=1))
    assert found.nodes[0].get_content() == texts["a"]
    pets = MetadataFilters(filters=[ExactMatchFilter(key="kind", value="pet")])
    found = store.query(VectorStoreQuery(query_embedding=embed("rate bank"), similarity_top_k=5, filters=pets))
    assert {n.get_content() for n in found.nodes} == {texts["a"], texts["b"]}
    store.delete("doc-a")
    assert {n.get_content() for n in store.get_nodes(filters=pets)} == {texts["b"]}
    client.delete_collection("llama")


def main():
    client = connect()
    langchain(client)
    llamaindex(client)
    print("ok")


main()
