//! Memories: a hostile key-value engine.

use std::sync::Arc;

use strongroom::kv::Table;
use strongroom::memory::{Memories, MemoryItem};
use strongroom::{Memory, Namespace, RecallRequest};

use crate::common::vector;
use crate::vault::Vault;
use crate::world::{NOW_MS, Row, World, mutations, or_integrity};

const EXPIRES_IN_MS: u64 = 50_000;
const KEYS: [(&str, &str); 4] =
    [("users/ada", "drink"), ("users/ada", "city"), ("users/ada", "soon"), ("users/bob", "drink")];
/// The kinds of rows, as the byte after tenant and epoch says.
const CURRENT: u8 = 1;
const HISTORY: u8 = 2;
const LABEL: u8 = 3;

struct Scene {
    world: World,
    rows: Vec<(Table, Row)>,
    /// Both rows of `users/ada drink` as they were before its last change.
    older: Vec<(Table, Row)>,
    truth: Truth,
}

/// All that can be read.
#[derive(Clone, PartialEq, Debug)]
struct Truth {
    items: Vec<Option<String>>,
    history: Vec<Vec<String>>,
    listed: Vec<String>,
    recalled: Vec<String>,
    nearest: Vec<String>,
    namespaces: Vec<String>,
}

/// As [`Truth`], with nothing where a reader refused.
#[derive(Debug, Default)]
struct Seen {
    items: Vec<Option<Option<String>>>,
    history: Vec<Option<Vec<String>>>,
    listed: Option<Vec<String>>,
    recalled: Option<Vec<String>>,
    nearest: Option<Vec<String>>,
    namespaces: Option<Vec<String>>,
    /// Whether `verify` reported damage, or refused to run.
    reported: bool,
}

fn text(item: &MemoryItem) -> String {
    let MemoryItem { namespace, key, json, version, created_at_ms, updated_at_ms, expires_at_ms, has_embedding } = item;
    format!("{namespace} {key} {json} {version} {created_at_ms} {updated_at_ms} {expires_at_ms:?} {has_embedding}")
}

fn place(at: usize) -> (Namespace, &'static str) {
    (KEYS[at].0.parse().unwrap(), KEYS[at].1)
}

fn nearest() -> RecallRequest {
    RecallRequest { embedding: Some(vector(3, 5)), limit: 10, ..Default::default() }
}

