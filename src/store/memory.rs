//! The memories of a tenant, for callers that must not block.

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
        let _timed = self.open.foreground.time(Class::Write);
        let open = self.open.clone();
        blocking(move || open.memories.put(memory)).await
    }

    /// Writes a memory that must exist; without an expiry of its own it keeps the one it has. An embedding belongs to
    /// one value: an update without one leaves the memory without.
    pub async fn update_memory(&self, memory: Memory) -> Result<u64> {
        let _timed = self.open.foreground.time(Class::Write);
        let open = self.open.clone();
        blocking(move || open.memories.update(memory)).await
    }

    /// The memory under `key` in `namespace`. A lookup takes microseconds and is not worth another thread.
    pub fn memory(&self, namespace: &Namespace, key: &str) -> Result<Option<MemoryItem>> {
        let _timed = self.open.foreground.time(Class::Lookup);
        self.open.memories.get(namespace, key)
    }

    /// The memories that fit `request` best.
    pub async fn recall(&self, request: RecallRequest) -> Result<Vec<Recalled>> {
        let _timed = self.open.foreground.time(Class::Search);
        let open = self.open.clone();
        blocking(move || open.memories.recall(&request)).await
    }

    /// Deletes a memory and returns whether it was there. Its history stays unless `purge` removes that too.
    pub async fn forget(&self, namespace: &Namespace, key: &str, purge: bool) -> Result<bool> {
        let _timed = self.open.foreground.time(Class::Write);
        let (open, namespace, key) = (self.open.clone(), namespace.clone(), key.to_owned());
        blocking(move || open.memories.delete(&namespace, &key, purge)).await
    }

    /// Deletes every memory in namespaces that begin with `prefix` and returns how many there were.
    pub async fn forget_all(&self, prefix: &[String], purge: bool) -> Result<usize> {
        let (open, prefix) = (self.open.clone(), prefix.to_vec());
        blocking(move || open.memories.delete_all(&prefix, purge)).await
    }

    /// Makes all of `ops`, in their order, or none.
    pub async fn memory_batch(&self, ops: Vec<MemoryOp>) -> Result<()> {
        let open = self.open.clone();
        blocking(move || open.memories.batch(ops)).await
    }

    /// Memories in namespaces that begin with `prefix`, the latest first: `limit` of them after the first `offset`.
    pub async fn memories(&self, prefix: &[String], limit: usize, offset: usize) -> Result<Vec<MemoryItem>> {
        let (open, prefix) = (self.open.clone(), prefix.to_vec());
        blocking(move || open.memories.list(&prefix, limit, offset)).await
    }

    /// Namespaces below `prefix` that hold memories, cut to `max_depth` labels, in order.
    pub async fn namespaces(&self, prefix: &[String], max_depth: Option<usize>) -> Result<Vec<Namespace>> {
        let (open, prefix) = (self.open.clone(), prefix.to_vec());
        blocking(move || open.memories.list_namespaces(&prefix, max_depth)).await
    }

    /// Every kept version of a memory, oldest first, also after it was deleted.
    pub async fn memory_history(&self, namespace: &Namespace, key: &str) -> Result<Vec<MemoryVersion>> {
        let (open, namespace, key) = (self.open.clone(), namespace.clone(), key.to_owned());
        blocking(move || open.memories.history(&namespace, &key)).await
    }
}
