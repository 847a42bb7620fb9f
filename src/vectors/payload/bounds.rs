//! Bounding a filter by indexes: which records surely pass, and which possibly do.

use roaring::RoaringBitmap;

use crate::filter::{Check, Condition, Filter, JsonPath, TEXT_FIELD};
use crate::vectors::slots::Slots;

use super::PayloadIndex;

/// Sets between which the set of the records that pass lies.
pub(in crate::vectors) struct Bounds {
    /// They pass.
    pub(in crate::vectors) sure: RoaringBitmap,
    /// No others do.
    pub(in crate::vectors) possible: RoaringBitmap,
}

impl Bounds {
    pub(super) fn exactly(set: RoaringBitmap) -> Self {
        Self { possible: set.clone(), sure: set }
    }

    /// Nothing is known of the records in `among`.
    fn unknown(among: &RoaringBitmap) -> Self {
        Self { sure: RoaringBitmap::new(), possible: among.clone() }
    }
}

/// Of the records of `index`, with everything that it has indexes for decided.
pub(super) fn of_filter(index: &PayloadIndex, records: &Slots, filter: &Filter) -> Bounds {
    let mut bounds = Bounds::exactly(index.all.clone());
    for condition in &filter.must {
        let part = of_condition(index, records, condition);
        bounds.sure &= part.sure;
        bounds.possible &= part.possible;
    }
    for condition in &filter.must_not {
        let part = of_condition(index, records, condition);
        bounds.sure -= part.possible;
        bounds.possible -= part.sure;
    }
    if !filter.should.is_empty() {
        let mut any = Bounds::exactly(RoaringBitmap::new());
        for condition in &filter.should {
            let part = of_condition(index, records, condition);
            any.sure |= part.sure;
            any.possible |= part.possible;
        }
        bounds.sure &= any.sure;
        bounds.possible &= any.possible;
    }
    if let Some(min_should) = &filter.min_should {
        let parts: Vec<_> = min_should.conditions.iter().map(|c| of_condition(index, records, c)).collect();
        bounds.sure &= at_least(min_should.min_count, parts.iter().map(|part| &part.sure), index.rows.len());
        bounds.possible &= at_least(min_should.min_count, parts.iter().map(|part| &part.possible), index.rows.len());
    }
    bounds
}

fn of_condition(index: &PayloadIndex, records: &Slots, condition: &Condition) -> Bounds {
    match condition {
        Condition::Field(field) => of_check(index, &field.key, &field.check),
        Condition::IsEmpty(key) => match index.fields.get(key).filter(|_| key.first() != TEXT_FIELD) {
            Some(field) => Bounds::exactly(&index.all - field.filled()),
            None => Bounds::unknown(&index.all),
        },
        Condition::IsNull(key) => match index.fields.get(key).filter(|_| key.first() != TEXT_FIELD) {
            Some(field) => Bounds::exactly(field.null().clone()),
            None => Bounds::unknown(&index.all),
        },
        Condition::HasId(ids) => Bounds::exactly(ids.iter().filter_map(|id| records.slot(id)).collect()),
        Condition::HasVector(name) => {
            let found = index.vectors.iter().find(|(known, _)| known == name);
            Bounds::exactly(found.map(|(_, slots)| slots.clone()).unwrap_or_default())
        }
        Condition::Slice(slice) => {
            let has = |slot: &u32| records.id(*slot).is_some_and(|id| slice.has(id));
            Bounds::exactly(index.all.iter().filter(has).collect())
        }
        Condition::Nested { .. } => Bounds::unknown(&index.all),
        Condition::Filter(filter) => of_filter(index, records, filter),
    }
}

fn of_check(index: &PayloadIndex, key: &JsonPath, check: &Check) -> Bounds {
    let Some(field) = index.fields.get(key).filter(|_| key.first() != TEXT_FIELD) else {
        return Bounds::unknown(&index.all);
    };
    let missing = || &index.all - field.present();
    Bounds::exactly(match check {
        Check::Match(wanted) => field.matching(wanted),
        Check::Range(range) => field.numbers(range),
        Check::Dates(range) => field.dates(range),
        Check::GeoBox(_) | Check::GeoRadius(_) | Check::GeoPolygon(_) => field.places(check),
        Check::ValuesCount(range) if range.has(0) => field.counting(range) | missing(),
        Check::ValuesCount(range) => field.counting(range),
        Check::IsEmpty(true) => field.empty() | missing(),
        Check::IsEmpty(false) => field.filled().clone(),
        Check::IsNull(true) => field.null().clone(),
        Check::IsNull(false) => field.whole() | missing(),
    })
}

/// What is in at least `count` of `sets`, whose numbers are all below `slots`.
fn at_least<'a>(count: usize, sets: impl Iterator<Item = &'a RoaringBitmap>, slots: usize) -> RoaringBitmap {
    let mut counts = vec![0_usize; slots];
    for slot in sets.flatten() {
        if let Some(n) = counts.get_mut(slot as usize) {
            *n += 1;
        }
    }
    (0..).zip(counts).filter_map(|(slot, n)| (n >= count).then_some(slot)).collect()
}
