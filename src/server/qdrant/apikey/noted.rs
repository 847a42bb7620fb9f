//! What the audit log knows of the API keys. One that it does not know as it is opens nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ApiKey, ApiKeys, KeyEntry, KeyRole, digest, hex};
use crate::audit::{KeyChange, What};
use crate::disk;
use crate::error::{Error, Result};
use crate::id::TenantId;

/// The file in the data directory that remembers what the log knows. No tenant and no collection stands in it by name.
const FILE: &str = "api-keys.json";
/// The version of its form.
const VERSION: u8 = 1;

/// What the audit log knows of the keys.
pub(in super::super) struct Noted {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    /// Whether the file has yet to be written.
    unwritten: bool,
}

/// What became of a key, and the pseudonym of its tenant.
pub(in super::super) type Change = (Option<String>, What);

/// What the log knows of a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The pseudonym of its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    grants: KeyRole,
    collections: u64,
    expires_at_ms: u64,
    /// SHA-256 over all that the file of the keys says of it, a random number's SHA-256 included.
    entry_sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form<Keys> {
    v: u8,
    keys: Keys,
}

impl Noted {
    /// As `dir` remembers it. What cannot be read there is written down once more.
    pub(in super::super) fn load(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Form<BTreeMap<String, Known>>>(&bytes).ok();
        let form = fs::read(&path).ok().and_then(read).filter(|form| form.v == VERSION);
        Self { path, known: form.map(|form| form.keys).unwrap_or_default(), unwritten: false }
    }

    /// Has the log know `keys` as they are: `record` writes into it, where a tenant is called as `pseudonym` says.
    ///
    /// # Errors
    ///
    /// When `record` fails: the log knows then what it did before.
    pub(in super::super) fn note(
        &mut self,
        keys: &ApiKeys,
        pseudonym: impl Fn(&TenantId) -> Result<String>,
        record: impl FnOnce(&[Change]) -> Result<()>,
    ) -> Result<()> {
        let known = |key: &ApiKey| {
            let tenant = key.tenant.as_ref().map(&pseudonym).transpose()?;
            Ok::<_, Error>((key.entry.id.clone(), Known::of(&key.entry, tenant)?))
        };
        let now: BTreeMap<_, _> = keys.by_id.values().map(|key| known(key)).collect::<Result<_>>()?;
        if now != self.known {
            record(&changes(&self.known, &now))?;
            // Before the file: when that cannot be written, the next start writes the same down once more.
            self.known = now;
            self.unwritten = true;
        }
        if !self.unwritten {
            return Ok(());
        }
        let form = Form { v: VERSION, keys: &self.known };
        let json = serde_json::to_vec(&form).map_err(|e| Error::internal("encoding API keys").with_source(e))?;
        disk::replace(&self.path, &json)?;
        self.unwritten = false;
        Ok(())
    }

    /// Whether the log knows the key as it is.
    pub(in super::super) fn knows(&self, entry: &KeyEntry) -> bool {
        let known = self.known.get(&entry.id);
        known.is_some_and(|known| entry_digest(entry).is_ok_and(|digest| known.entry_sha256 == digest))
    }
}

impl Known {
    fn of(entry: &KeyEntry, tenant: Option<String>) -> Result<Self> {
        Ok(Self {
            tenant,
            grants: entry.role,
            collections: entry.collections.len() as u64,
            expires_at_ms: entry.expires_at_ms,
            entry_sha256: entry_digest(entry)?,
        })
    }

    fn change(&self, id: &str, change: KeyChange) -> Change {
        let what = What::ApiKeyChanged {
            change,
            key: id.to_owned(),
            grants: self.grants.as_str(),
            collections: self.collections,
            expires_at_ms: self.expires_at_ms,
        };
        (self.tenant.clone(), what)
    }
}

