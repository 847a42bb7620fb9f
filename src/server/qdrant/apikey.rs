//! API keys: who may call the compatible endpoint, for which tenant, what, and until when. A file holds their hashes.
//!
//! A key is 256 random bits, so SHA-256 is enough to keep what is stored from telling it.

mod noted;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::crypto;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Name, TenantId, shown};
use crate::keys::kms::{Caller, Role as ServiceRole, Scope};
use crate::limits;
use crate::secret::{Secret, SecretBytes};
use crate::server::files;

pub(super) use noted::Noted;

/// What a key begins with, so that one that leaked is found by those who look for such.
const PREFIX: &str = "srk_";
/// Written at the head of the file.
const HEAD: &str = "# Keys of the Qdrant-compatible endpoint: their hashes. Change it with `strongroom apikey`.\n";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Reads the metrics of the process, and nothing of any tenant.
    Metrics,
    /// Reads points and what collections are.
    Read,
    /// Writes points as well.
    Write,
    /// Makes, changes and drops collections as well.
    Manage,
}

impl KeyRole {
    /// The word in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyRole::Metrics => "metrics",
            KeyRole::Read => "read",
            KeyRole::Write => "write",
            KeyRole::Manage => "manage",
        }
    }
}

/// What is known of a key: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Its name, which it begins with: 16 hexadecimal digits.
    pub id: String,
    /// SHA-256 of it.
    pub sha256: String,
    /// What it is for.
    pub role: KeyRole,
    /// Whose it is; none for metrics.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// The collections that it may use; none is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// When it was made: Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Until when it is good: Unix time in milliseconds; 0 is until it is revoked.
    #[serde(default)]
    pub expires_at_ms: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<KeyEntry>,
}

/// What a new key is to be for.
#[derive(Clone)]
pub struct NewKey {
    /// What.
    pub role: KeyRole,
    /// For whom; none for metrics.
    pub tenant: Option<TenantId>,
    /// Which collections; none is all.
    pub collections: Vec<Name>,
    /// What people call it.
    pub label: String,
    /// Until when; 0 is until it is revoked.
    pub expires_at_ms: u64,
}

/// The file of keys, for those who change it.
pub struct KeyBook {
    path: PathBuf,
}

impl KeyBook {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All keys, in the order of their making.
    pub fn list(&self) -> Result<Vec<KeyEntry>> {
        Ok(read(&self.path)?.key)
    }

    /// Makes a key. It is returned once and kept nowhere.
    pub fn create(&self, new: NewKey, now_ms: u64) -> Result<(KeyEntry, SecretBytes)> {
        let tenant = new.tenant.as_ref().map_or_else(String::new, |tenant| tenant.as_str().to_owned());
        if (new.role == KeyRole::Metrics) != tenant.is_empty() {
            return Err(Error::invalid("a key is for one tenant, and one for metrics for none")
                .with_remedy("name the tenant with `--tenant`, or leave it out with `--role metrics`"));
        }
        if new.label.len() > limits::API_KEY_LABEL_BYTES || new.label.chars().any(char::is_control) {
            return Err(Error::invalid("the label is too long or has control characters")
                .with_remedy(format!("use at most {} bytes", limits::API_KEY_LABEL_BYTES)));
        }
        let _lock = self.lock()?;
        let mut file = read(&self.path)?;
        if file.key.len() >= limits::API_KEYS {
            return Err(Error::new(ErrorKind::Conflict, format!("there are {} API keys already", limits::API_KEYS))
                .with_remedy("revoke those that nobody uses"));
        }
        let id = hex(&Secret::<8>::random()?.expose_secret()[..]);
        let key = SecretBytes::new(
            format!("{PREFIX}{id}_{}", hex(&Secret::<32>::random()?.expose_secret()[..])).into_bytes(),
        );
        let entry = KeyEntry {
            id,
            sha256: hex(&digest(key.expose_secret())),
            role: new.role,
            tenant,
            collections: new.collections.iter().map(|name| name.as_str().to_owned()).collect(),
            label: new.label,
            created_at_ms: now_ms,
            expires_at_ms: new.expires_at_ms,
        };
        file.key.push(entry.clone());
        self.write(&file)?;
        Ok((entry, key))
    }

    /// Removes the key called `id`: a service does not know it any more a second later.
    pub fn revoke(&self, id: &str) -> Result<KeyEntry> {
        let _lock = self.lock()?;
        let mut file = read(&self.path)?;
        let at = file.key.iter().position(|key| key.id == id).ok_or_else(|| {
            Error::not_found(format!("there is no API key `{}`", shown(id)))
                .with_remedy("`strongroom apikey list` shows them")
        })?;
        let entry = file.key.remove(at);
        self.write(&file)?;
        Ok(entry)
    }

