//! The contacts of a sidecar: in memory only, bounded, gone when they end.

use std::collections::{HashMap, VecDeque};
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
    contacts: HashMap<ContactId, Kept>,
    /// Those of each service for a holder, oldest first: nobody can push out another's by knowing the holder's public key.
    owned: HashMap<Owner, VecDeque<ContactId>>,
    /// How many each service has: none can take the places of all.
    services: HashMap<String, usize>,
}

type ContactId = [u8; 16];
type Owner = (String, HolderId);

struct Kept {
    contact: Arc<Contact>,
    owner: Owner,
}

impl Contacts {
    /// The contact `id`, if `service` has made it.
    pub(super) fn get(&self, service: &str, id: &ContactId) -> Option<Arc<Contact>> {
        let table = self.0.read();
        table.contacts.get(id).filter(|kept| kept.owner.0 == service).map(|kept| kept.contact.clone())
    }

    /// Keeps a contact that `service` has made. Who has too many for one holder loses the oldest.
    pub(super) fn insert(&self, service: &str, contact: Contact, now_ms: u64) -> Result<()> {
        let mut table = self.0.write();
        let owner = (service.to_owned(), *contact.holder());
        if let Some(own) = table.owned.get(&owner)
            && own.len() >= limits::CONTACTS_PER_HOLDER
            && let Some(oldest) = own.front().copied()
        {
            table.remove(&oldest);
        }
        if table.is_full(service) {
            table.purge(now_ms);
        }
        if table.is_full(service) {
            return Err(
                Error::new(ErrorKind::Busy, "too many holders are in contact").with_remedy("retry after 1000 ms")
            );
        }
        *table.services.entry(service.to_owned()).or_default() += 1;
        table.owned.entry(owner.clone()).or_default().push_back(*contact.id());
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

    fn is_full(&self, service: &str) -> bool {
        let own = self.services.get(service).copied().unwrap_or_default();
        self.contacts.len() >= limits::CONTACTS || own >= limits::CONTACTS_PER_SERVICE
    }

    fn remove(&mut self, id: &ContactId) {
        let Some(Kept { owner, .. }) = self.contacts.remove(id) else { return };
        if let Some(own) = self.owned.get_mut(&owner) {
            own.retain(|kept| kept != id);
            if own.is_empty() {
                self.owned.remove(&owner);
            }
        }
        if let Some(count) = self.services.get_mut(&owner.0) {
            *count -= 1;
            if *count == 0 {
                self.services.remove(&owner.0);
            }
        }
    }
}
