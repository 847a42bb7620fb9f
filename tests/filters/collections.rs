//! Filters of whole collections: of sealed ones by what is in memory, of plain ones by blind tokens in the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};
use strongroom::vectors::VectorParams;
use strongroom::vectors::blind::{FieldIndexSpec, IndexKind};
use strongroom::{
    Chunk, Collection, CollectionSpec, ErrorKind, Filter, Metric, Mode, RecordId, RotateOptions, SearchRequest, Vectors,
};

use super::common;
use super::generate::{Document, Language, Random};
use super::{cases, naive, random};

const DOCUMENTS: u64 = 200;

fn spec(mode: Mode) -> CollectionSpec {
    let params = VectorParams { size: 3, metric: Metric::Dot };
    CollectionSpec::new(3, Metric::Dot).named([("a", params), ("b", params)]).mode(mode)
}

/// The fields that [`Language::Declared`] asks about.
fn declared(mut spec: CollectionSpec) -> CollectionSpec {
    let of = FieldIndexSpec::new;
    for (field, index) in [
        ("city", of(IndexKind::Keyword).with_prefix()),
        ("n", of(IndexKind::Integer)),
        ("ok", of(IndexKind::Bool)),
        ("when", of(IndexKind::Datetime)),
        ("at", of(IndexKind::Uuid)),
        ("tags", of(IndexKind::Keyword).with_prefix()),
        ("tags[]", of(IndexKind::Uuid)),
        ("a", of(IndexKind::Bool)),
        ("a.b", of(IndexKind::Float)),
        ("a[].b", of(IndexKind::Integer)),
        ("a[0]", of(IndexKind::Float)),
        ("items", of(IndexKind::Datetime)),
        ("items[].n", of(IndexKind::Float)),
        ("items[].city", of(IndexKind::Keyword).with_prefix()),
        ("items[].tags", of(IndexKind::Datetime)),
        ("items[].b", of(IndexKind::Bool)),
        ("a[].n", of(IndexKind::Integer)),
        ("a[].city", of(IndexKind::Uuid)),
        ("a[].tags", of(IndexKind::Bool)),
        ("text", of(IndexKind::Keyword).with_prefix()),
        ("\"odd key.x\"", of(IndexKind::Uuid)),
        ("missing", of(IndexKind::Integer)),
    ] {
        spec = spec.index(field, index);
    }
    spec
}

/// A document, and where it lies.
struct Placed {
    document: Document,
    at: Vec<f32>,
}

fn placed(random: &mut Random, nth: u64) -> Placed {
    let mut document = random.document_for_engine(nth);
    if nth % 5 == 2 {
        document.id = RecordId::text(&format!("doc-{nth}")).unwrap();
    }
    document.vectors = vec!["a".into(), "b".into()];
    Placed { document, at: vec![nth as f32, (nth * 7 % 31) as f32, 1.0] }
}

fn chunk(placed: &Placed) -> Chunk {
    let vectors = Vectors::named([("a", placed.at.clone()), ("b", vec![1.0, 0.0, 0.0])]);
    Chunk::new(placed.document.id.clone(), placed.document.text.clone(), vectors)
        .metadata(placed.document.metadata.clone())
}

/// What listing, counting and searching find, against what a naive reading of the filter does. Returns how many passed.
async fn check(collection: &Collection, all: &BTreeMap<RecordId, Placed>, json: &Value) -> usize {
    let filter = Filter::from_json(json.to_string().as_bytes()).unwrap();
    let canonical: Value = serde_json::from_str(&filter.to_json()).unwrap();
    let mut expected: Vec<_> = all.values().filter(|p| naive::passes(&canonical, &p.document)).collect();
    let ids = |found: &[&Placed]| found.iter().map(|p| p.document.id.to_string()).collect::<Vec<_>>();
    let (listed, more) = collection.scroll_filtered(None, 10_000, filter.clone()).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|chunk| chunk.id.to_string()).collect();
    assert_eq!((listed, more), (ids(&expected), false), "{json}");
    assert_eq!(collection.count_filtered(filter.clone()).await.unwrap(), expected.len(), "{json}");

    let query = [0.3, -1.0, 0.5];
    let score = |p: &Placed| p.at.iter().zip(query).map(|(x, y)| f64::from(*x) * y).sum::<f64>();
    expected.sort_by(|a, b| score(b).total_cmp(&score(a)).then_with(|| a.document.id.cmp(&b.document.id)));
    expected.truncate(10);
    let request = SearchRequest::new(query.map(|x| x as f32).to_vec(), 10).using("a").filter(filter);
    let found = collection.search(request).await.unwrap();
    assert_eq!(found.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>(), ids(&expected), "{json}");
    expected.len()
}

