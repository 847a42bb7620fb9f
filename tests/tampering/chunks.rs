//! Chunks: a hostile vector engine, and a hostile registry beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strongroom::kv::Table;
use strongroom::vectors::blind::{FieldIndexSpec, IndexKind};
use strongroom::vectors::edge::Edge;
use strongroom::vectors::engine::{Fields, Point, SearchableVector, Shape, VectorBackend as _};
use strongroom::vectors::{Collection, CollectionId};
use strongroom::{Chunk, CollectionSpec, Metric, Mode, RecordId, SearchRequest};
use uuid::Uuid;

use crate::common::vector;
use crate::vault::{Points, Stored, Vault};
use crate::world::{Row, World, mutations, or_integrity};

const SIZE: usize = 6;
const RECORDS: u64 = 4;
/// Of whom there is an older version.
const VICTIM: u64 = 1;

fn chunk(id: u64, version: u64) -> Chunk {
    let metadata = serde_json::json!({ "n": id, "v": version }).as_object().unwrap().clone();
    Chunk::new(id, format!("text {id} as of {version}"), vector(id * 10 + version, SIZE)).metadata(metadata)
}

/// Four records in an engine that can be told to lie.
struct Scene {
    world: World,
    vault: Vault,
    id: CollectionId,
    mode: Mode,
    /// As everything is, and as the victim was before.
    points: Points,
    older: Point,
    registry: Vec<Row>,
    older_row: Row,
}

/// What the readers made of it.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// Readers that refused.
    refused: Vec<String>,
    /// Whether `verify` reported damage, or refused to run.
    reported: bool,
}

impl Scene {
    fn new(mode: Mode) -> Self {
        let vault = Vault::default();
        let world = World::new(|_| Arc::new(vault.clone()));
        let spec = CollectionSpec::new(SIZE, Metric::Cosine).mode(mode);
        let spec = spec.index("n", FieldIndexSpec::new(IndexKind::Integer));
        let docs = world.catalog().unwrap().create(&"docs".parse().unwrap(), spec).unwrap();
        docs.upsert((0..RECORDS).map(|id| chunk(id, 1)).collect()).unwrap();
        let id = docs.id();
        let points = |vault: &Vault| vault.stored.lock().collections[&id].clone();
        let (before, registry_before) = (points(&vault), world.rows(Table::Registry));
        docs.upsert(vec![chunk(VICTIM, 2)]).unwrap();
        docs.close().unwrap();
        let (points, registry) = (points(&vault), world.rows(Table::Registry));
        let older_row = registry_before.iter().find(|row| !registry.contains(row)).unwrap().clone();
        let victim = Uuid::from_slice(&older_row.key[16..]).unwrap();
        let older = before[&victim].clone();
        Self { world, vault, id, mode, points, older, registry, older_row }
    }

    fn victim(&self) -> Uuid {
        self.older.id
    }

    fn other(&self) -> Uuid {
        *self.points.keys().find(|id| **id != self.older.id).unwrap()
    }

    fn truth() -> BTreeMap<RecordId, Chunk> {
        (0..RECORDS).map(|id| (id.into(), chunk(id, 1 + u64::from(id == VICTIM)))).collect()
    }