    /// Held while the file is changed, so that of two changes none is lost.
    fn lock(&self) -> Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    }

    fn write(&self, file: &KeyFile) -> Result<()> {
        let text = toml::to_string(file).map_err(|e| Error::internal("encoding API keys").with_source(e))?;
        disk::replace(&self.path, format!("{HEAD}{text}").as_bytes())
    }
}

/// The keys that a service knows.
pub(super) struct ApiKeys {
    by_id: HashMap<String, Arc<ApiKey>>,
    path: PathBuf,
}

/// A key that a service knows, and how much of the service it uses.
pub(super) struct ApiKey {
    entry: KeyEntry,
    digest: [u8; 32],
    tenant: Option<TenantId>,
    collections: BTreeSet<String>,
    caller: Caller,
    pub(super) requests: Arc<Semaphore>,
    /// Bytes of its requests that may be read at a time, in KiB.
    pub(super) room: Arc<Semaphore>,
}

impl ApiKeys {
    /// Those of the file at `path`; none while there is no such file.
    pub(super) fn load(path: &Path) -> Result<Self> {
        Self::load_after(path, None)
    }

    /// The same as the file is now.
    pub(super) fn reload(&self) -> Result<Self> {
        Self::load_after(&self.path, Some(self))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn load_after(path: &Path, before: Option<&Self>) -> Result<Self> {
        let mut by_id = HashMap::new();
        for entry in read(path)?.key {
            // One that stays goes on with what it has under way.
            let old = before.and_then(|before| before.by_id.get(&entry.id));
            let key = ApiKey::new(entry, old.map(|old| (old.requests.clone(), old.room.clone())))?;
            if let Some(twice) = by_id.insert(key.entry.id.clone(), Arc::new(key)) {
                return Err(Error::invalid(format!("there are two API keys `{}`", twice.entry.id)));
            }
        }
        Ok(Self { by_id, path: path.to_owned() })
    }

    /// The same without those of which `good` does not hold.
    pub(super) fn only(&self, good: impl Fn(&KeyEntry) -> bool) -> Self {
        let kept = self.by_id.iter().filter(|(_, key)| good(&key.entry));
        Self { by_id: kept.map(|(id, key)| (id.clone(), key.clone())).collect(), path: self.path.clone() }
    }

    /// The key that `presented` is, if it is known and good at `now_ms`.
    pub(super) fn authenticate(&self, presented: &str, now_ms: u64) -> Option<Arc<ApiKey>> {
        let (id, _) = presented.strip_prefix(PREFIX)?.split_once('_')?;
        let key = self.by_id.get(id)?;
        let same = bool::from(digest(presented.as_bytes()).ct_eq(&key.digest));
        (same && key.is_good(now_ms)).then(|| key.clone())
    }
}

impl ApiKey {
    fn new(entry: KeyEntry, used: Option<(Arc<Semaphore>, Arc<Semaphore>)>) -> Result<Self> {
        let about = |what: &str| Error::invalid(format!("API key `{}` has {what}", shown(&entry.id)));
        if entry.id.len() != 16 || !entry.id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(about("a name that is not 16 hexadecimal digits"));
        }
        let digest = crate::server::parse_sha256(&entry.sha256).map_err(|_| about("no SHA-256"))?;
        let tenant: Option<TenantId> = match entry.role {
            KeyRole::Metrics if !entry.tenant.is_empty() => return Err(about("a tenant and is for metrics")),
            KeyRole::Metrics => None,
            _ => Some(entry.tenant.parse().map_err(|_| about("no tenant"))?),
        };
        for name in &entry.collections {
            name.parse::<Name>().map_err(|_| about("a collection that cannot be"))?;
        }
        let scope = Scope::Tenants(tenant.iter().cloned().collect());
        let caller = Caller::new(format!("apikey-{}", entry.id), ServiceRole::Agent, scope);
        let (requests, room) = used.unwrap_or_else(|| {
            let of = |places| Arc::new(Semaphore::new(places));
            (of(limits::QDRANT_REQUESTS_PER_KEY), of(limits::QDRANT_BODIES_BYTES_PER_KEY >> 10))
        });
        Ok(Self {
            digest,
            tenant,
            collections: entry.collections.iter().cloned().collect(),
            caller,
            requests,
            room,
            entry,
        })
    }

