//! One field of a collection: from its values to the slots of the records that have them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use crate::filter::{Check, Date, JsonPath, Match, Range, Seen, ValuesCount};

/// A text that is erased when dropped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Text(String);

impl Drop for Text {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::borrow::Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A number in the order of numbers; 0 and −0 are one.
#[derive(Clone, Copy, PartialEq)]
struct Ordered(f64);

impl Ordered {
    fn new(number: f64) -> Self {
        Self(number + 0.0)
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Slots that have a value: mostly one where values are names or times.
enum Slots {
    One(u32),
    Many(RoaringBitmap),
}

impl Slots {
    fn insert(&mut self, slot: u32) {
        match self {
            Slots::One(one) if *one == slot => {}
            Slots::One(one) => *self = Slots::Many(RoaringBitmap::from_iter([*one, slot])),
            Slots::Many(many) => {
                many.insert(slot);
            }
        }
    }

    /// Returns whether none is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Slots::One(one) => *one == slot,
            Slots::Many(many) => {
                many.remove(slot);
                many.is_empty()
            }
        }
    }

    fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Slots::One(one) => {
                set.insert(*one);
            }
            Slots::Many(many) => *set |= many,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Slots::One(_) => 0,
            Slots::Many(many) => many.serialized_size(),
        }
    }
}

type Values<K> = BTreeMap<K, Slots>;

/// What one field has in every record. The values of an array are those of the record.
#[derive(Default)]
pub(super) struct FieldIndex {
    /// The field is there; it is something; it is nothing; it is or has `null`; it is or has none.
    present: RoaringBitmap,
    filled: RoaringBitmap,
    empty: RoaringBitmap,
    null: RoaringBitmap,
    whole: RoaringBitmap,
    counts: Values<usize>,
    texts: Values<Text>,
    integers: Values<i64>,
    numbers: Values<Ordered>,
    dates: Values<Date>,
    flags: Values<bool>,
    /// Numbers that are no integers, and those beyond 64 bits.
    fractions: RoaringBitmap,
    /// Objects, and arrays within arrays.
    others: RoaringBitmap,
    /// Objects that are places, in degrees east and north.
    places: BTreeMap<u32, Vec<(f64, f64)>>,
    text_bytes: usize,
}

impl FieldIndex {
    /// Takes in what a record has at `path`.
    pub(super) fn add(&mut self, slot: u32, path: &JsonPath, metadata: &Map<String, Value>) {
        path.any_in(metadata, &mut |value| {
            self.add_value(slot, value);
            false
        });
    }

    /// Takes it out again.
    pub(super) fn remove(&mut self, slot: u32, path: &JsonPath, metadata: &Map<String, Value>) {
        for set in [
            &mut self.present,
            &mut self.filled,
            &mut self.empty,
            &mut self.null,
            &mut self.whole,
            &mut self.fractions,
            &mut self.others,
        ] {
            set.remove(slot);
        }
        self.places.remove(&slot);
        path.any_in(metadata, &mut |value| {
            drop_value(&mut self.counts, value.count(), slot);
            each(value, |single| self.remove_single(slot, single));
            false
        });
    }

    fn add_value(&mut self, slot: u32, value: Seen<'_>) {
        self.present.insert(slot);
        let of = if value.is_empty() { &mut self.empty } else { &mut self.filled };
        of.insert(slot);
        let of = if value.is_null() { &mut self.null } else { &mut self.whole };
        of.insert(slot);
        add_value(&mut self.counts, value.count(), slot);
        each(value, |single| self.add_single(slot, single));
    }