    fn open(&self) -> Arc<Collection> {
        self.world.catalog().unwrap().get(&"docs".parse().unwrap()).unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut Points)) {
        change(self.vault.stored.lock().collections.get_mut(&self.id).unwrap());
    }

    fn lie(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.vault.stored.lock());
    }

    /// As it was before any tampering.
    fn restore(&self) {
        let collections = BTreeMap::from([(self.id, self.points.clone())]);
        *self.vault.stored.lock() = Stored { collections, ..Stored::default() };
        for row in self.world.rows(Table::Registry) {
            self.world.delete(Table::Registry, &row.key);
        }
        self.registry.iter().for_each(|row| self.world.put(Table::Registry, &row.key, &row.value));
    }

    /// Reads everything in every way. What comes out is right, or the reader refuses. `all_found`: whether a search by
    /// the engine finds everything, which only the engine knows.
    fn judge(&self, what: &str, all_found: bool) -> Verdict {
        let truth = Self::truth();
        let mut refused = Vec::new();
        for (id, right) in &truth {
            match or_integrity(what, self.open().get(std::slice::from_ref(id))) {
                Some(got) => {
                    assert_eq!(got.len(), 1, "{what}: record {id} is gone");
                    assert!(got[0].text == right.text && got[0].metadata == right.metadata, "{what}: {id} is wrong");
                    assert!(got[0].vectors == right.vectors, "{what}: the vector of {id} is wrong");
                }
                None => refused.push(format!("get {id}")),
            }
        }
        match or_integrity(what, self.open().scroll(None, 100)) {
            Some((page, more)) => {
                assert!(!more && page.len() == truth.len(), "{what}: a page of {}", page.len());
                assert!(page.iter().all(|c| truth[&c.id].text == c.text), "{what}: the page is wrong");
            }
            None => refused.push("scroll".into()),
        }
        let query = vector(77, SIZE);
        match or_integrity(what, self.open().search(&SearchRequest::new(query.clone(), 10))) {
            Some(hits) => {
                let mut ids: Vec<_> = hits.iter().map(|hit| &hit.id).collect();
                ids.sort();
                ids.dedup();
                assert_eq!(ids.len(), hits.len(), "{what}: a result twice");
                assert!(!all_found || hits.len() == truth.len(), "{what}: {} results", hits.len());
                for hit in &hits {
                    let right = &truth[&hit.id];
                    assert_eq!(hit.text, right.text, "{what}: a result is wrong");
                    let score = Metric::Cosine.score(&query, right.vectors.get("").unwrap());
                    assert!((score - hit.score).abs() < 1e-6, "{what}: a score is wrong");
                }
            }
            None => refused.push("search".into()),
        }
        let report = or_integrity(what, self.open().verify(|_| {}));
        Verdict { refused, reported: report.is_none_or(|r| !r.is_clean()) }
    }

    /// Asserts that an attack on the victim was noticed by whoever reads the victim, and by nobody else.
    fn noticed(&self, what: &str) {
        let verdict = self.judge(what, true);
        assert!(verdict.reported, "{what}: verify reports nothing");
        let refused = |reader: &str| verdict.refused.iter().any(|r| r == reader);
        assert!(refused(&format!("get {VICTIM}")), "{what}: {verdict:?}");
        assert!(refused("scroll") && refused("search"), "{what}: {verdict:?}");
        let spared = (0..RECORDS).filter(|id| *id != VICTIM).all(|id| !refused(&format!("get {id}")));
        assert!(spared, "{what} took others along: {verdict:?}");
        self.restore();
    }

    /// Asserts that `verify` reports it and no reader is misled.
    fn reported(&self, what: &str, all_found: bool) -> Verdict {
        let verdict = self.judge(what, all_found);
        assert!(verdict.reported, "{what}: verify reports nothing");
        self.restore();
        verdict
    }
}

fn scenes() -> [Scene; 3] {
    [Mode::Sealed, Mode::Veiled, Mode::Plain].map(Scene::new)
}

#[test]
fn an_honest_engine_is_believed() {
    for scene in scenes() {
        assert_eq!(scene.judge("nothing", true), Verdict::default());
    }
}

#[test]
fn every_bit_of_a_stored_point() {
    for scene in scenes() {
        let victim = scene.victim();
        for (what, changed) in mutations(&scene.points[&victim].payload) {
            scene.set(|points| points.get_mut(&victim).unwrap().payload = changed);
            scene.noticed(&format!("payload, {what}"));
        }
        for (what, changed) in mutations(&scene.points[&victim].vector) {
            scene.set(|points| points.get_mut(&victim).unwrap().vector = changed);
            scene.noticed(&format!("vector, {what}"));
        }
        for bit in 0..32 {
            scene.set(|points| points.get_mut(&victim).unwrap().epoch ^= 1 << bit);
            scene.noticed(&format!("epoch, bit {bit}"));
        }
        for bit in 0..64 {
            scene.set(|points| points.get_mut(&victim).unwrap().version ^= 1 << bit);
            scene.noticed(&format!("version, bit {bit}"));
        }
    }
}

#[test]
fn swapped_records_and_vectors() {
    for scene in scenes() {
        let (victim, other) = (scene.victim(), scene.other());
        let swap = |what: &str, change: &dyn Fn(&mut Point, &mut Point)| {
            let (mut a, mut b) = (scene.points[&victim].clone(), scene.points[&other].clone());
            change(&mut a, &mut b);
            scene.set(|points| points.extend([(victim, Point { id: victim, ..a }), (other, Point { id: other, ..b })]));
            let verdict = scene.reported(what, true);
            assert!(verdict.refused.len() >= 4, "{what}: {verdict:?}");
        };
        swap("records", &|a, b| std::mem::swap(a, b));
        swap("payloads", &|a, b| std::mem::swap(&mut a.payload, &mut b.payload));
        swap("vectors", &|a, b| std::mem::swap(&mut a.vector, &mut b.vector));
        swap("sealed fields", &|a, b| {
            std::mem::swap(&mut a.payload, &mut b.payload);
            std::mem::swap(&mut a.vector, &mut b.vector);
        });
        let mut point = scene.points[&victim].clone();
        std::mem::swap(&mut point.payload, &mut point.vector);
        scene.set(|points| drop(points.insert(victim, point)));
        scene.noticed("the fields of one record");
    }
}