/// What has changed, those that are gone first.
fn changes(before: &BTreeMap<String, Known>, now: &BTreeMap<String, Known>) -> Vec<Change> {
    let gone = before.iter().filter(|(id, _)| !now.contains_key(*id));
    let gone = gone.map(|(id, known)| known.change(id, KeyChange::Removed));
    let other = now.iter().filter_map(|(id, known)| match before.get(id) {
        None => Some(known.change(id, KeyChange::Added)),
        Some(old) if old != known => Some(known.change(id, KeyChange::Changed)),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

fn entry_digest(entry: &KeyEntry) -> Result<String> {
    let json = serde_json::to_vec(entry).map_err(|e| Error::internal("encoding API keys").with_source(e))?;
    Ok(hex(&digest(&json)))
}

#[cfg(test)]
mod tests {
    use super::super::{KeyBook, NewKey};
    use super::*;

    fn new(tenant: &str) -> NewKey {
        NewKey {
            role: KeyRole::Write,
            tenant: Some(tenant.parse().unwrap()),
            collections: vec!["harbour".parse().unwrap()],
            label: "of the crane".into(),
            expires_at_ms: 9,
        }
    }

    /// What `noted` writes down of the keys at `path`, in short.
    fn told(noted: &mut Noted, path: &Path) -> Vec<String> {
        let mut told = Vec::new();
        let keys = ApiKeys::load(path).unwrap();
        let record = |changes: &[Change]| {
            told.extend(changes.iter().map(|(tenant, what)| {
                let json = serde_json::to_value(what).unwrap();
                format!("{}:{}:{}", json["change"].as_str().unwrap(), json["key"].as_str().unwrap(), tenant.is_some())
            }));
            Ok(())
        };
        noted.note(&keys, |_| Ok("00".into()), record).unwrap();
        told
    }

    /// Guards against a change of keys that is not written down, or more than once, or not after a restart.
    #[test]
    fn each_change_is_written_down_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-keys.toml");
        let book = KeyBook::new(&path);
        let mut noted = Noted::load(dir.path());
        assert!(told(&mut noted, &path).is_empty(), "there is none");
        let (one, _) = book.create(new("acme"), 5).unwrap();
        assert_eq!(told(&mut noted, &path), [format!("added:{}:true", one.id)]);
        assert!(told(&mut noted, &path).is_empty());
        let mut noted = Noted::load(dir.path());
        assert!(told(&mut noted, &path).is_empty(), "a start is no change");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("write", "manage")).unwrap();
        assert_eq!(told(&mut noted, &path), [format!("changed:{}:true", one.id)]);
        book.revoke(&one.id).unwrap();
        let (other, _) = book.create(NewKey { role: KeyRole::Metrics, tenant: None, ..new("acme") }, 6).unwrap();
        let mut noted = Noted::load(dir.path());
        let expected = [format!("removed:{}:true", one.id), format!("added:{}:false", other.id)];
        assert_eq!(told(&mut noted, &path), expected, "while nobody served");
        fs::write(dir.path().join(FILE), "{").unwrap();
        let mut noted = Noted::load(dir.path());
        assert_eq!(told(&mut noted, &path), [format!("added:{}:false", other.id)], "once more");
    }

    /// Guards against a key that opens something before the log knows of it, and one that is good although it is
    /// revoked, while the log cannot be written.
    #[test]
    fn a_log_that_cannot_be_written_takes_keys_away_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-keys.toml");
        let book = KeyBook::new(&path);
        let [kept, gone, other] = [1, 2, 3].map(|at| book.create(new("acme"), at).unwrap());
        let mut noted = Noted::load(dir.path());
        assert_eq!(told(&mut noted, &path).len(), 3);
        book.revoke(&gone.0.id).unwrap();
        let (late, late_key) = book.create(new("acme"), 4).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once(&other.0.id).unwrap();
        fs::write(&path, format!("{head}{}{}", other.0.id, rest.replacen("write", "manage", 1))).unwrap();
        let keys = ApiKeys::load(&path).unwrap();
        assert!(noted.note(&keys, |_| Ok("00".into()), |_| Err(Error::internal("full"))).is_err());
        let keys = keys.only(|entry| noted.knows(entry));
        let good = |key: &crate::secret::SecretBytes| {
            keys.authenticate(std::str::from_utf8(key.expose_secret()).unwrap(), 0).is_some()
        };
        assert_eq!([&kept.1, &gone.1, &other.1, &late_key].map(good), [true, false, false, false]);
        assert_eq!(told(&mut noted, &path).len(), 3, "they are written down when that is possible: {}", late.id);
    }

    /// Guards against names in the data directory: there they are sealed.
    #[test]
    fn what_is_remembered_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-keys.toml");
        KeyBook::new(&path).create(new("acme"), 5).unwrap();
        told(&mut Noted::load(dir.path()), &path);
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains("acme") && !text.contains("harbour") && !text.contains("crane"), "{text}");
    }
}