    fn add_single(&mut self, slot: u32, value: Seen<'_>) {
        match value {
            Seen::Null => {}
            Seen::Bool(flag) => add_value(&mut self.flags, flag, slot),
            Seen::Number(number) => {
                match number.as_i64() {
                    Some(n) => add_value(&mut self.integers, n, slot),
                    None => {
                        self.fractions.insert(slot);
                    }
                }
                if let Some(n) = number.as_f64() {
                    add_value(&mut self.numbers, Ordered::new(n), slot);
                }
            }
            Seen::Text(text) => {
                if let Ok(date) = text.parse() {
                    add_value(&mut self.dates, date, slot);
                }
                if let Some(slots) = self.texts.get_mut(text) {
                    slots.insert(slot);
                } else {
                    self.text_bytes += text.len();
                    self.texts.insert(Text(text.to_owned()), Slots::One(slot));
                }
            }
            Seen::Array(_) => {
                self.others.insert(slot);
            }
            Seen::Object(_) => {
                self.others.insert(slot);
                if let Some(place) = value.place() {
                    self.places.entry(slot).or_default().push(place);
                }
            }
        }
    }

    fn remove_single(&mut self, slot: u32, value: Seen<'_>) {
        match value {
            Seen::Bool(flag) => drop_value(&mut self.flags, flag, slot),
            Seen::Number(number) => {
                if let Some(n) = number.as_i64() {
                    drop_value(&mut self.integers, n, slot);
                }
                if let Some(n) = number.as_f64() {
                    drop_value(&mut self.numbers, Ordered::new(n), slot);
                }
            }
            Seen::Text(text) => {
                if let Ok(date) = text.parse() {
                    drop_value(&mut self.dates, date, slot);
                }
                if self.texts.get_mut(text).is_some_and(|slots| slots.remove(slot)) {
                    self.text_bytes -= text.len();
                    self.texts.remove(text);
                }
            }
            Seen::Null | Seen::Array(_) | Seen::Object(_) => {}
        }
    }

    pub(super) fn present(&self) -> &RoaringBitmap {
        &self.present
    }

    pub(super) fn filled(&self) -> &RoaringBitmap {
        &self.filled
    }

    pub(super) fn empty(&self) -> &RoaringBitmap {
        &self.empty
    }

    pub(super) fn null(&self) -> &RoaringBitmap {
        &self.null
    }

    pub(super) fn whole(&self) -> &RoaringBitmap {
        &self.whole
    }

    /// Records with a value that matches.
    pub(super) fn matching(&self, wanted: &Match) -> RoaringBitmap {
        match wanted {
            Match::Keyword(text) => union(self.texts.get(text.as_str())),
            Match::Integer(number) => union(self.integers.get(number)),
            Match::Bool(flag) => union(self.flags.get(flag)),
            Match::AnyKeyword(texts) => union(texts.iter().filter_map(|text| self.texts.get(text.as_str()))),
            Match::AnyInteger(numbers) => union(numbers.iter().filter_map(|number| self.integers.get(number))),
            Match::Prefix(prefix) => {
                let from = self.texts.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
                union(from.take_while(|(text, _)| text.0.starts_with(prefix.as_str())).map(|(_, slots)| slots))
            }
            Match::Text(_) | Match::TextAny(_) | Match::Phrase(_) | Match::Substring(_) => {
                union(self.texts.iter().filter(|(text, _)| wanted.holds(Seen::Text(&text.0))).map(|(_, slots)| slots))
            }
            Match::ExceptKeywords(unwanted) => {
                let texts = self.texts.iter().filter(|(text, _)| !unwanted.contains(&text.0)).map(|(_, slots)| slots);
                union(texts.chain(self.integers.values())) | self.neither()
            }
            Match::ExceptIntegers(unwanted) => {
                let integers = self.integers.iter().filter(|(n, _)| !unwanted.contains(n)).map(|(_, slots)| slots);
                union(integers.chain(self.texts.values())) | self.neither()
            }
        }
    }

    /// Records with a value that is neither a text nor an integer.
    fn neither(&self) -> RoaringBitmap {
        union(self.flags.values()) | &self.fractions | &self.others
    }

    /// Records with a number within `range`.
    pub(super) fn numbers(&self, range: &Range<f64>) -> RoaringBitmap {
        within(&self.numbers, &range.map(Ordered::new))
    }

    /// Records with a date within `range`.
    pub(super) fn dates(&self, range: &Range<Date>) -> RoaringBitmap {
        within(&self.dates, range)
    }

