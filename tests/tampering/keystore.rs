//! The keystore's files.

use std::path::{Path, PathBuf};

use strongroom::clock::{Clock as _, SystemClock};
use strongroom::crypto::default_provider;
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::{Keyring, Keystore, Profile};
use strongroom::{ErrorKind, Passphrase, Result, TenantId};

fn passphrase() -> Passphrase {
    Passphrase::new(b"a passphrase for tests".to_vec()).unwrap()
}

/// Opens the keystore and the keys of both tenants.
fn open(dir: &Path) -> Result<()> {
    let keys = Keystore::open(dir, default_provider(), Unlock::Passphrase(passphrase(), KdfCost::INSECURE_FAST))?;
    let tenants = keys.tenants()?;
    assert_eq!(tenants, self::tenants());
    tenants.iter().try_for_each(|tenant| Keyring::open(&keys, default_provider(), tenant).map(|_| ()))?;
    // The authority's file.
    keys.certificates(&tenants[0]).map(|_| ())
}

fn tenants() -> [TenantId; 2] {
    ["acme", "globex"].map(|id| id.parse().unwrap())
}

fn keystore() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let unlock = Unlock::Passphrase(passphrase(), KdfCost::INSECURE_FAST);
    let keys = Keystore::create(dir.path(), default_provider(), unlock, &SystemClock).unwrap();
    for tenant in tenants() {
        keys.onboard(&tenant, Profile::Pure, SystemClock.now_ms()).unwrap();
    }
    let mut files = crate::common::cli::walk(dir.path());
    files.retain(|file| !file.ends_with("strongroom.lock"));
    files.sort();
    // The header, two tenants, the store's own entry and the authority.
    assert_eq!(files.len(), 5);
    (dir, files)
}

#[track_caller]
fn refused(what: &str, dir: &Path) {
    let error = open(dir).err().unwrap_or_else(|| panic!("{what} is believed"));
    // A wrong salt or cost cannot be told from a wrong passphrase.
    assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Denied), "{what}: {:?}: {error}", error.kind());
}

/// Every bit of the header, and of a tenant's file, which is one ciphertext of 25 kB, every bit of its ends and one of
/// every 13th byte between them.
#[test]
fn bits_of_every_file() {
    let (dir, files) = keystore();
    for file in &files {
        let content = std::fs::read(file).unwrap();
        let inner = content.len().saturating_sub(64);
        let ends = (0..content.len()).filter(|at| inner < 1024 || *at < 64 || *at >= inner);
        let bits = ends.flat_map(|at| (0..8).map(move |bit| (at, bit)));
        let bits = bits.chain((64..inner.max(64)).step_by(13).map(|at| (at, at % 8)));
        for (at, bit) in bits {
            let mut changed = content.clone();
            changed[at] ^= 1 << bit;
            std::fs::write(file, changed).unwrap();
            refused(&format!("{}, bit {bit} of byte {at}", file.display()), dir.path());
        }
        for length in [0, 1, content.len() / 2, content.len() - 1] {
            std::fs::write(file, &content[..length]).unwrap();
            refused(&format!("{}, cut to {length}", file.display()), dir.path());
        }
        // White space at the end of JSON is all that may be added to anything.
        std::fs::write(file, [&content[..], b"x"].concat()).unwrap();
        refused(&format!("{}, a byte more", file.display()), dir.path());
        std::fs::write(file, content).unwrap();
    }
    open(dir.path()).unwrap();
}

#[test]
fn tenant_files_under_other_names() {
    let (dir, files) = keystore();
    let [one, other] = [1, 0].map(|at| files.iter().filter(|f| f.extension().is_some_and(|e| e == "tenant")).nth(at));
    let [one, other] = [one.unwrap(), other.unwrap()];
    let contents = [one, other].map(|file| std::fs::read(file).unwrap());
    std::fs::write(one, &contents[1]).unwrap();
    refused("one tenant's file as another's", dir.path());
    std::fs::write(other, &contents[0]).unwrap();
    refused("two tenants' files swapped", dir.path());
}
