//! Random records and random filters over few names and values, so that conditions often hold.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use strongroom::RecordId;

/// A record.
pub struct Document {
    pub id: RecordId,
    pub metadata: Map<String, Value>,
    pub text: String,
    pub vectors: Vec<String>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = Value::Object(self.payload());
        write!(f, "{} {payload} with {:?}", self.id, self.vectors)
    }
}

impl Document {
    /// What a filter looks at, as one object.
    pub fn payload(&self) -> Map<String, Value> {
        let mut payload = self.metadata.clone();
        if !self.text.is_empty() {
            payload.insert("text".into(), self.text.clone().into());
        }
        payload
    }
}

/// How much of the language filters use.
#[derive(Clone, Copy, PartialEq)]
pub enum Language {
    /// All of it.
    Whole,
    /// All of it, on the fields that the collection in `collections.rs` declares.
    Declared,
    /// What version 0.7 of the engine reads as Qdrant 1.20 does. It looks for words letter by letter, does not know
    /// prefixes and slices, counts a missing field as no value at all, and does not look for `null` within arrays.
    Engine,
}

const KEYS: [&str; 10] = ["city", "n", "ok", "when", "at", "tags", "a", "items", "text", "odd key.x"];
const PATHS: [&str; 24] = [
    "city",
    "n",
    "n",
    "ok",
    "when",
    "when",
    "at",
    "at",
    "tags",
    "tags[]",
    "a",
    "a.b",
    "a.b.c",
    "a[].b",
    "a[0]",
    "items",
    "items[].n",
    "items[].tags",
    "items[].tags[]",
    "items[1].n",
    "text",
    "\"odd key.x\"",
    "missing",
    "a.b[]",
];
/// Those that a collection declares, of which some are within objects of arrays.
const DECLARED: [&str; 18] = [
    "city",
    "n",
    "ok",
    "when",
    "at",
    "tags",
    "tags[]",
    "a",
    "a.b",
    "a[].b",
    "a[0]",
    "items",
    "items[].n",
    "items[].tags",
    "text",
    "\"odd key.x\"",
    "missing",
    "items[].city",
];
const NESTED_PATHS: [&str; 4] = ["n", "city", "tags", "b"];
const ARRAYS: [&str; 5] = ["items", "items[]", "a", "a[]", "a.b"];
const WORDS: [&str; 12] =
    ["Berlin", "Paris", "berlin", "New York", "red", "Red fox", "", "über", "ÜBER", "a-b", "fox_red 7", "Rome"];
const DATES: [&str; 12] = [
    "2024-01-01T00:00:00Z",
    "2024-01-01T01:00:00+01:00",
    "2024-01-01",
    "2024-01-01 00:00",
    "2023-12-31T23:59:59.999999Z",
    "2024-06-30T12:00:00.5Z",
    "2024-06-30 14:00:00.500000+0200",
    "1969-07-20T20:17:40Z",
    "2024-02-30",
    "2031-05-05T05:05",
    "not a date",
    "0099-01-01T00:00:00Z",
];
const NUMBERS: [&str; 16] = [
    "0",
    "-0.0",
    "1",
    "1.0",
    "2",
    "-3",
    "2.5",
    "7",
    "9007199254740993",
    "9007199254740992.0",
    "18446744073709551615",
    "9223372036854775807",
    "-9223372036854775808",
    "1e300",
    "0.1",
    "1e-7",
];
/// Places off the lines of every area below.
const PLACES: [(f64, f64); 10] = [
    (13.4, 52.5),
    (2.35, 48.85),
    (-74.0, 40.7),
    (179.5, -17.0),
    (-179.5, -17.0),
    (0.0, 0.0),
    (12.5, 41.9),
    (13.05, 47.8),
    (30.5, 59.9),
    (250.0, 95.0),
];