#[test]
fn an_older_version_of_a_record() {
    for scene in scenes() {
        let (victim, older, current) = (scene.victim(), &scene.older, &scene.points[&scene.victim()]);
        for (what, point) in [
            ("the point", older.clone()),
            ("the payload", Point { payload: older.payload.clone(), ..current.clone() }),
            ("the vector", Point { vector: older.vector.clone(), ..current.clone() }),
            ("the sealed fields", Point { version: current.version, ..older.clone() }),
        ] {
            scene.set(|points| drop(points.insert(victim, point)));
            scene.noticed(what);
        }
        // The registry alone, rolled back.
        scene.world.put(Table::Registry, &scene.older_row.key, &scene.older_row.value);
        scene.noticed("the registry row");
    }
}

/// Registry and engine rolled back together look exactly as the store did then: nothing inside the data directory can
/// tell. `threat_model.md` says so; the audit log, which is kept elsewhere, is what shows it.
#[test]
fn a_rollback_of_everything_shows_the_past_and_nothing_else() {
    for scene in scenes() {
        scene.set(|points| drop(points.insert(scene.victim(), scene.older.clone())));
        scene.world.put(Table::Registry, &scene.older_row.key, &scene.older_row.value);
        let got = scene.open().get(&[VICTIM.into()]).unwrap();
        assert_eq!(got[0].text, chunk(VICTIM, 1).text);
        assert!(scene.open().verify(|_| {}).unwrap().is_clean());
    }
}

#[test]
fn dropped_and_made_up_records() {
    for scene in scenes() {
        let victim = scene.victim();
        scene.set(|points| drop(points.remove(&victim)));
        let verdict = scene.reported("dropped", false);
        // A search by the engine finds what the engine pleases: only `sealed` mode notices.
        let noticed = 2 + usize::from(scene.mode == Mode::Sealed);
        assert_eq!(verdict.refused.len(), noticed, "{verdict:?}");

        let copy = Point { id: Uuid::from_u128(7), ..scene.points[&victim].clone() };
        scene.set(|points| drop(points.insert(copy.id, copy)));
        let verdict = scene.reported("made up", true);
        assert_eq!(verdict.refused, ["scroll", "search"]);
    }
}

#[test]
fn answers_that_are_not_what_is_stored() {
    for scene in scenes() {
        scene.lie(|stored| stored.repeats = true);
        scene.reported("an answer with a point twice", true);
        scene.lie(|stored| stored.denies = true);
        assert_eq!(scene.judge("an engine that says it is empty", true), Verdict::default());
        scene.restore();
    }
    for scene in scenes() {
        scene.lie(|stored| stored.endless = true);
        assert!(scene.judge("a list without end", false).reported);
        assert!(or_integrity("a list without end", scene.open().verify(|_| {})).is_none());
        scene.restore();
    }
    let scene = Scene::new(Mode::Plain);
    for lie in [0.1, -0.1, 1e9, f32::INFINITY] {
        scene.lie(|stored| stored.score_lie = lie);
        assert_eq!(scene.judge("a wrong score", true).refused, ["search"]);
        scene.restore();
    }
}

#[test]
fn the_vector_that_the_engine_searches() {
    let scene = Scene::new(Mode::Plain);
    let (victim, other) = (scene.victim(), scene.other());
    for at in 0..SIZE {
        scene.set(|points| points.get_mut(&victim).unwrap().searchable[0].1[at] += 0.3);
        scene.reported(&format!("value {at}"), true);
    }
    scene.set(|points| {
        let [first, second] = [victim, other].map(|id| points[&id].searchable.clone());
        points.get_mut(&victim).unwrap().searchable = second;
        points.get_mut(&other).unwrap().searchable = first;
    });
    assert_eq!(scene.reported("swapped", true).refused, ["search"]);
    scene.set(|points| points.get_mut(&victim).unwrap().searchable.clear());
    scene.reported("left out", false);
}

