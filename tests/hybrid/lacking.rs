//! Chunks that lack some of their collection's vectors: written, replaced, searched, rotated, verified, reopened.

use std::collections::BTreeMap;

use strongroom::vectors::VectorParams;
use strongroom::{
    Chunk, Collection, CollectionSpec, ErrorKind, Metric, Query, QueryRequest, RecordId, RotateOptions, SearchRequest,
    SparseParams, SparseVector, Vectors,
};

use crate::{MODES, chunk, common, sparse, spec};

type Model = BTreeMap<u64, Chunk>;

/// That the collection answers as if everything in `model` were compared.
async fn same(docs: &Collection, model: &Model) {
    assert_eq!(docs.count().await.unwrap(), model.len());
    let stored = docs.get(model.keys().map(|id| (*id).into()).collect()).await.unwrap();
    assert_eq!(stored.len(), model.len());
    for (stored, written) in stored.iter().zip(model.values()) {
        assert!(stored.vectors == written.vectors && stored.text == written.text, "record {}", written.id);
    }
    for (name, metric, size) in [("body", Metric::Cosine, 4), ("title", Metric::Euclid, 3)] {
        let query = common::vector(99, size);
        let mut right: Vec<(RecordId, f64)> = model
            .iter()
            .filter_map(|(id, chunk)| Some(((*id).into(), metric.score_f64(&query, chunk.vectors.get(name)?))))
            .collect();
        right.sort_by(|a, b| metric.best_first(a.1, b.1).then_with(|| a.0.cmp(&b.0)));
        let mut request = SearchRequest::new(query, 1000).using(name);
        request.exact = true;
        let found = docs.search(request).await.unwrap();
        let ids: Vec<_> = found.iter().map(|hit| hit.id.clone()).collect();
        assert!(ids == right.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), "{name}");
    }
    for name in ["terms", "tags"] {
        let query = sparse(98);
        let mut right: Vec<RecordId> = model
            .iter()
            .filter(|(_, chunk)| {
                let vector = chunk.vectors.sparse(name);
                vector.is_some_and(|v| v.indices().iter().any(|index| query.indices().contains(index)))
            })
            .map(|(id, _)| (*id).into())
            .collect();
        let found = docs.query(QueryRequest::new(query, 1000).using(name)).await.unwrap();
        assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        let mut ids: Vec<_> = found.iter().map(|hit| hit.id.clone()).collect();
        ids.sort();
        right.sort();
        assert!(ids == right, "{name}");
    }
}

#[tokio::test]
async fn they_are_found_by_the_vectors_that_they_have() {
    for mode in MODES {
        let mut test = common::store().await;
        let mut tenant = test.tenant("acme").await;
        let mut docs = tenant.create_collection("docs", spec(mode)).await.unwrap();
        let mut model: Model = (0..64).map(|id| (id, chunk(id, id, id))).collect();
        docs.ingest(model.values().cloned().collect()).await.unwrap();
        same(&docs, &model).await;

        // With other vectors than before, into indexes that are there.
        for id in 0..32 {
            model.insert(id, chunk(id, id * 7 + 3, id + 1000));
        }
        docs.ingest(model.values().take(32).cloned().collect()).await.unwrap();
        let gone: Vec<u64> = (10..20).chain(50..55).collect();
        docs.delete(gone.iter().map(|id| (*id).into()).collect()).await.unwrap();
        gone.iter().for_each(|id| drop(model.remove(id)));
        same(&docs, &model).await;
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean(), "{mode}");

        test.store.rotate(&"acme".parse().unwrap(), RotateOptions::default(), |_| ()).await.unwrap();
        same(&docs, &model).await;
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean(), "{mode}: after a rotation");

        drop((docs, tenant));
        test = test.reopen().await;
        tenant = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
        docs = tenant.collection("docs").unwrap();
        assert!(*docs.spec() == spec(mode), "{mode}: the description comes back");
        same(&docs, &model).await;
        docs.optimize().await.unwrap();
        same(&docs, &model).await;
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean(), "{mode}: after a restart");
    }
}

#[tokio::test]
async fn a_collection_may_have_sparse_vectors_only_or_none() {
    for mode in MODES {
        let test = common::store().await;
        let tenant = test.tenant("acme").await;
        let sparse_only = CollectionSpec::without_vectors().mode(mode).sparse([("s", SparseParams::default())]);
        let docs = tenant.create_collection("sparse", sparse_only).await.unwrap();
        let vector = |index| SparseVector::new(vec![index, 100], vec![2.0, 1.0]).unwrap();
        let chunk = |id, vectors| Chunk::new(id, "", vectors);
        docs.ingest(vec![
            chunk(1, Vectors::default().with_sparse("s", vector(1))),
            chunk(2, Vectors::default().with_sparse("s", vector(2))),
            chunk(3, Vectors::default()),
        ])
        .await
        .unwrap();
        // Without a name: there is only one.
        let found = docs.query(QueryRequest::new(vector(2), 9)).await.unwrap();
        assert_eq!(
            found.iter().map(|hit| (hit.id.to_string(), hit.score)).collect::<Vec<_>>(),
            [("2".into(), 5.0), ("1".into(), 1.0)]
        );
        let e = docs.search(SearchRequest::new(vec![1.0], 1)).await.err().unwrap();
        assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::InvalidInput, "the collection has no dense vector"));

        let docs = tenant.create_collection("texts", CollectionSpec::without_vectors().mode(mode)).await.unwrap();
        docs.ingest(vec![Chunk::new(1, "one cat", Vectors::default()), Chunk::new(2, "two dogs", Vectors::default())])
            .await
            .unwrap();
        let found = docs.query(QueryRequest::new(Query::Text("DOG".into()), 9)).await.unwrap();
        assert_eq!(found.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>(), ["2"]);
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", spec(MODES[0])).await.unwrap();
    for (vectors, why) in [
        (Vectors::named([("body", vec![1.0])]), "dimensions"),
        (Vectors::named([("terms", vec![1.0])]), "dense instead of sparse"),
        (Vectors::default().with_sparse("body", sparse(1)), "sparse instead of dense"),
        (Vectors::default().with_sparse("more", sparse(1)), "does not have"),
    ] {
        let e = docs.ingest(vec![Chunk::new(1, "", vectors)]).await.err().unwrap();
        assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains(why), "{e}");
    }
    let params = VectorParams { size: 2, metric: Metric::Dot };
    let both = CollectionSpec::without_vectors().named([("x", params)]).sparse([("x", SparseParams::default())]);
    let unnamed = CollectionSpec::without_vectors().sparse([("", SparseParams::default())]);
    let many = CollectionSpec::new(2, Metric::Dot).sparse((0..16).map(|n| (format!("s{n}"), SparseParams::default())));
    for bad in [both, unnamed, many] {
        assert_eq!(tenant.create_collection("bad", bad).await.err().unwrap().kind(), ErrorKind::InvalidInput);
    }
}