    /// Records that have the field with so many values.
    pub(super) fn counting(&self, range: &ValuesCount) -> RoaringBitmap {
        within(&self.counts, range)
    }

    /// Records with a place that `area`, which is one of the checks for places, has.
    pub(super) fn places(&self, area: &Check) -> RoaringBitmap {
        let has = |places: &[(f64, f64)]| places.iter().any(|(lon, lat)| area.has_place(*lon, *lat));
        self.places.iter().filter(|(_, places)| has(places)).map(|(slot, _)| *slot).collect()
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        /// Of a node of a tree that belong to one entry, beside key and value.
        const ENTRY: usize = 8;
        fn of<K>(values: &Values<K>) -> usize {
            let each = size_of::<(K, Slots)>() + ENTRY;
            values.values().map(|slots| each + slots.bytes()).sum()
        }
        let sets = [&self.present, &self.filled, &self.empty, &self.null, &self.whole, &self.fractions, &self.others];
        let sets: usize = sets.into_iter().map(RoaringBitmap::serialized_size).sum();
        let values = of(&self.counts) + of(&self.texts) + of(&self.integers) + of(&self.numbers) + of(&self.dates);
        sets + values + of(&self.flags) + self.text_bytes + self.places.len() * 64
    }
}

/// Calls `see` with each value: with the elements of an array, which are looked at one by one, or with the value itself.
fn each(value: Seen<'_>, mut see: impl FnMut(Seen<'_>)) {
    match value {
        Seen::Array(items) => items.iter().for_each(|item| see(item.into())),
        single => see(single),
    }
}

fn add_value<K: Ord>(values: &mut Values<K>, key: K, slot: u32) {
    match values.entry(key) {
        Entry::Occupied(slots) => slots.into_mut().insert(slot),
        Entry::Vacant(free) => {
            free.insert(Slots::One(slot));
        }
    }
}

fn drop_value<K: Ord>(values: &mut Values<K>, key: K, slot: u32) {
    if let Entry::Occupied(mut slots) = values.entry(key)
        && slots.get_mut().remove(slot)
    {
        slots.remove();
    }
}

fn union<'a>(slots: impl IntoIterator<Item = &'a Slots>) -> RoaringBitmap {
    let mut set = RoaringBitmap::new();
    slots.into_iter().for_each(|slots| slots.add_to(&mut set));
    set
}

fn within<K: Ord + Copy>(values: &Values<K>, range: &Range<K>) -> RoaringBitmap {
    let lower = range.gt.map(Bound::Excluded).into_iter().chain(range.gte.map(Bound::Included));
    let upper = range.lt.map(Bound::Excluded).into_iter().chain(range.lte.map(Bound::Included));
    let from = lower.max_by(|a, b| by_bound(a, b, true)).unwrap_or(Bound::Unbounded);
    let to = upper.min_by(|a, b| by_bound(a, b, false)).unwrap_or(Bound::Unbounded);
    if is_void(&from, &to) { RoaringBitmap::new() } else { union(values.range((from, to)).map(|(_, slots)| slots)) }
}

/// Orders bounds; of two at the same value the one that leaves it out comes last among lower ones, first among upper.
fn by_bound<K: Ord>(a: &Bound<K>, b: &Bound<K>, lower: bool) -> std::cmp::Ordering {
    let part = |bound: &Bound<K>| matches!(bound, Bound::Excluded(_)) == lower;
    match (value_of(a), value_of(b)) {
        (Some(x), Some(y)) => x.cmp(y).then_with(|| part(a).cmp(&part(b))),
        (x, y) => x.is_some().cmp(&y.is_some()),
    }
}

fn value_of<K>(bound: &Bound<K>) -> Option<&K> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

/// Whether nothing lies between: such a range must not be asked for.
fn is_void<K: Ord>(from: &Bound<K>, to: &Bound<K>) -> bool {
    match (value_of(from), value_of(to)) {
        (Some(low), Some(high)) => {
            let both = matches!((from, to), (Bound::Included(_), Bound::Included(_)));
            low > high || (low == high && !both)
        }
        _ => false,
    }
}