/// Noise hides from a search whether the engine has what it was given; no result is wrong for it, and `verify` tells.
#[test]
fn the_veiled_vector_and_the_tag() {
    let scene = Scene::new(Mode::Veiled);
    let (victim, other) = (scene.victim(), scene.other());
    let one_part: BTreeSet<_> = scene.points.values().map(|point| point.tag).collect();
    assert!(one_part.len() == 1 && one_part.iter().all(Option::is_some));
    let change = |what: &str, all_found: bool, change: &dyn Fn(&mut Point)| {
        scene.set(|points| change(points.get_mut(&victim).unwrap()));
        assert!(scene.reported(what, all_found).refused.is_empty(), "{what}");
    };
    for at in 0..SIZE {
        change(&format!("value {at}"), true, &|point| point.searchable[0].1[at] += 0.3);
    }
    let stolen = scene.points[&other].searchable.clone();
    change("the vector of another", true, &|point| point.searchable = stolen.clone());
    change("the exact vector", true, &|point| point.searchable[0].1 = vector(VICTIM * 10 + 2, SIZE));
    change("no vector", false, &|point| point.searchable.clear());
    change("another tag", false, &|point| point.tag = Some([7; 16]));
    change("no tag", false, &|point| point.tag = None);
}

/// A filter may miss a record whose tokens the engine has changed; `verify` tells.
#[test]
fn the_tokens() {
    for mode in [Mode::Veiled, Mode::Plain] {
        let scene = Scene::new(mode);
        let (victim, other) = (scene.victim(), scene.other());
        let change = |what: &str, change: &dyn Fn(&mut Vec<[u8; 16]>)| {
            scene.set(|points| change(&mut points.get_mut(&victim).unwrap().tokens));
            assert!(scene.reported(what, true).refused.is_empty(), "{what}");
        };
        change("a bit", &|tokens| tokens[0][3] ^= 1);
        change("one less", &|tokens| _ = tokens.pop());
        change("one more", &|tokens| tokens.push([7; 16]));
        let stolen = scene.points[&other].tokens.clone();
        change("those of another", &|tokens| tokens.clone_from(&stolen));
    }
}

/// More parts are more to find out for whoever holds the engine, who must not have a say in it.
#[test]
fn the_engine_does_not_say_how_many_parts_there_are() {
    let scene = Scene::new(Mode::Veiled);
    scene.lie(|stored| stored.denies = true);
    let docs = scene.open();
    docs.upsert((100..2600).map(|id| chunk(id, 1)).collect()).unwrap();
    docs.upsert((2600..3000).map(|id| chunk(id, 1)).collect()).unwrap();
    let parts: BTreeSet<_> = scene.vault.stored.lock().collections[&scene.id].values().map(|point| point.tag).collect();
    assert_eq!(parts.len(), 2);
}

#[test]
fn every_bit_of_a_registry_row() {
    for scene in scenes() {
        let row = scene.registry.iter().find(|row| row.key == scene.older_row.key).unwrap();
        for (what, changed) in mutations(&row.value) {
            scene.world.put(Table::Registry, &row.key, &changed);
            let what = format!("registry row, {what}");
            let verdict = scene.reported(&what, true);
            assert!(verdict.refused.contains(&format!("get {VICTIM}")), "{what}: {verdict:?}");
        }
        let other = scene.registry.iter().find(|row| row.key != scene.older_row.key).unwrap();
        scene.world.put(Table::Registry, &row.key, &other.value);
        scene.world.put(Table::Registry, &other.key, &row.value);
        assert!(scene.reported("two registry rows", true).refused.len() >= 4);
        scene.world.delete(Table::Registry, &row.key);
        scene.world_without_a_row();
    }
}

impl Scene {
    /// A record that only the engine knows is refused by id; a listing goes by the registry and does not have it.
    fn world_without_a_row(&self) {
        assert!(or_integrity("get", self.open().get(&[VICTIM.into()])).is_none());
        assert!(or_integrity("search", self.open().search(&SearchRequest::new(vector(77, SIZE), 10))).is_none());
        assert_eq!(self.open().verify(|_| {}).unwrap().unknown, [self.victim()]);
        self.restore();
    }
}

/// What the engine may not have on disk yet is in the journal, and is given to it again at every start.
#[test]
fn every_bit_of_a_journal_row() {
    for scene in scenes() {
        // Left as after a crash: written, and not flushed.
        scene.open().upsert(vec![chunk(VICTIM, 2)]).unwrap();
        let (points, registry) =
            (scene.vault.stored.lock().collections[&scene.id].clone(), scene.world.rows(Table::Registry));
        let scene = Scene { points, registry, ..scene };
        for row in scene.world.rows(Table::Journal) {
            for (what, changed) in mutations(&row.value) {
                scene.world.put(Table::Journal, &row.key, &changed);
                let what = format!("journal row of {} bytes, {what}", row.value.len());
                if let Some(catalog) = or_integrity(&what, scene.world.catalog()) {
                    drop(catalog);
                    scene.judge(&what, false);
                }
                scene.world.put(Table::Journal, &row.key, &row.value);
                scene.restore();
            }
        }
        assert_eq!(scene.judge("restored", true), Verdict::default());
    }
}