    fn is_good(&self, now_ms: u64) -> bool {
        self.entry.expires_at_ms == 0 || now_ms < self.entry.expires_at_ms
    }

    /// Whose it is.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    pub(super) fn role(&self) -> KeyRole {
        self.entry.role
    }

    /// How it stands in the audit log.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether it may use the collection called `name`, as far as its role goes.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.collections.is_empty() || self.collections.contains(name)
    }
}

fn read(path: &Path) -> Result<KeyFile> {
    let about = |e: Error| {
        Error::new(e.kind(), format!("the API keys in `{}` cannot be used: {e}", path.display()))
            .with_remedy("make and revoke keys with `strongroom apikey`")
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o002 != 0 => {
            return Err(about(Error::invalid("everybody may write the file")));
        }
        _ => {}
    }
    let bytes = match files::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(KeyFile::default()),
        Err(e) => return Err(about(e)),
    };
    let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| about(Error::invalid("it is not a text")))?;
    toml::from_str(text).map_err(|e| about(Error::invalid(e.message().to_owned()).with_source(e)))
}

fn digest(key: &[u8]) -> [u8; 32] {
    crypto::default_provider().sha256(&[key])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(tenant: &str) -> NewKey {
        NewKey {
            role: KeyRole::Write,
            tenant: Some(tenant.parse().unwrap()),
            collections: Vec::new(),
            label: String::new(),
            expires_at_ms: 0,
        }
    }

    fn text(key: &SecretBytes) -> String {
        String::from_utf8(key.expose_secret().to_vec()).unwrap()
    }

    /// Guards against a key that is believed though it is another, revoked, expired or nobody's.
    #[test]
    fn only_a_key_that_is_in_the_file_and_in_date_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-keys.toml");
        let book = KeyBook::new(&path);
        assert!(ApiKeys::load(&path).unwrap().by_id.is_empty());
        let (first, key) = book.create(new("acme"), 5).unwrap();
        let (second, other) = book.create(NewKey { expires_at_ms: 100, ..new("beta") }, 6).unwrap();
        let keys = ApiKeys::load(&path).unwrap();
        let known = |keys: &ApiKeys, key: &str, now| keys.authenticate(key, now).map(|key| key.entry.id.clone());
        assert_eq!(known(&keys, &text(&key), 1_000), Some(first.id.clone()));
        assert_eq!(known(&keys, &text(&other), 99), Some(second.id.clone()));
        assert_eq!(known(&keys, &text(&other), 100), None, "it has expired");
        let mixed = format!("{PREFIX}{}_{}", first.id, text(&other).rsplit_once('_').unwrap().1);
        let longer = format!("{}0", text(&key));
        for wrong in [mixed.as_str(), &longer, &text(&key)[1..], "", PREFIX, "srk_0_", &first.sha256] {
            assert_eq!(known(&keys, wrong, 0), None, "{wrong}");
        }
        book.revoke(&first.id).unwrap();
        let keys = keys.reload().unwrap();
        assert_eq!(known(&keys, &text(&key), 0), None, "it is revoked");
        assert_eq!(known(&keys, &text(&other), 0), Some(second.id));
        assert_eq!(book.revoke(&first.id).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// Guards against keys that can be read from the file.
    #[test]
    fn the_file_has_no_key_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-keys.toml");
        let (_, key) = KeyBook::new(&path).create(new("acme"), 5).unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(!file.contains(text(&key).rsplit_once('_').unwrap().1));
    }

    /// Guards against a key that gets rights by an oversight in the file.
    #[test]
    fn whatever_is_not_clear_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-keys.toml");
        KeyBook::new(&path).create(new("acme"), 5).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        assert!(ApiKeys::load(&path).is_ok());
        let twice = format!("{good}\n{}", good.trim_start_matches(HEAD));
        for bad in [
            good.replace("acme", ""),
            good.replace("acme", "*"),
            good.replace("write", "boss"),
            good.replace("write", "metrics"),
            good.replace("sha256 = \"", "sha256 = \"x"),
            good.replace("tenant", "tenants"),
            good.replace("id = \"", "id = \"0"),
            twice,
        ] {
            std::fs::write(&path, &bad).unwrap();
            assert!(ApiKeys::load(&path).is_err(), "{bad}");
        }
        let none = NewKey { tenant: None, ..new("acme") };
        assert!(KeyBook::new(dir.path().join("new")).create(none, 0).is_err());
    }
}
