//! What a tenant has said of its collections besides what they are: other names, declared fields, metadata. One sealed
//! record for each tenant, in the catalog beside the descriptions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::keys::Label;
use crate::kv::{Batch, KvBackend, Table};
use crate::limits;
use crate::record::{self, Field, Place, StoreKind};

use super::{CollectionContext, CollectionId};

/// What the key of the record ends with: no collection's id has this length.
const SUFFIX: &[u8] = b"notes";
/// What the record begins with: the number of its format.
const FORMAT: u8 = 1;
/// Replaced whole, always as this version.
const VERSION: u64 = 1;

/// What was said of a tenant's collections.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notes {
    /// Other names, each with the id of its collection.
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// What was said of each collection, by its id.
    #[serde(default)]
    collections: BTreeMap<String, CollectionNotes>,
}

/// What was said of one collection.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionNotes {
    /// Fields of payloads that were declared: each an object with `type` and what else was said.
    #[serde(default)]
    pub fields: BTreeMap<String, Value>,
    /// What its owner keeps with it.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

impl Notes {
    /// The collection that is also called `alias`.
    pub fn alias(&self, alias: &str) -> Option<&str> {
        self.aliases.get(alias).map(String::as_str)
    }

    /// Every other name with the id of its collection.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().map(|(alias, id)| (alias.as_str(), id.as_str()))
    }

    /// Calls a collection `alias` too; another that was called so is not any more.
    pub fn set_alias(&mut self, alias: impl Into<String>, id: CollectionId) {
        self.aliases.insert(alias.into(), id.to_string());
    }

    /// Nothing is called `alias` any more. Returns what was.
    pub fn remove_alias(&mut self, alias: &str) -> Option<String> {
        self.aliases.remove(alias)
    }

    /// Gives what was called `old` the name `new`. Returns whether anything was.
    pub fn rename_alias(&mut self, old: &str, new: impl Into<String>) -> bool {
        let Some(id) = self.aliases.remove(old) else { return false };
        self.aliases.insert(new.into(), id);
        true
    }

    /// What was said of a collection.
    pub fn of(&self, id: CollectionId) -> CollectionNotes {
        self.collections.get(&id.to_string()).cloned().unwrap_or_default()
    }

    /// What is said of it from now on.
    pub fn of_mut(&mut self, id: CollectionId) -> &mut CollectionNotes {
        self.collections.entry(id.to_string()).or_default()
    }

    /// Forgets what was said of collections that are not there.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.aliases.retain(|_, id| is_there(id));
        self.collections.retain(|id, notes| is_there(id) && *notes != CollectionNotes::default());
    }

    fn validate(&self, bytes: usize) -> Result<()> {
        let fields = self.collections.values().map(|notes| notes.fields.len()).max().unwrap_or(0);
        if self.aliases.len() > limits::ALIASES || fields > limits::DECLARED_FIELDS {
            let (aliases, fields) = (limits::ALIASES, limits::DECLARED_FIELDS);
            return Err(Error::invalid(format!(
                "a tenant has at most {aliases} aliases, and a collection {fields} declared fields"
            ))
            .with_remedy("delete those that nobody uses"));
        }
        if bytes > limits::NOTES_BYTES {
            return Err(Error::invalid(
                "aliases, declared fields and metadata of the tenant's collections are too large",
            )
            .with_remedy(format!("keep them within {} KiB in all", limits::NOTES_BYTES >> 10)));
        }
        Ok(())
    }
}

/// The key of a tenant's notes in the catalog.
pub(super) fn key(tenant_tag: &[u8; 16]) -> Vec<u8> {
    [&tenant_tag[..], SUFFIX].concat()
}

/// Whether a key of the catalog is that of notes.
pub(super) fn is_key(key: &[u8]) -> bool {
    key.get(16..) == Some(SUFFIX)
}

/// Removes a tenant's notes if they are sealed in one of the `destroyed` epochs, so that they never open again.
pub(crate) fn forget_lost_notes(kv: &dyn KvBackend, tenant_tag: &[u8; 16], destroyed: &BTreeSet<Epoch>) -> Result<()> {
    let key = key(tenant_tag);
    match kv.get(Table::Catalog, &key)? {
        Some(sealed) if destroyed.contains(&record::claimed_epoch(&sealed)?) => {
            let mut batch = Batch::default();
            batch.frees_space();
            batch.delete(Table::Catalog, key);
            kv.write(batch)
        }
        _ => Ok(()),
    }
}

pub(super) fn seal(context: &CollectionContext, epoch: Epoch, tenant_tag: &[u8; 16], notes: &Notes) -> Result<Vec<u8>> {
    let mut plain = zeroize::Zeroizing::new(vec![FORMAT]);
    serde_json::to_writer(&mut *plain, notes).map_err(|e| Error::internal("encoding").with_source(e))?;
    notes.validate(plain.len())?;
    if serde_json::from_slice::<Notes>(plain.get(1..).unwrap_or_default()).is_err() {
        // What cannot be read again would lock the tenant out.
        return Err(Error::invalid("metadata or declared fields are nested too deeply")
            .with_remedy(format!("nest them less than {} deep", limits::JSON_DEPTH)));
    }
    context.keyring.sealing(Label::Catalog, epoch, b"")?.seal(&place(context, tenant_tag), &plain)
}

pub(super) fn unseal(context: &CollectionContext, tenant_tag: &[u8; 16], sealed: &[u8]) -> Result<Notes> {
    let key = context.keyring.sealing(Label::Catalog, record::claimed_epoch(sealed)?, b"")?;
    let plain = key.open(&place(context, tenant_tag), sealed)?;
    match plain.expose_secret().split_first() {
        Some((&FORMAT, json)) => serde_json::from_slice(json).map_err(|_| crypto::open_failed()),
        _ => Err(crypto::open_failed()),
    }
}

fn place<'a>(context: &'a CollectionContext, tenant_tag: &'a [u8; 16]) -> Place<'a> {
    Place {
        tenant: context.keyring.tenant(),
        store: StoreKind::Catalog,
        scope: b"notes",
        record: tenant_tag,
        version: VERSION,
        field: Field::Collection,
        embedding: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_collections_until_these_are_gone() {
        let (one, two) = (CollectionId::random().unwrap(), CollectionId::random().unwrap());
        let mut notes = Notes::default();
        notes.set_alias("a", one);
        notes.set_alias("b", two);
        notes.of_mut(one).fields.insert("city".into(), serde_json::json!({"type": "keyword"}));
        assert!(notes.rename_alias("b", "c") && !notes.rename_alias("b", "d"));
        assert_eq!(notes.alias("c"), Some(two.to_string().as_str()));
        notes.keep(|id| id == two.to_string());
        assert_eq!((notes.alias("a"), notes.of(one).fields.len()), (None, 0));
        assert!(notes.remove_alias("c").is_some() && notes == Notes::default());
    }

    #[test]
    fn there_are_only_so_many() {
        let mut notes = Notes::default();
        let id = CollectionId::random().unwrap();
        (0..=limits::ALIASES).for_each(|n| notes.set_alias(format!("a{n}"), id));
        assert!(notes.validate(0).is_err());
        assert!(Notes::default().validate(limits::NOTES_BYTES + 1).is_err());
    }
}