impl Scene {
    fn new() -> Self {
        let world = World::new(|_| Arc::new(Vault::default()));
        let memories = world.memories().unwrap();
        let put = |at: usize, value: &str, embedding: Option<u64>| {
            let (namespace, key) = place(at);
            let mut memory = Memory::new(namespace, key, &value).unwrap();
            if key == "soon" {
                memory = memory.ttl_ms(EXPIRES_IN_MS);
            }
            if let Some(seed) = embedding {
                memory = memory.embedding(vector(seed, 5));
            }
            memories.put(memory).unwrap();
        };
        put(0, "water", None);
        put(0, "tea", Some(1));
        put(1, "Zürich", Some(2));
        put(2, "to be forgotten", None);
        put(3, "coffee", Some(4));
        let gone = Memory::new("users/bob".parse().unwrap(), "gone", &"was here").unwrap();
        memories.put(gone).unwrap();
        assert!(memories.delete(&"users/bob".parse().unwrap(), "gone", false).unwrap());
        world.clock.set(NOW_MS + 10);
        let before = all_rows(&world);
        put(0, "green tea", Some(5));
        world.clock.set(NOW_MS + 20);
        // As one who starts later: nothing is left in a cache, and the journal of the embeddings is empty.
        world.catalog().unwrap().memories().unwrap().close().unwrap();
        let rows = all_rows(&world);
        let changed =
            |(table, row): &&(Table, Row)| rows.iter().any(|(t, r)| t == table && r.key == row.key && r != row);
        let older: Vec<_> = before.iter().filter(changed).cloned().collect();
        assert_eq!(older.iter().filter(|(_, row)| is(row, CURRENT)).count(), 2);
        let seen = look(&world, "nothing");
        assert!(!seen.reported);
        let truth = Truth {
            items: seen.items.into_iter().map(Option::unwrap).collect(),
            history: seen.history.into_iter().map(Option::unwrap).collect(),
            listed: seen.listed.unwrap(),
            recalled: seen.recalled.unwrap(),
            nearest: seen.nearest.unwrap(),
            namespaces: seen.namespaces.unwrap(),
        };
        assert!(truth.items.iter().all(Option::is_some) && truth.listed.len() == 4 && truth.nearest.len() == 3);
        assert_eq!(truth.history.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1, 1, 2]);
        Self { world, rows, older, truth }
    }

    fn of(&self, table: Table, kind: u8) -> Vec<Row> {
        self.rows.iter().filter(|(t, row)| *t == table && is(row, kind)).map(|(_, row)| row.clone()).collect()
    }

    fn restore(&self) {
        for (table, row) in all_rows(&self.world) {
            self.world.delete(table, &row.key);
        }
        self.rows.iter().for_each(|(table, row)| self.world.put(*table, &row.key, &row.value));
    }

    /// Reads everything: it is right or refused, but for the histories where `histories_may_be_short`.
    fn judge(&self, what: &str, histories_may_be_short: bool) -> Seen {
        let seen = look(&self.world, what);
        let truth = &self.truth;
        for (item, right) in seen.items.iter().zip(&truth.items) {
            assert!(item.as_ref().is_none_or(|item| item == right), "{what}: {item:?} is not {right:?}");
        }
        for (history, right) in seen.history.iter().zip(&truth.history) {
            let Some(history) = history else { continue };
            let within = history.iter().all(|version| right.contains(version));
            assert!(within && (histories_may_be_short || history == right), "{what}: {history:?} is not {right:?}");
        }
        for (seen, right) in [
            (&seen.listed, &truth.listed),
            (&seen.recalled, &truth.recalled),
            (&seen.nearest, &truth.nearest),
            (&seen.namespaces, &truth.namespaces),
        ] {
            assert!(seen.as_ref().is_none_or(|seen| seen == right), "{what}: {seen:?} is not {right:?}");
        }
        seen
    }

    fn reported(&self, what: &str) -> Seen {
        let seen = self.judge(what, false);
        assert!(seen.reported, "{what}: verify reports nothing");
        self.restore();
        seen
    }
}

fn is(row: &Row, kind: u8) -> bool {
    row.key.starts_with(&crate::world::TENANT_TAG) && row.key.get(20) == Some(&kind)
}

/// Those of the memories themselves: what else is in the registry belongs to their embeddings.
fn all_rows(world: &World) -> Vec<(Table, Row)> {
    let of = |table: Table| {
        let rows = world.rows(table).into_iter();
        rows.filter(|row| row.key.starts_with(&crate::world::TENANT_TAG)).map(move |row| (table, row))
    };
    of(Table::Memory).chain(of(Table::Registry)).collect()
}