#[test]
fn every_bit_of_the_catalog() {
    let world = World::new(|_| Arc::new(Vault::default()));
    let spec = |size| CollectionSpec::new(size, Metric::Dot);
    world.catalog().unwrap().create(&"one".parse().unwrap(), spec(3)).unwrap();
    world.catalog().unwrap().create(&"two".parse().unwrap(), spec(4)).unwrap();
    let rows = world.rows(Table::Catalog);
    let refused = |what: &str| assert!(or_integrity(what, world.catalog()).is_none(), "{what} is believed");
    for (what, changed) in mutations(&rows[0].value) {
        world.put(Table::Catalog, &rows[0].key, &changed);
        refused(&what);
    }
    world.put(Table::Catalog, &rows[0].key, &rows[1].value);
    world.put(Table::Catalog, &rows[1].key, &rows[0].value);
    refused("two descriptions, swapped");
    world.put(Table::Catalog, &rows[1].key, &rows[1].value);
    // Under another collection's id, and under no id.
    for key in [[&rows[0].key[..31], &[rows[0].key[31] ^ 1]].concat(), rows[0].key[..20].to_vec()] {
        world.delete(Table::Catalog, &rows[0].key);
        world.put(Table::Catalog, &key, &rows[0].value);
        refused("a description elsewhere");
        world.delete(Table::Catalog, &key);
    }
    world.put(Table::Catalog, &rows[0].key, &rows[0].value);
    assert_eq!(world.catalog().unwrap().list().len(), 2);
}

type Attack<'a> = &'a dyn Fn(&mut [Point]);

fn disk(dir: &std::path::Path) -> Arc<strongroom::disk::DataDir> {
    Arc::new(strongroom::disk::DataDir::hold(dir, 0).unwrap())
}

/// The same by way of the real engine: its points are altered behind the store's back, through its files.
#[test]
fn altered_in_the_real_engine() {
    for mode in [Mode::Sealed, Mode::Plain] {
        let world = World::new(|dir| {
            let shards = dir.path().join("shards");
            std::fs::create_dir(&shards).unwrap();
            Arc::new(Edge::new(shards, disk(&dir.path().join("a"))))
        });
        let spec = CollectionSpec::new(SIZE, Metric::Cosine).mode(mode);
        let docs = world.catalog().unwrap().create(&"docs".parse().unwrap(), spec).unwrap();
        docs.upsert((0..RECORDS).map(|id| chunk(id, 1)).collect()).unwrap();
        docs.close().unwrap();
        let searchable = vec![SearchableVector { position: 0, size: SIZE, metric: Metric::Cosine }];
        let shape = Shape { vectors: if mode == Mode::Plain { searchable } else { Vec::new() }, ..Shape::default() };
        let edge = Edge::new(world.dir.path().join("shards"), disk(&world.dir.path().join("b")));
        let edit = |change: &dyn Fn(&mut [Point])| {
            let engine = edge.open(docs.id(), &shape).unwrap();
            let mut points = engine.scroll(None, 100, Fields::Both).unwrap().0;
            let before = points.clone();
            change(&mut points);
            engine.upsert(points).unwrap();
            assert!(engine.flush().unwrap());
            before
        };
        let attacks: [Attack<'_>; 4] = [
            &|points| points[1].payload[40] ^= 1,
            &|points| points[1].vector[40] ^= 1,
            &|points| points[1].version += 1,
            &|points| {
                let first = points[0].payload.clone();
                points[0].payload = std::mem::replace(&mut points[1].payload, first);
            },
        ];
        for attack in attacks {
            let before = edit(attack);
            let again = world.catalog().unwrap().get(&"docs".parse().unwrap()).unwrap();
            let all = (0..RECORDS).map(RecordId::from).collect::<Vec<_>>();
            assert!(or_integrity("get", again.get(&all)).is_none());
            assert!(or_integrity("search", again.search(&SearchRequest::new(vector(77, SIZE), 10))).is_none());
            assert!(or_integrity("scroll", again.scroll(None, 100)).is_none());
            assert!(!again.verify(|_| {}).unwrap().is_clean());
            again.close().unwrap();
            edit(&|points| points.clone_from_slice(&before));
        }
        let again = world.catalog().unwrap().get(&"docs".parse().unwrap()).unwrap();
        assert!(again.verify(|_| {}).unwrap().is_clean());
        again.close().unwrap();
    }
}
