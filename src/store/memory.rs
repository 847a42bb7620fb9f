//! The memories of a tenant, for callers that must not block.

use crate::audit::{Access, RecordDigest, RecordType, What, WriteKind, hex};
use crate::error::Result;
use crate::id::Namespace;
use crate::memory::{Memory, MemoryItem, MemoryOp, MemoryVersion, RecallRequest, Recalled};

use super::foreground::Class;
use super::{Tenant, blocking};

impl Tenant {
    /// Writes a memory and returns its version, once it would survive a power loss.
    ///
    /// ```
    /// # use strongroom::{Memory, Namespace, Passphrase, RecallRequest, Store, StoreOptions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let options = StoreOptions::new(dir.path())
    /// #     .kdf_cost(strongroom::keys::keystore::file::KdfCost::INSECURE_FAST);
    /// # let passphrase = || Passphrase::new(b"correct horse battery staple".to_vec());
    /// # Store::init(&options, passphrase()?).await?;
    /// # let store = Store::open(options, passphrase()?).await?;
    /// let acme = store.create_tenant(&"acme".parse()?).await?;
    /// let ada: Namespace = "users/ada".parse()?;
    /// acme.remember(Memory::new(ada.clone(), "drink", &"prefers tea")?.embedding(vec![0.6, 0.8])).await?;
    ///
    /// let nearest = RecallRequest { embedding: Some(vec![0.5, 0.9]), limit: 1, ..RecallRequest::default() };
    /// assert_eq!(acme.recall(nearest).await?[0].item.value::<String>()?, "prefers tea");
    /// assert_eq!(acme.memory(&ada, "drink")?.unwrap().version, 1);
    /// # store.close().await
    /// # }
    /// ```
    pub async fn remember(&self, memory: Memory) -> Result<u64> {
        self.write(WriteKind::Remember, memory).await
    }

    /// Writes a memory that must exist; without an expiry of its own it keeps the one it has. An embedding belongs to
    /// one value: an update without one leaves the memory without.
    pub async fn update_memory(&self, memory: Memory) -> Result<u64> {
        self.write(WriteKind::Update, memory).await
    }

    /// The memory under `key` in `namespace`. A lookup takes microseconds and is not worth another thread.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::ErrorKind::Denied) while the tenant's reads are paused: so for everything that opens records.
    pub fn memory(&self, namespace: &Namespace, key: &str) -> Result<Option<MemoryItem>> {
        let _timed = self.open.foreground.time(Class::Lookup);
        self.desk.check()?;
        let found = self.desk.opened(RecordType::Memory, || None, self.open.memories.get_tagged(namespace, key))?;
        let Some((tag, item)) = found else { return Ok(None) };
        self.desk.lookup(&tag, item.json.len())?;
        Ok(Some(item))
    }