fn look(world: &World, what: &str) -> Seen {
    // Each reader starts afresh, so that none profits from what another has cached.
    let fresh = || world.memories().unwrap();
    let texts = |items: Vec<MemoryItem>| items.iter().map(text).collect::<Vec<_>>();
    let recall = |memories: Memories, request: &RecallRequest| {
        memories.recall(request).map(|found| texts(found.into_iter().map(|r| r.item).collect()))
    };
    let mut seen = Seen::default();
    for at in 0..KEYS.len() {
        let (namespace, key) = place(at);
        seen.items.push(or_integrity(what, fresh().get(&namespace, key)).map(|item| item.as_ref().map(text)));
    }
    let places = (0..KEYS.len()).map(place).chain([("users/bob".parse().unwrap(), "gone")]);
    for (namespace, key) in places {
        let versions = or_integrity(what, fresh().history(&namespace, key));
        let version = |v: &strongroom::memory::MemoryVersion| format!("{} {}", text(&v.item), v.deleted);
        seen.history.push(versions.map(|versions| versions.iter().map(version).collect()));
    }
    seen.listed = or_integrity(what, fresh().list(&[], 100, 0)).map(texts);
    let words = RecallRequest { text: Some("tea".into()), limit: 10, ..Default::default() };
    seen.recalled = or_integrity(what, recall(fresh(), &words));
    seen.nearest = or_integrity(what, recall(fresh(), &nearest()));
    let namespaces = or_integrity(what, fresh().list_namespaces(&[], None));
    seen.namespaces = namespaces.map(|found| found.iter().map(ToString::to_string).collect());
    seen.reported = or_integrity(what, fresh().verify()).is_none_or(|report| !report.is_clean());
    seen
}

#[test]
fn every_byte_of_every_row() {
    let scene = Scene::new();
    for (table, row) in &scene.rows {
        for (what, changed) in sample(mutations(&row.value), row.value.len()) {
            scene.world.put(*table, &row.key, &changed);
            scene.reported(&format!("{table:?} row of kind {}, {what}", row.key[20]));
        }
    }
}

/// One bit of each byte, another one in each; the rest of `mutations`.
fn sample(mutations: Vec<(String, Vec<u8>)>, length: usize) -> Vec<(String, Vec<u8>)> {
    let keep = |at: usize| at >= length * 8 || at % 8 == (at / 8) % 8;
    mutations.into_iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, m)| m).collect()
}

#[test]
fn every_byte_of_every_key() {
    let scene = Scene::new();
    for (table, row) in &scene.rows {
        for at in 16..row.key.len() {
            let mut key = row.key.clone();
            key[at] ^= 1 << (at % 8);
            scene.world.delete(*table, &row.key);
            scene.world.put(*table, &key, &row.value);
            let what = format!("{table:?} row of kind {}, byte {at} of its key", row.key[20]);
            // An earlier version that is elsewhere is one that was dropped: see below.
            let seen = scene.judge(&what, is(row, HISTORY));
            assert!(seen.reported || is(row, HISTORY), "{what}: verify reports nothing");
            scene.restore();
        }
    }
}

#[test]
fn every_two_rows_swapped() {
    let scene = Scene::new();
    for (at, (table, a)) in scene.rows.iter().enumerate() {
        for (_, b) in scene.rows[at + 1..].iter().filter(|(other, _)| other == table) {
            scene.world.put(*table, &a.key, &b.value);
            scene.world.put(*table, &b.key, &a.value);
            scene.reported(&format!("{table:?} rows of kinds {} and {}", a.key[20], b.key[20]));
        }
    }
}

#[test]
fn an_older_version_of_a_memory() {
    let scene = Scene::new();
    for (table, row) in scene.older.iter().filter(|(_, row)| is(row, CURRENT)) {
        scene.world.put(*table, &row.key, &row.value);
        let seen = scene.reported(&format!("the older {table:?} row alone"));
        assert!(seen.items[0].is_none() && seen.listed.is_none());
    }
    // An earlier version, which is in the history, under the current key.
    for row in scene.of(Table::Memory, HISTORY) {
        for current in scene.of(Table::Memory, CURRENT) {
            scene.world.put(Table::Memory, &current.key, &row.value);
            scene.reported("a row of the history as the current one");
        }
    }
}

#[test]
fn a_dropped_row() {
    let scene = Scene::new();
    for (table, row) in scene.rows.iter().filter(|(_, row)| !is(row, HISTORY)) {
        scene.world.delete(*table, &row.key);
        let seen = scene.reported(&format!("{table:?} row of kind {}", row.key[20]));
        if is(row, CURRENT) {
            assert!(seen.items.iter().any(Option::is_none) && seen.listed.is_none());
        } else {
            assert!(is(row, LABEL) && seen.namespaces.is_none());
        }
    }
}

