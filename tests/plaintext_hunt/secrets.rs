//! The secrets of one tenant, computed again from the passphrase and a copy of the keystore as `schema/keys.md` says.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use strongroom::crypto::{Aead, Kdf, Kem, Provider, SuiteId, default_provider};
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::{Keystore, Label};
use strongroom::secret::{Secret, SecretBytes};
use strongroom::{Epoch, Passphrase};

use crate::prey::Prey;

/// What must be gone once the tenant is closed.
pub fn of_tenant(keys: &Path, data: &Path, passphrase: &str, tenant: &str, prey: &mut Prey) {
    prey.text("the passphrase", passphrase);
    let (wrapping, master) = master(keys, passphrase);
    prey.bytes("the key that wraps the master key", wrapping.expose_secret());
    prey.bytes("the master key", master.expose_secret());
    let stored = stored(&master, keys, tenant);
    // Not the bytes of something else: they make the tenant's key pair.
    let root = SecretBytes::new(stored.keys[0].private.clone());
    default_provider().kem_key(Kem::MlKem1024, &root).unwrap();
    for (at, key) in stored.keys.iter().enumerate() {
        // In halves, as ML-KEM's is `d ‖ z`.
        key.private.chunks(32).filter(|half| half.len() >= 16).for_each(|half| prey.bytes(&format!("seed {at}"), half));
    }
    data_keys(keys, data, passphrase, tenant, prey);
}

/// What must be gone once the tenant's first epoch is destroyed: its encapsulated secret and its data keys.
pub fn of_epoch(keys: &Path, data: &Path, passphrase: &str, tenant: &str) -> Prey {
    let mut prey = Prey::default();
    let ciphertext = ciphertexts(keys, passphrase, tenant).remove(0);
    ciphertext.chunks_exact(32).for_each(|part| prey.bytes("the encapsulated secret", part));
    data_keys(keys, data, passphrase, tenant, &mut prey);
    prey
}

/// The encapsulated secrets of a tenant's epochs.
pub fn ciphertexts(keys: &Path, passphrase: &str, tenant: &str) -> Vec<Vec<u8>> {
    let (_, master) = master(keys, passphrase);
    stored(&master, keys, tenant).epochs.into_iter().map(|epoch| epoch.ciphertext).collect()
}

fn data_keys(keys: &Path, data: &Path, passphrase: &str, tenant: &str, prey: &mut Prey) {
    let passphrase = Passphrase::new(passphrase.into()).unwrap();
    let unlock = Unlock::Passphrase(passphrase, KdfCost::default());
    let keystore = Keystore::open(keys, default_provider(), unlock).unwrap();
    let epoch = keystore.epoch_secret(&tenant.parse().unwrap(), Epoch::FIRST).unwrap();
    let mut scopes = vec![Vec::new(), b"memory".to_vec()];
    for shard in std::fs::read_dir(data.join("shards")).unwrap() {
        let name = shard.unwrap().file_name().into_string().unwrap();
        scopes.push(uuid::Uuid::try_parse(&name).unwrap().as_bytes().to_vec());
    }
    for label in Label::ALL {
        for scope in &scopes {
            let key = epoch.derive(&label.info(SuiteId::Aes256GcmSivSha3_512, Epoch::FIRST, scope)).unwrap();
            prey.bytes(&format!("a DEK, {label:?}"), key.expose_secret());
        }
    }
}

/// The key that wraps the master key, and the master key.
fn master(keys: &Path, passphrase: &str) -> (Secret<32>, Secret<32>) {
    let header: serde_json::Value =
        serde_json::from_slice(&std::fs::read(keys.join("keystore.json")).unwrap()).unwrap();
    let cost = |name: &str| u32::try_from(header["kdf"]["cost"][name].as_u64().unwrap()).unwrap();
    let params = argon2::Params::new(cost("memory_kib"), cost("passes"), cost("lanes"), Some(32)).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let bytes = |value: &serde_json::Value| BASE64.decode(value.as_str().unwrap()).unwrap();
    let salt = bytes(&header["kdf"]["salt"]);
    let wrapping = Secret::<32>::try_fill(|key| argon.hash_password_into(passphrase.as_bytes(), &salt, key));
    let wrapping = wrapping.unwrap();
    let master = open(default_provider(), &wrapping, b"strongroom keystore master v2 file", &bytes(&header["master"]));
    let master = Secret::from_bytes(master.expose_secret().try_into().unwrap());
    (wrapping, master)
}

/// The tenant's record: everything in it hangs on the seeds and the encapsulated secrets.
fn stored(master: &Secret<32>, keys: &Path, tenant: &str) -> Stored {
    let provider = default_provider();
    let prk = provider.hkdf_extract(Kdf::HkdfSha3_512, b"strongroom keystore v2", master.expose_secret());
    let key = |info: &[u8]| Secret::<32>::try_fill(|k| provider.hkdf_expand(Kdf::HkdfSha3_512, &prk, info, k)).unwrap();
    let tag = provider.mac(&key(b"tenant-name-v1")).tag(&[tenant.as_bytes()]);
    let stem = crate::common::hex(&tag[..16]);
    let sealed = std::fs::read(keys.join(&stem).with_extension("tenant")).unwrap();
    let aad = [b"strongroom keystore tenant v3", stem.as_bytes()].concat();
    let file = open(provider, &key(b"tenant-file-v1"), &aad, &sealed[1..]);
    postcard::take_from_bytes(file.expose_secret()).unwrap().0
}

/// The beginning of the record, as `schema/keys.md` has it.
#[derive(serde::Deserialize)]
struct Stored {
    _tenant: String,
    _state: u32,
    _profile: u32,
    _created_at_ms: u64,
    keys: Vec<StoredKey>,
    epochs: Vec<StoredEpoch>,
}

#[derive(serde::Deserialize)]
struct StoredEpoch {
    _epoch: u32,
    _state: u32,
    _suite: u16,
    _created_at_ms: u64,
    _since_ms: u64,
    _fingerprint: String,
    ciphertext: Vec<u8>,
    _root: [u8; 16],
}

#[derive(serde::Deserialize)]
struct StoredKey {
    _purpose: u8,
    _serial: [u8; 16],
    _algorithm: u8,
    _public_key: Vec<u8>,
    private: Vec<u8>,
    _state: u32,
    _created_at_ms: u64,
    _since_ms: u64,
    _fingerprint: Option<String>,
}

fn open(provider: &dyn Provider, key: &Secret<32>, aad: &[u8], sealed: &[u8]) -> SecretBytes {
    let (nonce, ciphertext) = sealed.split_first_chunk().unwrap();
    provider.aead(Aead::Aes256GcmSiv, key).unwrap().open(nonce, aad, ciphertext).unwrap()
}
