//! The manifest of a backup: everything that is in it, by hash, in two lines of JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::crypto::{MacKey, default_provider};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// The version of the format.
pub const VERSION: u8 = 1;

/// 32 bytes, in hexadecimal where they are shown: the SHA-256 of a part, which is its name, or a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(default_provider().sha256(&[bytes]))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid("a hash has 64 lower-case hexadecimal digits");
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(bad()),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[h, l]| Ok(digit(*h)? << 4 | digit(*l)?)).collect::<Result<_>>()?;
        if rest.is_empty() { bytes.try_into().map(Self).map_err(|_| bad()) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Hash {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// A part of a backup: a file that is named by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Points of a collection whose ids follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// The part that has them.
    pub part: Part,
    /// How many.
    pub points: u64,
}

/// The points of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedCollection {
    /// Its id, in hexadecimal.
    pub id: String,
    /// The number of the last write that all of it has for certain. The database's journal has those after it.
    pub head: u64,
    /// Its points, in the order of their ids.
    pub buckets: Vec<Bucket>,
}

/// A file of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedFile {
    /// Its name in the directory of the database.
    pub name: String,
    /// The parts that it is made of, in order.
    pub parts: Vec<Part>,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub version: u8,
    /// The number of the backup.
    pub number: u32,
    /// Its point in time: Unix time in milliseconds.
    pub at_ms: u64,
    /// The program that made it.
    pub program: String,
    /// The layout of the data directory.
    pub store_format: u8,
    /// What the store remembers of this backup: 16 random bytes in hexadecimal.
    pub mark: String,
    /// The points of every collection.
    pub collections: Vec<CopiedCollection>,
    /// The files of the database.
    pub files: Vec<CopiedFile>,
}

impl Manifest {
    /// Every part, as often as it is used.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        let points = self.collections.iter().flat_map(|c| c.buckets.iter().map(|bucket| &bucket.part));
        points.chain(self.files.iter().flat_map(|file| &file.parts))
    }

    /// Points, those counted twice that were written while they were copied.
    pub fn points(&self) -> u64 {
        self.collections.iter().flat_map(|c| &c.buckets).map(|bucket| bucket.points).sum()
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    fn is_sane(&self) -> bool {
        let plain = |name: &str| {
            let known = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            known && (1..=limits::BACKUP_FILE_NAME_BYTES).contains(&name.len()) && !name.starts_with('.')
        };
        self.version == VERSION
            && self.parts().all(|part| part.bytes <= limits::BACKUP_PART_BYTES)
            && self.files.iter().all(|file| plain(&file.name))
            && self.files.is_sorted_by(|a, b| a.name < b.name)
            && self.collections.is_sorted_by(|a, b| a.id < b.id)
    }
}

/// A manifest with what proves it: a hash, for who has no keys, and a MAC under a key of the store.
pub struct Signed {
    manifest: Manifest,
    line: Vec<u8>,
    mac: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    sha256: Hash,
    mac: Hash,
}

impl Signed {
    /// Signs `manifest`.
    pub fn new(manifest: Manifest, key: &dyn MacKey) -> Result<Self> {
        let line = line(&manifest)?;
        let mac = Hash(key.tag(&[&line]));
        Ok(Self { manifest, line, mac })
    }