pub struct Random {
    rng: StdRng,
    /// The fields that are asked about, if not all.
    path: Option<&'static [&'static str]>,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), path: None }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of.choose(&mut self.rng).unwrap()
    }

    fn path(&mut self, language: Language) -> &'static str {
        match self.path {
            Some(paths) => self.one(paths),
            None if language == Language::Declared => self.one(&DECLARED),
            None => self.one(&PATHS),
        }
    }

    pub fn document(&mut self) -> Document {
        let id = self.id();
        let id = serde_json::from_value(id).unwrap();
        self.document_called(id)
    }

    /// One that the engine takes: it has no textual ids.
    pub fn document_for_engine(&mut self, nth: u64) -> Document {
        let id = if nth.is_multiple_of(3) {
            RecordId::Uuid(uuid::Uuid::from_u128(u128::from(nth)))
        } else {
            RecordId::Number(nth)
        };
        self.document_called(id)
    }

    fn document_called(&mut self, id: RecordId) -> Document {
        let mut metadata = Map::new();
        for key in KEYS {
            if !self.one_in(4) {
                metadata.insert(key.into(), self.value_of(key));
            }
        }
        let text = if self.one_in(3) { String::new() } else { self.sentence() };
        let vectors = if self.one_in(3) { vec!["a"] } else { vec!["a", "b"] };
        Document { id, metadata, text, vectors: vectors.into_iter().map(str::to_owned).collect() }
    }

    fn sentence(&mut self) -> String {
        let words: Vec<_> = (0..self.below(4) + 1).map(|_| self.one(&WORDS)).collect();
        words.join(if self.one_in(2) { " " } else { ", " })
    }

    /// A value of the kind that a field mostly has; sometimes any value, sometimes several.
    fn value_of(&mut self, key: &str) -> Value {
        if self.one_in(8) {
            return self.value(2);
        }
        if self.one_in(4) {
            return (0..self.below(4)).map(|_| self.plain_value_of(key)).collect();
        }
        self.plain_value_of(key)
    }

    fn plain_value_of(&mut self, key: &str) -> Value {
        if self.one_in(12) {
            return Value::Null;
        }
        match key {
            "city" | "odd key.x" | "text" => self.one(&WORDS).into(),
            "n" => self.number(),
            "ok" => self.one_in(2).into(),
            "when" => self.one(&DATES).into(),
            "at" => self.place(),
            "tags" => (0..self.below(4)).map(|_| Value::from(self.one(&WORDS))).collect(),
            "a" if self.one_in(2) => json!({"b": self.value(2)}),
            "a" => (0..self.below(3)).map(|_| json!({"b": self.value(1)})).collect(),
            _ => (0..self.below(4)).map(|_| self.item()).collect(),
        }
    }

    fn item(&mut self) -> Value {
        let mut item = Map::new();
        for key in ["n", "city", "tags", "ok"] {
            if !self.one_in(3) {
                item.insert(key.into(), self.plain_value_of(key));
            }
        }
        item.into()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => self.one_in(2).into(),
            2 => self.number(),
            3 => self.one(&WORDS).into(),
            4 => self.one(&DATES).into(),
            5 => self.place(),
            6 => json!({"b": self.value(depth - 1), "c": self.value(depth - 1)}),
            7 => json!({"b": {"c": self.value(depth - 1)}}),
            _ => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
        }
    }

    fn number(&mut self) -> Value {
        serde_json::from_str(self.one(&NUMBERS)).unwrap()
    }

    fn place(&mut self) -> Value {
        let (lon, lat) = *PLACES.choose(&mut self.rng).unwrap();
        match self.below(12) {
            0 => json!({"lon": lon}),
            1 => json!({"lon": lon.to_string(), "lat": lat}),
            _ => json!({"lon": lon, "lat": lat, "name": "x"}),
        }
    }

    fn id(&mut self) -> Value {
        match self.below(3) {
            0 => self.below(6).into(),
            1 => uuid::Uuid::from_u128(self.below(6) as u128).to_string().into(),
            _ => format!("doc-{}", self.below(6)).into(),
        }
    }

    /// A filter as JSON, in one of the forms that Qdrant reads.
    pub fn filter(&mut self, language: Language) -> Value {
        self.filter_at(0, language)
    }

    fn filter_at(&mut self, depth: usize, language: Language) -> Value {
        let mut filter = Map::new();
        for part in ["must", "must_not", "should"] {
            if self.one_in(2) {
                let conditions = self.conditions(depth, language);
                let written = match conditions.as_slice() {
                    [one] if self.one_in(2) => one.clone(),
                    [] if language == Language::Engine => continue,
                    _ => conditions.into(),
                };
                filter.insert(part.into(), written);
            }
        }
        if self.one_in(5) {
            let mut conditions = self.conditions(depth, language);
            conditions.push(self.condition(depth, language));
            let min_count = self.below(conditions.len()) + 1;
            filter.insert("min_should".into(), json!({"conditions": conditions, "min_count": min_count}));
        }
        filter.into()
    }

    fn conditions(&mut self, depth: usize, language: Language) -> Vec<Value> {
        (0..self.below(3) + usize::from(!self.one_in(8))).map(|_| self.condition(depth, language)).collect()
    }

    fn condition(&mut self, depth: usize, language: Language) -> Value {
        let whole = language != Language::Engine;
        match self.below(22) {
            0 | 1 if depth < 3 => self.filter_at(depth + 1, language),
            2 | 3 if depth < 3 && self.path.is_none() => self.nested(depth, language),
            4 => json!({"is_empty": {"key": self.path(language)}}),
            5 if whole => json!({"is_null": {"key": self.path(language)}}),
            6 => json!({"has_id": self.ids(language)}),
            7 => json!({"has_vector": self.one(&["a", "b", "c"])}),
            8 if whole => {
                let total = self.below(4) + 1;
                json!({"slice": {"total": total, "index": self.below(total)}})
            }
            _ => {
                let mut condition = Map::from_iter([("key".to_owned(), Value::from(self.path(language)))]);
                for _ in 0..if self.one_in(10) { 2 } else { 1 } {
                    let (name, check) = self.check(language);
                    condition.insert(name.into(), check);
                }
                // The engine counts a missing field as something else than Qdrant does.
                if !whole && condition.contains_key("values_count") {
                    condition.retain(|name, _| name == "key" || name == "values_count");
                }
                condition.into()
            }
        }
    }

    fn nested(&mut self, depth: usize, language: Language) -> Value {
        self.path = (language == Language::Declared).then_some(&NESTED_PATHS[..]);
        let mut filter = self.filter_at(depth + 1, language);
        self.path = None;
        // So that it is about what the objects have.
        if !self.one_in(3) {
            let inner = json!({"key": self.one(&["n", "city", "tags", "b"]), "is_empty": self.one_in(2)});
            filter = json!({"must": [inner], "must_not": filter});
        }
        let arrays = if language == Language::Declared { &ARRAYS[..4] } else { &ARRAYS[..] };
        json!({"nested": {"key": self.one(arrays), "filter": filter}})
    }

    fn ids(&mut self, language: Language) -> Vec<Value> {
        (0..self.below(4))
            .map(|_| match language {
                Language::Whole | Language::Declared => self.id(),
                Language::Engine => match self.below(400) as u64 {
                    n if n % 3 == 0 => uuid::Uuid::from_u128(u128::from(n)).to_string().into(),
                    n => n.into(),
                },
            })
            .collect()
    }

    fn check(&mut self, language: Language) -> (&'static str, Value) {
        match self.below(14) {
            0..=3 => ("match", self.matching(language)),
            4..=5 => ("range", self.range()),
            6..=7 => ("range", self.dates()),
            8 => ("geo_bounding_box", self.rectangle()),
            9 => ("geo_radius", self.circle()),
            10 => ("geo_polygon", self.polygon()),
            11 => ("values_count", self.count(language)),
            12 => ("is_empty", self.one_in(2).into()),
            _ => ("is_null", self.one_in(2).into()),
        }
    }

    fn matching(&mut self, language: Language) -> Value {
        let last = if language == Language::Engine { 7 } else { 12 };
        let word = self.one(&WORDS);
        match self.below(last) {
            0 | 1 => json!({"value": word}),
            2 => json!({"value": self.integer()}),
            3 => json!({"value": self.one_in(2)}),
            4 => json!({"any": self.words()}),
            5 => {
                let numbers: Vec<_> = (0..self.below(3) + 1).map(|_| self.integer()).collect();
                let name = self.one(&["any", "except"]);
                json!({name: numbers})
            }
            6 => json!({"except": self.words()}),
            7 => json!({"text": self.sentence()}),
            8 => json!({"text_any": self.sentence()}),
            9 => json!({"phrase": self.sentence()}),
            10 => json!({"prefix": word.chars().take(self.below(4)).collect::<String>()}),
            _ => json!({"substring": word.chars().skip(self.below(3)).take(3).collect::<String>()}),
        }
    }

    fn words(&mut self) -> Vec<&'static str> {
        (0..self.below(4)).map(|_| self.one(&WORDS)).collect()
    }

    fn integer(&mut self) -> i64 {
        *[0, 1, 2, -3, 7, 9_007_199_254_740_993, i64::MAX, i64::MIN].choose(&mut self.rng).unwrap()
    }

    /// Some of the four bounds.
    fn bounds(&mut self, mut bound: impl FnMut(&mut Self) -> Value) -> Map<String, Value> {
        let mut range = Map::new();
        for name in ["lt", "gt", "gte", "lte"] {
            if self.one_in(3) {
                range.insert(name.into(), bound(self));
            }
        }
        range
    }

    fn range(&mut self) -> Value {
        self.bounds(Self::number).into()
    }

    fn dates(&mut self) -> Value {
        // Without those that are none.
        let real: Vec<&str> = DATES.into_iter().filter(|d| !d.starts_with("not") && !d.contains("02-30")).collect();
        let mut range = self.bounds(|r| r.one(&real).into());
        if range.is_empty() {
            range.insert("gte".into(), self.one(&real).into());
        }
        range.into()
    }

    fn count(&mut self, language: Language) -> Value {
        let mut range = self.bounds(|r| r.below(4).into());
        if language == Language::Engine {
            range.insert("gt".into(), self.below(3).into());
        }
        range.into()
    }

    fn rectangle(&mut self) -> Value {
        match self.below(3) {
            0 => json!({"top_left": {"lon": 0.5, "lat": 60.5}, "bottom_right": {"lon": 20.5, "lat": 45.5}}),
            1 => json!({"top_left": {"lon": 170.0, "lat": 0.5}, "bottom_right": {"lon": -170.0, "lat": -30.0}}),
            _ => json!({"top_left": {"lon": -80.0, "lat": 50.0}, "bottom_right": {"lon": 10.0, "lat": -5.0}}),
        }
    }

    fn circle(&mut self) -> Value {
        let (lon, lat) = PLACES[self.below(9)];
        let radius = *[1.0, 400_000.0, 1_000_000.0, 7_000_000.0].choose(&mut self.rng).unwrap();
        json!({"center": {"lon": lon, "lat": lat}, "radius": radius})
    }

    fn polygon(&mut self) -> Value {
        let ring = |points: &[(f64, f64)]| json!({"points": points.iter().map(|(lon, lat)| json!({"lon": lon, "lat": lat})).collect::<Vec<_>>()});
        let outer = [(0.7, 40.1), (35.3, 39.7), (33.1, 61.2), (5.9, 58.3), (0.7, 40.1)];
        let hole = [(10.2, 50.1), (16.7, 51.3), (15.1, 54.9), (10.2, 50.1)];
        match self.below(3) {
            0 => json!({"exterior": ring(&outer)}),
            1 => json!({"exterior": ring(&outer), "interiors": [ring(&hole)]}),
            _ => json!({"exterior": ring(&hole), "interiors": []}),
        }
    }
}
