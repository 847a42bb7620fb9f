//! The secrets of one tenant, computed again from the passphrase and a copy of the keystore as `schema/keys.md` says.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use strongroom::crypto::{Aead, Kdf, Kem, Provider, SuiteId, default_provider};
use strongroom::keys::keystore::file::FileKeystore;
use strongroom::keys::{Keystore as _, Label};
use strongroom::secret::{Secret, SecretBytes};
use strongroom::{Epoch, Passphrase};

use crate::prey::Prey;

/// What must be gone once the tenant is closed.
pub fn of_tenant(keys: &Path, data: &Path, passphrase: &str, tenant: &str, prey: &mut Prey) {
    let provider = default_provider();
    prey.text("the passphrase", passphrase);
    let header: serde_json::Value =
        serde_json::from_slice(&std::fs::read(keys.join("keystore.json")).unwrap()).unwrap();
    let cost = |name: &str| u32::try_from(header["cost"][name].as_u64().unwrap()).unwrap();
    let params = argon2::Params::new(cost("memory_kib"), cost("passes"), cost("lanes"), Some(32)).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let bytes = |name: &str| BASE64.decode(header[name].as_str().unwrap()).unwrap();
    let wrapping = Secret::<32>::try_fill(|key| argon.hash_password_into(passphrase.as_bytes(), &bytes("salt"), key));
    let wrapping = wrapping.unwrap();
    prey.bytes("the key that wraps the master key", wrapping.expose_secret());
    let master = open(provider, &wrapping, b"strongroom file keystore master v1", &bytes("master"));
    prey.bytes("the master key", master.expose_secret());

    let master = Secret::from_bytes(master.expose_secret().try_into().unwrap());
    let seed = root_seed(provider, &master, keys, tenant);
    prey.bytes("the root seed, d", &seed[..32]);
    prey.bytes("the root seed, z", &seed[32..]);
    let keystore = FileKeystore::open(keys, provider, &Passphrase::new(passphrase.into()).unwrap()).unwrap();
    let epoch = keystore.open_epoch(&tenant.parse().unwrap(), Epoch::FIRST).unwrap();
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

/// Root seed and epoch secret stand in the tenant's file, and everything in it hangs on them.
fn root_seed(provider: &dyn Provider, master: &Secret<32>, keys: &Path, tenant: &str) -> Vec<u8> {
    let prk = provider.hkdf_extract(Kdf::HkdfSha3_512, b"strongroom file keystore v1", master.expose_secret());
    let key = |info: &[u8]| Secret::<32>::try_fill(|k| provider.hkdf_expand(Kdf::HkdfSha3_512, &prk, info, k)).unwrap();
    let tag = provider.mac(&key(b"tenant-name-v1")).tag(&[tenant.as_bytes()]);
    let stem = crate::common::hex(&tag[..16]);
    let sealed = std::fs::read(keys.join(&stem).with_extension("tenant")).unwrap();
    let aad = [b"strongroom file keystore tenant v1", stem.as_bytes()].concat();
    let file = open(provider, &key(b"tenant-file-v1"), &aad, &sealed[1..]);
    let seed = &file.expose_secret()[1 + tenant.len()..];
    assert_eq!(seed[0], 64);
    // Not the bytes of something else: they make the tenant's key pair.
    let secret = SecretBytes::new(seed[1..65].to_vec());
    provider.kem_key(Kem::MlKem1024, &secret).unwrap();
    seed[1..65].to_vec()
}

fn open(provider: &dyn Provider, key: &Secret<32>, aad: &[u8], sealed: &[u8]) -> SecretBytes {
    let (nonce, ciphertext) = sealed.split_first_chunk().unwrap();
    provider.aead(Aead::Aes256GcmSiv, key).unwrap().open(nonce, aad, ciphertext).unwrap()
}