/// What nothing inside the database can show, as `threat_model.md` says: the rows of a memory taken back or taken away
/// together, and an earlier version taken out of the history. What is read then was written once, by this tenant.
#[test]
fn the_limits_of_what_is_noticed() {
    let scene = Scene::new();
    for (table, row) in scene.older.iter().filter(|(_, row)| is(row, CURRENT)) {
        scene.world.put(*table, &row.key, &row.value);
    }
    let item = scene.world.memories().unwrap().get(&place(0).0, place(0).1).unwrap().unwrap();
    assert_eq!((item.json.as_str(), item.version), ("\"tea\"", 2));
    scene.restore();

    for row in scene.of(Table::Memory, CURRENT) {
        scene.world.delete(Table::Memory, &row.key);
        scene.world.delete(Table::Registry, &row.key);
    }
    assert!(scene.world.memories().unwrap().get(&place(0).0, place(0).1).unwrap().is_none());
    scene.restore();

    for row in scene.of(Table::Memory, HISTORY) {
        scene.world.delete(Table::Memory, &row.key);
        let seen = scene.judge("an earlier version", true);
        assert!(seen.items.iter().all(Option::is_some));
        scene.restore();
    }
}

#[test]
fn an_expiry_that_was_changed() {
    let scene = Scene::new();
    for (table, row) in scene.rows.iter().filter(|(_, row)| is(row, CURRENT)) {
        for expiry in [0_u64, 1, NOW_MS, NOW_MS + 1_000_000, u64::MAX] {
            let changed = [&expiry.to_be_bytes()[..], &row.value[8..]].concat();
            if changed == row.value {
                continue;
            }
            scene.world.put(*table, &row.key, &changed);
            scene.reported(&format!("{table:?} row, to expire at {expiry}"));
        }
    }
    // An honest expiry is no damage, whether compaction has dropped the memory by then or not.
    scene.world.clock.set(NOW_MS + EXPIRES_IN_MS);
    let (namespace, key) = place(2);
    let gone = |what: &str| {
        let memories = scene.world.memories().unwrap();
        assert!(memories.get(&namespace, key).unwrap().is_none(), "{what}");
        assert_eq!(memories.list(&[], 10, 0).unwrap().len(), 3, "{what}");
        assert!(memories.list_namespaces(&[], None).is_ok(), "{what}");
        assert!(memories.verify().unwrap().is_clean(), "{what}");
    };
    gone("both rows are there");
    let expired: Vec<_> = scene.rows.iter().filter(|(_, row)| is(row, CURRENT) && row.value[..8] != [0; 8]).collect();
    assert_eq!(expired.len(), 2);
    for (table, row) in expired.iter().filter(|(table, _)| *table == Table::Memory) {
        scene.world.delete(*table, &row.key);
        gone("compaction has dropped the memory");
    }
    expired.iter().for_each(|(table, row)| scene.world.delete(*table, &row.key));
    gone("both rows are gone");
}

/// How many memories are found by meaning does not depend on how many points the engine says it has.
#[test]
fn an_engine_that_says_it_is_empty() {
    let vault = Vault::default();
    let world = World::new(|_| Arc::new(vault.clone()));
    let memories = world.memories().unwrap();
    for n in 0..12_u64 {
        let value = if n == 11 { "wanted" } else { "other" };
        let memory = Memory::new("a".parse().unwrap(), n.to_string(), &value).unwrap();
        memories.put(memory.embedding(vec![1.0, n as f32])).unwrap();
    }
    vault.stored.lock().denies = true;
    let request =
        RecallRequest { embedding: Some(vec![1.0, 0.0]), text: Some("wanted".into()), limit: 1, prefix: Vec::new() };
    assert_eq!(world.memories().unwrap().recall(&request).unwrap().len(), 1);
}
