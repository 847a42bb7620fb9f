//! Collections: made, described, listed, dropped; their aliases and declared fields.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Session, no_collection};
use crate::error::{Error, ErrorKind};
use crate::filter::JsonPath;
use crate::id::{Name, shown};
use crate::server::qdrant::failure::{Answer, Code, Failure};
use crate::server::qdrant::model::Object;
use crate::server::qdrant::model::collections::{
    Alias, AliasAction, Change, DenseParams, Info, NewCollection, SparseParams, index_kind, index_spec,
};
use crate::server::qdrant::model::points::{UpdateResult, UpdateStatus};
use crate::store::Collection;
use crate::vectors::{CollectionSpec, Mode, Modifier, VectorParams};

/// What of the metadata says how a collection is protected: `{"strongroom": {"mode": "plain"}}`.
const OWN_METADATA: &str = "strongroom";
/// How often a drop waits for those who still read.
const DROP_TRIES: u32 = 50;

impl Session {
    /// The names of the collections that the key covers.
    pub(in super::super) async fn collections(&self) -> Answer<Vec<String>> {
        self.needs(crate::server::qdrant::apikey::KeyRole::Read)?;
        let collections = self.tenant().await?.collections();
        let names = collections.iter().map(|collection| collection.name().to_owned());
        Ok(names.filter(|name| self.key.covers(name)).collect())
    }