    /// The bytes of its file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let proof = line(&Proof { sha256: Hash::of(&self.line), mac: self.mac })?;
        Ok([&self.line[..], b"\n", &proof, b"\n"].concat())
    }

    /// Reads the file of backup `number`. What was changed by accident, or is another backup's, is refused.
    pub fn from_bytes(number: u32, bytes: &[u8]) -> Result<Self> {
        let bad = || changed(number);
        let rest = bytes.strip_suffix(b"\n").ok_or_else(bad)?;
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(bad)?;
        let (first, second) = (rest.get(..end).ok_or_else(bad)?, rest.get(end + 1..).ok_or_else(bad)?);
        let proof: Proof = serde_json::from_slice(second).map_err(|_| bad())?;
        if proof.sha256 != Hash::of(first) {
            return Err(bad());
        }
        let manifest: Manifest = serde_json::from_slice(first).map_err(|_| bad())?;
        let signed = Self { line: first.to_vec(), mac: proof.mac, manifest };
        let sound = signed.manifest.number == number && signed.manifest.is_sane();
        if sound && signed.to_bytes()? == bytes && line(&signed.manifest)? == signed.line {
            Ok(signed)
        } else {
            Err(bad())
        }
    }

    /// What the manifest says, of which nobody has proved that the store wrote it.
    pub fn claimed(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest, if who has `key` wrote it.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity) when somebody else did.
    pub fn check(self, key: &dyn MacKey) -> Result<Manifest> {
        if bool::from(key.tag(&[&self.line]).ct_eq(&self.mac.0)) {
            return Ok(self.manifest);
        }
        let what =
            format!("backup {} was not written by a store with these keys, or was changed", self.manifest.number);
        Err(Error::new(ErrorKind::Integrity, what).with_remedy("bring the keystore of the store that was backed up"))
    }
}

fn line(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("encoding a manifest").with_source(e))
}

/// The error for a backup that is not what was written.
pub(super) fn changed(number: u32) -> Error {
    Error::new(ErrorKind::Integrity, format!("backup {number} is not what was written: a part is missing or changed"))
        .with_remedy("use another one (`strongroom backup list`), and keep this directory for an investigation")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use proptest::prelude::*;

    fn key(byte: u8) -> Box<dyn MacKey> {
        default_provider().mac(&Secret::from_bytes([byte; 32]))
    }

    fn manifest() -> Manifest {
        let part = Part { sha256: Hash::of(b"part"), bytes: 4 };
        Manifest {
            version: VERSION,
            number: 3,
            at_ms: 1_700_000_000_000,
            program: "0.1.0".into(),
            store_format: 1,
            mark: "00".repeat(16),
            collections: vec![CopiedCollection { id: "ab".into(), head: 9, buckets: vec![Bucket { part, points: 2 }] }],
            files: vec![CopiedFile { name: "000012.sst".into(), parts: vec![part, part] }],
        }
    }

    fn read(bytes: &[u8]) -> Result<Manifest> {
        Signed::from_bytes(3, bytes)?.check(&*key(1))
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_in_its_place() {
        let bytes = Signed::new(manifest(), &*key(1)).unwrap().to_bytes().unwrap();
        assert_eq!(read(&bytes).unwrap(), manifest());
        assert!(Signed::from_bytes(4, &bytes).is_err());
        assert!(Signed::from_bytes(3, &bytes).unwrap().check(&*key(2)).is_err());
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "a\0", &"x".repeat(100)] {
            let mut bad = manifest();
            bad.files[0].name = name.to_owned();
            let bytes = Signed::new(bad, &*key(1)).unwrap().to_bytes().unwrap();
            assert!(read(&bytes).is_err(), "{name:?}");
        }
        let mut bad = manifest();
        bad.files.push(bad.files[0].clone());
        assert!(read(&Signed::new(bad, &*key(1)).unwrap().to_bytes().unwrap()).is_err(), "a file twice");
        let mut bad = manifest();
        bad.files[0].parts[0].bytes = limits::BACKUP_PART_BYTES + 1;
        assert!(read(&Signed::new(bad, &*key(1)).unwrap().to_bytes().unwrap()).is_err(), "a part that is too long");
    }

    proptest! {
        #[test]
        fn hostile_manifests_never_panic(bytes: Vec<u8>, text in "\\PC*") {
            let _ = Signed::from_bytes(1, &bytes);
            let proof = format!("{{\"sha256\":\"{0}\",\"mac\":\"{0}\"}}", Hash::of(text.as_bytes()));
            let _ = Signed::from_bytes(1, format!("{text}\n{proof}\n").as_bytes());
            let _ = text.parse::<Hash>();
        }
    }
}
