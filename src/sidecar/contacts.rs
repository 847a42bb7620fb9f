//! The contacts of a sidecar: in memory only, bounded, gone when they end.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::token::{Contact, HolderId};

/// Contacts by their id.
#[derive(Default)]
pub(super) struct Contacts(RwLock<Table>);

#[derive(Default)]
struct Table {
    contacts: HashMap<[u8; 16], Kept>,
    /// How many each service has for a holder: nobody can push out another's by knowing the holder's public key.
    owned: HashMap<Owner, usize>,
}

type Owner = (String, HolderId);

struct Kept {
    contact: Arc<Contact>,
    owner: Owner,
}

impl Contacts {
    /// The contact `id`, if `service` has made it.
    pub(super) fn get(&self, service: &str, id: &[u8; 16]) -> Option<Arc<Contact>> {
        let table = self.0.read();
        table.contacts.get(id).filter(|kept| kept.owner.0 == service).map(|kept| kept.contact.clone())
    }

    /// Keeps a contact that `service` has made. Who has too many for one holder loses the one that ends first.
    pub(super) fn insert(&self, service: &str, contact: Contact, now_ms: u64) -> Result<()> {
        let mut table = self.0.write();
        if table.contacts.len() >= limits::CONTACTS {
            table.purge(now_ms);
        }
        if table.contacts.len() >= limits::CONTACTS {
            return Err(
                Error::new(ErrorKind::Busy, "too many holders are in contact").with_remedy("retry after 1000 ms")
            );
        }
        let owner = (service.to_owned(), *contact.holder());
        if table.owned.get(&owner).is_some_and(|count| *count >= limits::CONTACTS_PER_HOLDER) {
            let own = table.contacts.values().filter(|kept| kept.owner == owner);
            let first = own.min_by_key(|kept| kept.contact.expires_at_ms()).map(|kept| *kept.contact.id());
            first.into_iter().for_each(|id| table.remove(&id));
        }
        *table.owned.entry(owner.clone()).or_default() += 1;
        table.contacts.insert(*contact.id(), Kept { contact: Arc::new(contact), owner });
        Ok(())
    }

    pub(super) fn purge(&self, now_ms: u64) {
        self.0.write().purge(now_ms);
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().contacts.len()
    }
}

impl Table {
    fn purge(&mut self, now_ms: u64) {
        let over = self.contacts.iter().filter(|(_, kept)| kept.contact.expires_at_ms() <= now_ms);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.remove(id));
    }

    fn remove(&mut self, id: &[u8; 16]) {
        let Some(Kept { owner, .. }) = self.contacts.remove(id) else { return };
        if let Some(count) = self.owned.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&owner);
            }
        }
    }
}
