//! The key that signs checkpoints, at rest: sealed by the keystore where there is one, otherwise a file that only its owner
//! reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::checkpoint::LogKey;
use crate::crypto::{Provider, Signature, SigningKey};
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Keystore;
use crate::limits;
use crate::secret::SecretBytes;

/// The public key, in its text form.
pub const KEY_FILE: &str = "log.pub";
/// The seed of the private one.
const SEED_FILE: &str = "log.key";
const VERSION: u8 = 1;
/// What the keystore seals the seed as.
const SEALED_AS: &[u8] = b"audit log key v1";

/// Where the seed of a log's key is kept.
#[derive(Clone)]
pub enum KeyKeeper {
    /// Sealed under the master key of a keystore.
    Keystore(Arc<Keystore>),
    /// In a file for its owner alone, as TLS keys are: for processes without a keystore.
    File,
    /// Nobody has it open: what is appended is signed by whoever opens the log next.
    Nobody,
}

/// The key of a log: its public half, and where the other one is.
pub(super) struct KeyAtRest {
    dir: PathBuf,
    keeper: KeyKeeper,
    public: LogKey,
}

impl KeyAtRest {
    /// The key of the log in `dir`.
    pub(super) fn open(dir: &Path, keeper: KeyKeeper, provider: &dyn Provider) -> Result<Self> {
        Ok(Self { dir: dir.to_owned(), keeper, public: public(dir, provider)? })
    }

    /// Makes the key of a log that has nothing in it yet, ready to sign.
    pub(super) fn create(
        dir: &Path,
        keeper: KeyKeeper,
        algorithm: Signature,
        provider: &'static dyn Provider,
    ) -> Result<(Self, Box<dyn SigningKey>)> {
        let seed = SecretBytes::random(algorithm.seed_len())?;
        let key = provider.signing_key(algorithm, &seed)?;
        let name = format!("strongroom.audit/{}", hex(crate::secret::Secret::<16>::random()?.expose_secret()));
        let public = LogKey::new(&name, algorithm, key.public_key());
        let kept = keeper.keep(&seed)?;
        // The public key last: where it is, the log is made.
        disk::replace(&dir.join(SEED_FILE), kept.expose_secret())?;
        disk::replace(&dir.join(KEY_FILE), format!("{}\n", public.text(provider)).as_bytes())?;
        Ok((Self { dir: dir.to_owned(), keeper, public }, key))
    }

    /// Whether checkpoints can be signed.
    pub(super) fn signs(&self) -> bool {
        !matches!(self.keeper, KeyKeeper::Nobody)
    }

    /// The public half.
    pub(super) fn public(&self) -> &LogKey {
        &self.public
    }

    /// The key, ready to sign.
    pub(super) fn signer(&self, provider: &'static dyn Provider) -> Result<Box<dyn SigningKey>> {
        let kept = SecretBytes::new(read(&self.dir.join(SEED_FILE))?.ok_or_else(damaged)?);
        let key = provider.signing_key(self.public.algorithm(), &self.keeper.open(kept.expose_secret())?)?;
        if key.public_key() == self.public.public_key() { Ok(key) } else { Err(damaged()) }
    }
}

impl KeyKeeper {
    /// Version, keeper, seed.
    fn keep(&self, seed: &SecretBytes) -> Result<SecretBytes> {
        Ok(SecretBytes::new(match self {
            KeyKeeper::Keystore(keystore) => {
                [&[VERSION, 1][..], &keystore.seal(SEALED_AS, seed.expose_secret())?].concat()
            }
            KeyKeeper::File => [&[VERSION, 0][..], seed.expose_secret()].concat(),
            KeyKeeper::Nobody => return Err(Error::internal("an audit log whose key nobody keeps")),
        }))
    }

    fn open(&self, kept: &[u8]) -> Result<SecretBytes> {
        match (self, kept) {
            (KeyKeeper::Keystore(keystore), [VERSION, 1, sealed @ ..]) => keystore.open_sealed(SEALED_AS, sealed),
            (KeyKeeper::File, [VERSION, 0, seed @ ..]) => Ok(SecretBytes::new(seed.to_vec())),
            _ => Err(damaged()),
        }
    }
}

/// Whether a key was made for the log in `dir`.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join(KEY_FILE).exists()
}

/// The public key of the log in `dir`.
pub(super) fn public(dir: &Path, provider: &dyn Provider) -> Result<LogKey> {
    let none = || {
        Error::not_found(format!("there is no audit log in `{}`", dir.display()))
            .with_remedy("a log begins with the first event of its process; name another with `--of`")
    };
    let text = read(&dir.join(KEY_FILE))?.ok_or_else(none)?;
    LogKey::parse(&String::from_utf8(text).map_err(|_| damaged())?, provider)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(limits::AUDIT_KEY_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn damaged() -> Error {
    Error::new(ErrorKind::Integrity, "the key of the audit log is not what was made with it")
        .with_remedy("put `log.key` and `log.pub` back from a backup, or move the log away: a new one is begun then")
}