    /// The memories that fit `request` best.
    pub async fn recall(&self, request: RecallRequest) -> Result<Vec<Recalled>> {
        let _timed = self.open.foreground.time(Class::Search);
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let opened = own.open.memories.recall(&request);
            own.reveal(Access::Recall, opened, |recalled| &recalled.item)
        })
        .await
    }

    /// Deletes a memory and returns whether it was there. Its history stays unless `purge` removes that too.
    pub async fn forget(&self, namespace: &Namespace, key: &str, purge: bool) -> Result<bool> {
        let _timed = self.open.foreground.time(Class::Write);
        let (own, namespace, key) = (self.clone(), namespace.clone(), key.to_owned());
        blocking(move || {
            let write = if purge { WriteKind::Purge } else { WriteKind::Forget };
            let digest = RecordDigest::from_iter([own.open.memories.tag(&namespace, &key)?]);
            own.desk.write(write, None, &digest, || own.open.memories.delete(&namespace, &key, purge))
        })
        .await
    }

    /// Deletes every memory in namespaces that begin with `prefix` and returns how many there were.
    pub async fn forget_all(&self, prefix: &[String], purge: bool) -> Result<usize> {
        let (own, prefix) = (self.clone(), prefix.to_vec());
        blocking(move || {
            let place = own.prefix_digest(&prefix)?;
            let forgotten = |records| What::NamespacesForgotten { place: place.clone(), records };
            let forget = || own.open.memories.delete_all(&prefix, purge);
            own.desk.change(forgotten(None), forget, |count| forgotten(count.map(|count| *count as u64)))
        })
        .await
    }

    /// Makes all of `ops`, in their order, or none.
    pub async fn memory_batch(&self, ops: Vec<MemoryOp>) -> Result<()> {
        let own = self.clone();
        blocking(move || {
            let digest = own.open.memories.batch_tags(&ops)?.into_iter().collect();
            own.desk.write(WriteKind::Batch, None, &digest, || own.open.memories.batch(ops))
        })
        .await
    }

    /// Memories in namespaces that begin with `prefix`, the latest first: `limit` of them after the first `offset`.
    pub async fn memories(&self, prefix: &[String], limit: usize, offset: usize) -> Result<Vec<MemoryItem>> {
        self.desk.check()?;
        let (own, prefix) = (self.clone(), prefix.to_vec());
        blocking(move || own.reveal(Access::List, own.open.memories.list(&prefix, limit, offset), |item| item)).await
    }

    /// Namespaces below `prefix` that hold memories, cut to `max_depth` labels, in order.
    pub async fn namespaces(&self, prefix: &[String], max_depth: Option<usize>) -> Result<Vec<Namespace>> {
        self.desk.check()?;
        let (own, prefix) = (self.clone(), prefix.to_vec());
        blocking(move || {
            let opened = own.open.memories.list_namespaces(&prefix, max_depth);
            let namespaces = own.desk.opened(RecordType::Memory, || None, opened)?;
            let bytes = namespaces.iter().flat_map(|namespace| namespace.labels()).map(String::len).sum();
            let tags = namespaces.iter().map(|namespace| own.open.memories.namespace_tag(namespace));
            own.desk.read(Access::Namespaces, None, &tags.collect::<Result<_>>()?, bytes)?;
            Ok(namespaces)
        })
        .await
    }

    /// Every kept version of a memory, oldest first, also after it was deleted.
    pub async fn memory_history(&self, namespace: &Namespace, key: &str) -> Result<Vec<MemoryVersion>> {
        self.desk.check()?;
        let (own, namespace, key) = (self.clone(), namespace.clone(), key.to_owned());
        blocking(move || {
            let opened = own.open.memories.history(&namespace, &key);
            own.reveal(Access::History, opened, |version| &version.item)
        })
        .await
    }

    async fn write(&self, write: WriteKind, memory: Memory) -> Result<u64> {
        let _timed = self.open.foreground.time(Class::Write);
        let own = self.clone();
        blocking(move || {
            let memories = &own.open.memories;
            let digest = RecordDigest::from_iter([memories.tag_of(&memory)?]);
            own.desk.write(write, None, &digest, || match write {
                WriteKind::Update => memories.update(memory),
                _ => memories.put(memory),
            })
        })
        .await
    }

    /// Gives memories away once the log says so.
    fn reveal<T>(&self, access: Access, opened: Result<Vec<T>>, item: impl Fn(&T) -> &MemoryItem) -> Result<Vec<T>> {
        let opened = self.desk.opened(RecordType::Memory, || None, opened)?;
        let items = || opened.iter().map(&item);
        let tags = items().map(|item| self.open.memories.tag(&item.namespace, &item.key));
        let digest: RecordDigest = tags.collect::<Result<_>>()?;
        self.desk.read(access, None, &digest, items().map(|item| item.json.len()).sum())?;
        Ok(opened)
    }

    /// What the log keeps of the labels that namespaces begin with.
    fn prefix_digest(&self, prefix: &[String]) -> Result<String> {
        let tags = self.open.memories.prefix_tags(prefix)?;
        Ok(hex(&self.open.keyring().provider().sha256(&[&tags])))
    }
}
