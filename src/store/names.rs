//! What the database knows tenants by, and their ids, sealed: so that who has the keys finds out whose records there are,
//! also without the right to list tenants.

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{Keyring, Label};
use crate::kv::{Batch, KvBackend, Table};
use crate::record::{Field, Place, StoreKind};

/// What the key that blinds tenants' names is for.
const SCOPE: &[u8] = b"tenants";
/// What the keys begin with under which names are.
const PREFIX: &[u8] = b"tenant/";
/// A name is written once.
const VERSION: u64 = 1;

/// The tag of a tenant, by a key of the store's own.
pub(super) fn tag(system: &Keyring, id: &TenantId) -> Result<[u8; 16]> {
    let tag = system.blinding(Epoch::FIRST, SCOPE)?.tag(&[b"tenant", id.as_str().as_bytes()]);
    Ok(crypto::first_16(tag))
}

/// Writes down whose tag this is, before there is anything else with it.
pub(super) fn remember(kv: &dyn KvBackend, system: &Keyring, tag: &[u8; 16], id: &TenantId) -> Result<()> {
    if kv.get(Table::Meta, &key(tag))?.is_some() {
        return Ok(());
    }
    let sealing = system.sealing(Label::Catalog, Epoch::FIRST, b"")?;
    let mut batch = Batch::default();
    batch.put(Table::Meta, key(tag), sealing.seal(&place(system, tag), id.as_str().as_bytes())?);
    kv.write(batch)
}

/// Adds the removal of a tenant's name to `batch`.
pub(super) fn forget(batch: &mut Batch, tag: &[u8; 16]) {
    batch.delete(Table::Meta, key(tag));
}

/// Every tenant that was ever opened here, by its tag.
pub(super) fn all(kv: &dyn KvBackend, system: &Keyring) -> Result<Vec<([u8; 16], TenantId)>> {
    let sealing = system.sealing(Label::Catalog, Epoch::FIRST, b"")?;
    let names = kv.scan(Table::Meta, PREFIX).map(|row| {
        let (key, sealed) = row?;
        let bad = || Error::integrity("the name of a tenant");
        let tag = key.get(PREFIX.len()..).and_then(|tag| tag.try_into().ok()).ok_or_else(bad)?;
        let plain = sealing.open(&place(system, &tag), &sealed).map_err(|_| bad())?;
        let id = std::str::from_utf8(plain.expose_secret()).ok().and_then(|id| id.parse().ok()).ok_or_else(bad)?;
        Ok((tag, id))
    });
    names.collect()
}

fn key(tag: &[u8; 16]) -> Vec<u8> {
    [PREFIX, tag].concat()
}

fn place<'a>(system: &'a Keyring, tag: &'a [u8; 16]) -> Place<'a> {
    Place {
        tenant: system.tenant(),
        store: StoreKind::Catalog,
        scope: SCOPE,
        record: tag,
        version: VERSION,
        field: Field::Name,
        embedding: None,
    }
}