/// Asks about a collection that changes meanwhile, until so many pairs of a record and a filter were looked at.
async fn campaign(collection: &Collection, random: &mut Random, language: Language, cases: usize) {
    let mut all = BTreeMap::new();
    let (mut looked, mut some, mut filters) = (0, 0_usize, 0_usize);
    let mut next = 0;
    while looked < cases {
        let fresh: Vec<_> = (0..DOCUMENTS - all.len() as u64).map(|n| placed(random, next + n)).collect();
        next += 2 * DOCUMENTS;
        collection.ingest(fresh.iter().map(chunk).collect()).await.unwrap();
        all.extend(fresh.into_iter().map(|p| (p.document.id.clone(), p)));
        for _ in 0..60 {
            let json = random.filter(language);
            some += usize::from(check(collection, &all, &json).await > 0);
            filters += 1;
            looked += all.len();
        }
        // Some are written anew under their id, some are deleted by id and some by a filter.
        let ids: Vec<RecordId> = all.keys().step_by(3).cloned().collect();
        for (nth, id) in ids.into_iter().enumerate() {
            if nth % 2 == 0 {
                collection.delete(vec![id.clone()]).await.unwrap();
                all.remove(&id);
            } else {
                // Its vector is its own: no two scores are the same.
                let mut again = placed(random, next - DOCUMENTS + nth as u64);
                again.document.id = id.clone();
                collection.ingest(vec![chunk(&again)]).await.unwrap();
                all.insert(id, again);
            }
        }
        let gone = json!({"must": {"key": "city", "match": {"value": "Rome"}}});
        let before = all.len();
        all.retain(|_, p| !naive::passes(&json!({"must": [gone["must"]]}), &p.document));
        let deleted = collection.delete_filtered(Filter::from_value(&gone).unwrap()).await.unwrap();
        assert_eq!(deleted, before - all.len());
        assert_eq!(collection.count().await.unwrap(), all.len());
    }
    println!("{looked} cases of {filters} filters, of which {some} found something");
    assert!((filters / 10..filters).contains(&some), "the filters say little");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_collection_finds_by_bitmaps_what_passes() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let collection = tenant.create_collection("docs", spec(Mode::Sealed)).await.unwrap();
    campaign(&collection, &mut random(3), Language::Whole, cases()).await;
    let status = collection.status().await.unwrap();
    assert!(status.resident_bytes > DOCUMENTS as usize * 200, "{}", status.resident_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_collection_finds_by_blind_tokens_what_passes() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let collection = tenant.create_collection("docs", declared(spec(Mode::Plain))).await.unwrap();
    campaign(&collection, &mut random(4), Language::Declared, cases()).await;
}

/// `n` chunks of which every tenth is of the year 2020, and so on.
async fn years(collection: &Collection, n: u64) {
    let chunk = |i: u64| {
        let metadata = json!({"hired-in": 2020 + i % 10, "salary-band": format!("zebra-{}", i % 10)});
        let Value::Object(metadata) = metadata else { panic!() };
        Chunk::new(i, "", vec![i as f32, 1.0, 0.0]).metadata(metadata)
    };
    collection.ingest((0..n).map(chunk).collect()).await.unwrap();
}

fn since(year: u64) -> Filter {
    Filter::from_value(&json!({"must": {"key": "hired-in", "range": {"gte": year}}})).unwrap()
}

fn band(n: u64) -> Filter {
    Filter::from_value(&json!({"must": {"key": "salary-band", "match": {"value": format!("zebra-{n}")}}})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_declared_and_dropped_while_the_collection_is_used() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let spec = CollectionSpec::new(3, Metric::Dot).mode(Mode::Plain);
    let collection = tenant.create_collection("docs", spec).await.unwrap();
    years(&collection, 1000).await;
    let e = collection.count_filtered(since(2025)).await.unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidInput && e.to_string().contains("`hired-in`"), "{e}");
    assert!(e.remedy().unwrap().contains("collection index create"));
    let sealed = tenant.create_collection("sealed", CollectionSpec::new(3, Metric::Dot)).await.unwrap();
    years(&sealed, 10).await;
    assert_eq!(sealed.count_filtered(since(2025)).await.unwrap(), 5, "nothing has to be declared");

    let writer = tokio::spawn({
        let collection = collection.clone();
        async move {
            for i in 1000..1200_u64 {
                let Value::Object(metadata) = json!({"hired-in": 2029, "other": i}) else { panic!() };
                let chunk = Chunk::new(i, "", vec![1.0, 2.0, 3.0]).metadata(metadata);
                collection.ingest(vec![chunk]).await.unwrap();
            }
        }
    });
    let made = collection.create_index("hired-in", FieldIndexSpec::new(IndexKind::Integer)).await.unwrap();
    assert!(made >= 1000, "{made}");
    writer.await.unwrap();
    assert_eq!(collection.count_filtered(since(2025)).await.unwrap(), 500 + 200);
    assert_eq!(collection.create_index("hired-in", FieldIndexSpec::new(IndexKind::Integer)).await.unwrap(), 0);
    let other = collection.create_index("hired-in", FieldIndexSpec::new(IndexKind::Float)).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);

    let test = {
        drop((tenant, collection, sealed));
        test.reopen().await
    };
    let tenant = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let collection = tenant.collection("docs").unwrap();
    assert_eq!(collection.count_filtered(since(2029)).await.unwrap(), 100 + 200);
    assert_eq!(collection.indexes()["hired-in"], FieldIndexSpec::new(IndexKind::Integer));
    assert!(collection.drop_index("hired-in").await.unwrap() && !collection.drop_index("hired-in").await.unwrap());
    assert_eq!(collection.count_filtered(since(2025)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
}

/// Guards against records that go without the tokens of a field because another is declared at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_declared_at_once_are_all_there() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let spec = CollectionSpec::new(3, Metric::Dot).mode(Mode::Plain);
    let collection = tenant.create_collection("docs", spec).await.unwrap();
    years(&collection, 2000).await;
    let (other, keyword) = ("salary-band", FieldIndexSpec::new(IndexKind::Keyword));
    for _ in 0..3 {
        let (one, two) = tokio::join!(
            collection.create_index("hired-in", FieldIndexSpec::new(IndexKind::Integer)),
            collection.create_index(other, keyword)
        );
        assert!(one.unwrap() == 2000 && two.unwrap() == 2000);
        assert_eq!(collection.count_filtered(since(2020)).await.unwrap(), 2000);
        assert_eq!(collection.count_filtered(band(7)).await.unwrap(), 200);
        let (one, two) = tokio::join!(collection.drop_index("hired-in"), collection.drop_index(other));
        assert!(one.unwrap() && two.unwrap() && collection.indexes().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_everything_while_tokens_are_made_anew_by_a_rotation() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let mut collections = Vec::new();
    for mode in [Mode::Sealed, Mode::Plain] {
        let spec = CollectionSpec::new(3, Metric::Dot)
            .mode(mode)
            .index("hired-in", FieldIndexSpec::new(IndexKind::Integer))
            .index("salary-band", FieldIndexSpec::new(IndexKind::Keyword));
        let collection = tenant.create_collection(&mode.to_string(), spec).await.unwrap();
        years(&collection, 2000).await;
        collections.push(collection);
    }
    let done = Arc::new(AtomicBool::new(false));
    let ended = done.clone();
    let reader = tokio::spawn(async move {
        let mut rounds = 0;
        while !ended.load(Ordering::SeqCst) || rounds < 3 {
            for collection in &collections {
                assert_eq!(collection.count_filtered(since(2027)).await.unwrap(), 600);
                let request = SearchRequest::new(vec![1.0, 0.0, 0.0], 50).filter(band(4));
                let found = collection.search(request).await.unwrap();
                let expected: Vec<_> = (0..50).map(|i| RecordId::from(1994 - 10 * i)).collect();
                assert!(found.iter().map(|hit| hit.id.clone()).eq(expected));
            }
            rounds += 1;
        }
        rounds
    });
    for _ in 0..2 {
        test.store.rotate(&"acme".parse().unwrap(), RotateOptions::default(), |_| ()).await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    println!("{} rounds of searches", reader.await.unwrap());
}

/// Every file below `dir`.
fn files(dir: &std::path::Path, found: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.extend(std::fs::read(&path).unwrap()) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_have_neither_a_value_nor_the_name_of_a_field() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    for mode in [Mode::Sealed, Mode::Plain] {
        let spec = CollectionSpec::new(3, Metric::Dot)
            .mode(mode)
            .index("hired-in", FieldIndexSpec::new(IndexKind::Integer))
            .index("salary-band", FieldIndexSpec::new(IndexKind::Keyword).with_prefix());
        let collection = tenant.create_collection(&mode.to_string(), spec).await.unwrap();
        years(&collection, 300).await;
        assert_eq!(collection.count_filtered(band(3)).await.unwrap(), 30);
        collection.flush().await.unwrap();
        collection.optimize().await.unwrap();
    }
    drop(tenant);
    let dir = test.close().await;
    let mut bytes = Vec::new();
    files(dir.path(), &mut bytes);
    let needles = ["salary-band", "zebra", "hired-in"];
    let finder = aho_corasick::AhoCorasick::new(needles).unwrap();
    let found: Vec<_> = finder.find_iter(&bytes).map(|m| needles[m.pattern().as_usize()]).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(bytes.len() > 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_decides_where_it_is_asked_for() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let collection = tenant.create_collection("docs", CollectionSpec::new(1, Metric::Dot)).await.unwrap();
    let chunk =
        |n: u64, text: &str| Chunk::new(n, text, vec![n as f32]).metadata(Map::from_iter([("n".into(), n.into())]));
    let chunks = (1..=600).map(|n| chunk(n, if n % 2 == 0 { "An even number" } else { "odd" }));
    collection.ingest(chunks.collect()).await.unwrap();
    let even =
        json!({"must": [{"key": "text", "match": {"phrase": "even number"}}, {"key": "n", "range": {"gt": 590}}]});
    let even = Filter::from_value(&even).unwrap();
    assert_eq!(collection.count_filtered(even.clone()).await.unwrap(), 5);
    let found = collection.search(SearchRequest::new(vec![1.0], 2).filter(even.clone())).await.unwrap();
    assert_eq!(found.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>(), ["600", "598"]);
    collection.ingest(vec![chunk(600, "odd after all")]).await.unwrap();
    let found = collection.search(SearchRequest::new(vec![1.0], 2).filter(even)).await.unwrap();
    assert_eq!(found.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>(), ["598", "596"]);
}
