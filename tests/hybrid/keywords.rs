//! Keyword and hybrid search over the sample corpus, and an index that follows every write.

use strongroom::{
    Chunk, Collection, CollectionSpec, Metric, Mode, Query, QueryRequest, RecordId, RotateOptions, SearchRequest,
    Vectors,
};

use crate::{MODES, common};

async fn words(docs: &Collection, text: &str, limit: usize) -> Vec<String> {
    let found = docs.query(QueryRequest::new(Query::Text(text.into()), limit)).await.unwrap();
    found.iter().map(|hit| hit.id.to_string()).collect()
}

/// The questions of the sample, each with the id of the entry that it was written for, if the corpus has that.
fn questions(chunks: &[Chunk]) -> Vec<(String, Option<RecordId>)> {
    let lines = std::fs::read_to_string(common::sample("queries.jsonl")).unwrap();
    let question = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let about = chunks.iter().find(|chunk| chunk.metadata["term"] == line["about"]);
        (line["query"].as_str().unwrap().to_owned(), about.map(|chunk| chunk.id.clone()))
    };
    lines.lines().map(question).collect()
}

#[tokio::test]
async fn known_items_of_the_sample_are_found() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(384, Metric::Cosine)).await.unwrap();
    let chunks = common::sample_chunks();
    docs.ingest(chunks.clone()).await.unwrap();
    let before = docs.status().await.unwrap().resident_bytes;
    for (text, term) in [
        ("grok", "grok"),
        ("notional black hole data sink", "/dev/null"),
        ("ASCII rendition of the ™ appended to phrases", "(TM)"),
    ] {
        let found = docs.query(QueryRequest::new(Query::Text(text.into()), 3)).await.unwrap();
        assert_eq!(found[0].metadata["term"], term, "{text}");
    }
    assert!(docs.status().await.unwrap().resident_bytes > before + 100_000, "the index counts as resident");
    assert!(words(&docs, "xyzzyplugh", 5).await.is_empty(), "a word that is nowhere");

    let vectors = common::sample_vectors("query_vectors.f16.npy");
    let (mut by_words, mut by_vector, mut by_both) = (0, 0, 0);
    for ((text, about), vector) in questions(&chunks).into_iter().zip(vectors) {
        let Some(about) = about else { continue };
        let has = |hits: &[strongroom::Hit]| usize::from(hits.iter().any(|hit| hit.id == about));
        by_words += has(&docs.query(QueryRequest::new(Query::Text(text.clone()), 10)).await.unwrap());
        by_vector += has(&docs.search(SearchRequest::new(vector.clone(), 10)).await.unwrap());
        by_both += has(&docs.query(QueryRequest::hybrid(vector, text, 50, 10)).await.unwrap());
    }
    println!("of 32 questions, the entry is among ten by words {by_words}, by vector {by_vector}, by both {by_both}");
    assert!(by_words >= WORDS_FIND && by_both >= by_vector.min(by_words), "{by_words}, {by_vector}, {by_both}");
}

/// Of the 32 questions whose entry the corpus has, so many at least find it by words alone among the first ten.
const WORDS_FIND: usize = 16;

#[tokio::test]
async fn the_index_follows_every_write() {
    for mode in MODES {
        let mut test = common::store().await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::without_vectors().mode(mode);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        let chunk = |id: u64, text: &str| Chunk::new(id, text, Vectors::default());
        docs.ingest(vec![chunk(1, "red apples"), chunk(2, "green pears"), chunk(3, "")]).await.unwrap();
        assert_eq!(words(&docs, "an apple", 9).await, ["1"]);
        docs.ingest(vec![chunk(2, "a green apple, apples"), chunk(4, "Apple trees bear fruit in autumn")])
            .await
            .unwrap();
        assert_eq!(words(&docs, "apple", 9).await, ["2", "1", "4"], "{mode}: more often first, then in shorter texts");
        assert!(words(&docs, "pear", 9).await.is_empty(), "{mode}: what was replaced");
        docs.delete(vec![1.into()]).await.unwrap();
        assert_eq!(words(&docs, "apples", 9).await, ["2", "4"], "{mode}: what was deleted");

        test.store.rotate(&"acme".parse().unwrap(), RotateOptions::default(), |_| ()).await.unwrap();
        assert_eq!(words(&docs, "apples", 9).await, ["2", "4"], "{mode}: after a rotation");
        let of_index = |status: strongroom::store::CollectionStatus| status.resident_bytes;
        assert!(of_index(docs.status().await.unwrap()) > 0);
        drop((docs, tenant));
        test = test.reopen().await;
        let tenant = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
        let docs = tenant.collection("docs").unwrap();
        assert_eq!(of_index(docs.status().await.unwrap()), 0, "{mode}: nothing is loaded before it is asked for");
        assert_eq!(words(&docs, "apples", 9).await, ["2", "4"], "{mode}: after a restart");
    }
}

#[tokio::test]
async fn a_collection_says_what_language_its_texts_are_in() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    for (name, language, finds) in [("english", "english", false), ("german", "german", true), ("none", "none", false)]
    {
        let spec = CollectionSpec::without_vectors().language(language.parse().unwrap()).mode(Mode::Sealed);
        let docs = tenant.create_collection(name, spec).await.unwrap();
        docs.ingest(vec![Chunk::new(1, "Die Häuser am See", Vectors::default())]).await.unwrap();
        assert_eq!(!words(&docs, "haus", 1).await.is_empty(), finds, "{language}");
        assert_eq!(words(&docs, "HÄUSER", 1).await, ["1"], "{language}");
    }
}