    pub(in super::super) async fn exists(&self, name: &str) -> Answer<bool> {
        match self.readable(name).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.code() == Code::NotFound => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(in super::super) async fn info(&self, name: &str) -> Answer<Info> {
        let collection = self.readable(name).await?;
        let status = collection.status().await?;
        let notes = self.tenant().await?.notes().of(collection.id());
        let spec = collection.spec();
        let mut metadata = notes.metadata;
        if let Some(own) = metadata.get_mut(OWN_METADATA) {
            // It may have changed since that was said.
            *own = json!({ "mode": collection.mode() });
        }
        let dense = |params: &VectorParams| DenseParams { size: params.size, metric: params.metric };
        let sparse = |modifier: Modifier| SparseParams { idf: modifier == Modifier::Idf };
        let vectors = spec.vectors.len() + spec.sparse.len();
        Ok(Info {
            dense: spec.vectors.iter().map(|(name, params)| (name.clone(), dense(params))).collect(),
            sparse: spec.sparse.iter().map(|(name, params)| (name.clone(), sparse(params.modifier))).collect(),
            points: status.chunks,
            // What is searched in trusted memory needs no graph to be found.
            indexed_vectors: match collection.mode() {
                Mode::Veiled | Mode::Plain => status.indexed_vectors,
                Mode::Sealed => status.chunks.saturating_mul(vectors),
            },
            indexes: notes.fields,
            metadata,
        })
    }

    pub(in super::super) async fn create(&self, name: &str, new: NewCollection) -> Answer<bool> {
        self.may_manage()?;
        if !self.key.covers(name) {
            return Err(self.refused("is for certain collections only, and this is none of them"));
        }
        let tenant = self.tenant().await?;
        let exists =
            || Failure::new(Code::Conflict, format!("Wrong input: Collection `{}` already exists!", shown(name)));
        if leads_somewhere(&tenant, name) {
            return Err(exists());
        }
        let NewCollection { dense, sparse, metadata } = new;
        let spec = spec(dense, sparse, mode(&metadata)?);
        let made = match tenant.create_collection(name, spec).await {
            Ok(made) => made,
            Err(e) if e.kind() == ErrorKind::Conflict => return Err(exists()),
            Err(e) => return Err(e.into()),
        };
        if !metadata.is_empty() {
            let id = made.id();
            let noted = tenant.change_notes(move |notes| {
                notes.of_mut(id).metadata = metadata;
                Ok(())
            });
            if let Err(e) = noted.await {
                // Half of a collection is none.
                drop(made);
                tenant.drop_collection(name).await?;
                return Err(e.into());
            }
        }
        Ok(true)
    }

    /// Keeps other metadata with a collection: a value that is null is forgotten.
    pub(in super::super) async fn update(&self, name: &str, change: Change) -> Answer<bool> {
        self.may_manage()?;
        let collection = self.readable(name).await?;
        if mode(&change.metadata)?.is_some_and(|mode| mode != collection.mode()) {
            return Err(Failure::unsupported(
                "how a collection is protected is not changed here: its operator does that, with `strongroom collection \
                 update --mode`",
            ));
        }
        if !change.metadata.is_empty() {
            let id = collection.id();
            let merge = move |notes: &mut crate::vectors::Notes| {
                super::payload::merge(&mut notes.of_mut(id).metadata, change.metadata);
                Ok(())
            };
            self.tenant().await?.change_notes(merge).await?;
        }
        Ok(true)
    }

    pub(in super::super) async fn drop_collection(&self, name: &str) -> Answer<bool> {
        self.may_manage()?;
        let tenant = self.tenant().await?;
        // Only by its own name: who drops an alias means the alias.
        if tenant.collection(name).is_err() || !self.key.covers(name) {
            return Ok(false);
        }
        for _ in 0..DROP_TRIES {
            match tenant.drop_collection(name).await {
                Ok(()) => return Ok(true),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Busy => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(e) => return Err(e.into()),
            }
        }
        Err(Failure::new(Code::Busy, "the collection is in use: try again"))
    }

    /// All aliases, or those of one collection.
    pub(in super::super) async fn aliases(&self, name: Option<&str>) -> Answer<Vec<Alias>> {
        self.needs(crate::server::qdrant::apikey::KeyRole::Read)?;
        let tenant = self.tenant().await?;
        let of = name.map(|name| self.resolve(&tenant, name).map(|collection| collection.id().to_string()));
        let of = of.transpose()?;
        let collections = tenant.collections();
        let names: BTreeMap<String, &str> = collections.iter().map(|c| (c.id().to_string(), c.name())).collect();
        let notes = tenant.notes();
        let listed =
            notes.aliases().filter(|(_, id)| of.as_deref().is_none_or(|of| of == *id)).filter_map(|(alias, id)| {
                let collection = names.get(id).filter(|name| self.key.covers(name))?;
                Some(Alias { alias_name: alias.to_owned(), collection_name: (*collection).to_owned() })
            });
        Ok(listed.collect())
    }

    /// Changes aliases, all or nothing.
    pub(in super::super) async fn change_aliases(&self, actions: Vec<AliasAction>) -> Answer<bool> {
        self.may_manage()?;
        let tenant = self.tenant().await?;
        let mut changes = Vec::with_capacity(actions.len());
        for action in actions {
            changes.push(match action {
                AliasAction::Create(create) => {
                    create.alias_name.parse::<Name>()?;
                    self.may_name(&create.alias_name)?;
                    if tenant.collection(&create.alias_name).is_ok() {
                        let shown = shown(&create.alias_name);
                        return Err(Failure::new(Code::Conflict, format!("Wrong input: `{shown}` is a collection")));
                    }
                    let collection = tenant.collection(&create.collection_name).ok();
                    let collection = collection.filter(|collection| self.key.covers(collection.name()));
                    let collection = collection.ok_or_else(|| no_collection(&create.collection_name))?;
                    // One that leads elsewhere may only be moved by who may use what is there.
                    self.covers_alias(&tenant, &create.alias_name)?;
                    AliasChange::Set(create.alias_name, collection.id())
                }
                AliasAction::Delete(delete) => {
                    self.covers_alias(&tenant, &delete.alias_name)?;
                    AliasChange::Remove(delete.alias_name)
                }
                AliasAction::Rename(rename) => {
                    rename.new_alias_name.parse::<Name>()?;
                    self.may_name(&rename.new_alias_name)?;
                    if tenant.collection(&rename.new_alias_name).is_ok() {
                        let shown = shown(&rename.new_alias_name);
                        return Err(Failure::new(Code::Conflict, format!("Wrong input: `{shown}` is a collection")));
                    }
                    self.covers_alias(&tenant, &rename.old_alias_name)?;
                    self.covers_alias(&tenant, &rename.new_alias_name)?;
                    AliasChange::Rename(rename.old_alias_name, rename.new_alias_name)
                }
            });
        }
        tenant.change_notes(move |notes| changes.into_iter().try_for_each(|change| change.apply(notes))).await?;
        Ok(true)
    }

    /// Refuses a name that is none of those which the key is for: it would find out what others are taken.
    fn may_name(&self, alias: &str) -> Answer<()> {
        if self.key.covers(alias) {
            return Ok(());
        }
        Err(self.refused("is for certain names only, and this is none of them"))
    }

    /// Refuses an alias that leads to a collection which the key does not cover.
    fn covers_alias(&self, tenant: &crate::store::Tenant, alias: &str) -> Answer<()> {
        if !leads_somewhere(tenant, alias) || self.find(tenant, alias).is_some() {
            return Ok(());
        }
        Err(no_alias(alias).into())
    }

    /// Declares a field of payloads.
    pub(in super::super) async fn declare(
        &self,
        name: &str,
        field: &str,
        declared: Value,
        status: UpdateStatus,
    ) -> Answer<UpdateResult> {
        self.may_manage()?;
        let field = field.parse::<JsonPath>()?.to_string();
        if index_kind(&declared) == "text" {
            return Err(Failure::unsupported(
                "texts are not taken apart into words here, since an index of words would have to be kept in clear or in \
                 memory: leave the index out, and match with `text`, which finds parts of texts",
            ));
        }
        let collection = self.readable(name).await?;
        let _turn = self.service.declaring.take(collection.id()).await;
        // In `sealed` mode filters are decided in memory, and nothing needs to be declared for that.
        if collection.mode() != Mode::Sealed {
            tell_engine(&collection, &field, &declared).await?;
        }
        let id = collection.id();
        let note = move |notes: &mut crate::vectors::Notes| {
            notes.of_mut(id).fields.insert(field, declared);
            Ok(())
        };
        self.tenant().await?.change_notes(note).await?;
        Ok(self.service.done(status))
    }

    /// Takes the declaration of a field back.
    pub(in super::super) async fn undeclare(
        &self,
        name: &str,
        field: &str,
        status: UpdateStatus,
    ) -> Answer<UpdateResult> {
        self.may_manage()?;
        let field = field.parse::<JsonPath>()?.to_string();
        let collection = self.readable(name).await?;
        let _turn = self.service.declaring.take(collection.id()).await;
        // Also in `sealed` mode: the collection may have been in another when the field was declared.
        collection.drop_index(&field).await?;
        let id = collection.id();
        let note = move |notes: &mut crate::vectors::Notes| {
            notes.of_mut(id).fields.remove(&field);
            Ok(())
        };
        self.tenant().await?.change_notes(note).await?;
        Ok(self.service.done(status))
    }
}

/// Has the engine filter by a field. What was declared in another way before is so no more.
async fn tell_engine(collection: &Collection, field: &str, declared: &Value) -> Answer<()> {
    let spec = index_spec(declared)?;
    match collection.create_index(field, spec).await {
        Err(e) if e.kind() == ErrorKind::Conflict => {
            collection.drop_index(field).await?;
            collection.create_index(field, spec).await?;
        }
        told => _ = told?,
    }
    Ok(())
}

/// A change of aliases that may be made.
enum AliasChange {
    Set(String, crate::vectors::CollectionId),
    Remove(String),
    Rename(String, String),
}

impl AliasChange {
    fn apply(self, notes: &mut crate::vectors::Notes) -> crate::error::Result<()> {
        match self {
            Self::Set(alias, id) => {
                notes.set_alias(alias, id);
                Ok(())
            }
            Self::Remove(alias) => notes.remove_alias(&alias).map(|_| ()).ok_or_else(|| no_alias(&alias)),
            Self::Rename(old, new) => {
                if notes.rename_alias(&old, new) {
                    Ok(())
                } else {
                    Err(no_alias(&old))
                }
            }
        }
    }
}

fn no_alias(alias: &str) -> Error {
    Error::not_found(format!("Not found: Alias `{}` doesn't exist!", shown(alias)))
}

fn spec(
    dense: BTreeMap<String, DenseParams>,
    sparse: BTreeMap<String, SparseParams>,
    mode: Option<Mode>,
) -> CollectionSpec {
    let params = |p: DenseParams| VectorParams { size: p.size, metric: p.metric };
    let modifier =
        |p: SparseParams| crate::vectors::SparseParams { modifier: if p.idf { Modifier::Idf } else { Modifier::None } };
    CollectionSpec::without_vectors()
        .mode(mode.unwrap_or_default())
        .named(dense.into_iter().map(|(name, p)| (name, params(p))))
        .sparse(sparse.into_iter().map(|(name, p)| (name, modifier(p))))
}

/// How a collection is to be protected, if its metadata says so.
fn mode(metadata: &Object) -> Answer<Option<Mode>> {
    let wrong = || Failure::bad(format!("Wrong input: `{OWN_METADATA}` in the metadata has a `mode` and nothing else"));
    let Some(own) = metadata.get(OWN_METADATA) else { return Ok(None) };
    match own.as_object().map(|own| (own.len(), own.get("mode").and_then(Value::as_str))) {
        Some((1, Some(mode))) => Ok(Some(mode.parse()?)),
        _ => Err(wrong()),
    }
}

/// Whether a collection is also called `alias`. One that led to a collection which was dropped is free.
fn leads_somewhere(tenant: &crate::store::Tenant, alias: &str) -> bool {
    let notes = tenant.notes();
    let of = notes.alias(alias);
    of.is_some_and(|id| tenant.collections().iter().any(|collection| collection.id().to_string() == id))
}
