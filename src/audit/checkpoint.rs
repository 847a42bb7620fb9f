//! Checkpoints: C2SP tlog-checkpoint in a C2SP signed note. `schema/audit.md` shows one.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::tree::Hash;
use crate::crypto::{Provider, Signature, SigningKey};
use crate::error::{Error, Result};
use crate::limits;

/// The byte of signature types that C2SP gives no number.
const UNREGISTERED: u8 = 0xff;
/// What stands before the name of the scheme.
const FAMILY: &str = "strongroom/";
const DASH: &str = "\u{2014} ";

/// What a checkpoint says: that this log, at this size, had this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
}

/// The key of a log, for those who verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    algorithm: Signature,
    public_key: Vec<u8>,
}

/// A line of signature: who signed, which key, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

/// A checkpoint with its signatures: the log's and those of witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    text: String,
    signatures: Vec<SignatureLine>,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }
}

impl LogKey {
    /// The key called `name`, usually the log's origin.
    pub fn new(name: &str, algorithm: Signature, public_key: &[u8]) -> Self {
        Self { name: name.to_owned(), algorithm, public_key: public_key.to_vec() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The scheme.
    pub fn algorithm(&self) -> Signature {
        self.algorithm
    }

    /// Type of signature and public key: what the text form of the key has in base64.
    fn typed(&self) -> Vec<u8> {
        [&[UNREGISTERED], FAMILY.as_bytes(), self.algorithm.as_str().as_bytes(), &self.public_key].concat()
    }

    fn id(&self, provider: &dyn Provider) -> [u8; 4] {
        let [a, b, c, d, ..] = provider.sha256(&[self.name.as_bytes(), b"\n", &self.typed()]);
        [a, b, c, d]
    }

    /// The text form: `name+key id+base64`.
    pub fn text(&self, provider: &dyn Provider) -> String {
        let id = u32::from_be_bytes(self.id(provider));
        format!("{}+{id:08x}+{}", self.name, BASE64_STANDARD.encode(self.typed()))
    }

    /// Reads the text form, for a log to know its own key again.
    pub fn parse(text: &str, provider: &dyn Provider) -> Result<Self> {
        let bad = || Error::integrity("the key of the audit log");
        let mut parts = text.trim_end().splitn(3, '+');
        let (Some(name), Some(_), Some(typed)) = (parts.next(), parts.next(), parts.next()) else { return Err(bad()) };
        let typed = BASE64_STANDARD.decode(typed).map_err(|_| bad())?;
        let key = [Signature::SlhDsaSha2_128s, Signature::MlDsa87].into_iter().find_map(|algorithm| {
            let head = [&[UNREGISTERED], FAMILY.as_bytes(), algorithm.as_str().as_bytes()].concat();
            let public_key = typed.strip_prefix(&head[..])?;
            (public_key.len() == algorithm.public_key_len()).then(|| Self::new(name, algorithm, public_key))
        });
        let key = key.ok_or_else(bad)?;
        if key.text(provider) == text.trim_end() { Ok(key) } else { Err(bad()) }
    }
}

impl SignatureLine {
    /// Reads a line, with or without its end.
    pub fn parse(line: &str) -> Result<Self> {
        let bad = || {
            Error::invalid("this is no line of a signature")
                .with_remedy("it begins with an em dash, and has the name of a key and its signature in base64")
        };
        let (name, signature) = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or_else(bad)?;
        let bytes = BASE64_STANDARD.decode(signature.trim_end_matches('\n')).map_err(|_| bad())?;
        let (key_id, signature) = bytes.split_first_chunk().ok_or_else(bad)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id[..], &self.signature].concat();
        writeln!(f, "{DASH}{} {}", self.name, BASE64_STANDARD.encode(bytes))
    }
}

impl SignedCheckpoint {
    /// Signs `checkpoint`.
    pub fn sign(checkpoint: Checkpoint, key: &dyn SigningKey, provider: &dyn Provider) -> Result<Self> {
        let text = checkpoint.to_string();
        let signature = key.sign(b"", text.as_bytes())?;
        let public = LogKey::new(&checkpoint.origin, key.algorithm(), key.public_key());
        let line = SignatureLine { name: public.name.clone(), key_id: public.id(provider), signature };
        Ok(Self { checkpoint, text, signatures: vec![line] })
    }

    /// Reads what was written, and verifies the log's own signature under it.
    pub fn read(note: &str, key: &LogKey, provider: &dyn Provider) -> Result<Self> {
        let bad = || Error::integrity("a checkpoint of the audit log");
        let (body, lines) = note.rsplit_once("\n\n").ok_or_else(bad)?;
        let text = format!("{body}\n");
        let signatures: Vec<_> = lines.lines().map(SignatureLine::parse).collect::<Result<_>>().map_err(|_| bad())?;
        let mut fields = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(bad());
        };
        let root = BASE64_STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or_else(bad)?;
        let size = size.parse().map_err(|_| bad())?;
        let checkpoint = Checkpoint { origin: origin.to_owned(), size, root };
        let id = key.id(provider);
        let own = signatures.iter().find(|line| line.name == key.name && line.key_id == id).ok_or_else(bad)?;
        provider.verify(key.algorithm, &key.public_key, b"", text.as_bytes(), &own.signature).map_err(|_| bad())?;
        Ok(Self { checkpoint, text, signatures })
    }

    /// Adds the signatures of others that are not there yet, as many as there may be.
    pub fn add(&mut self, lines: impl IntoIterator<Item = SignatureLine>) {
        for line in lines {
            if !self.signatures.contains(&line) && self.signatures.len() < limits::AUDIT_SIGNATURES {
                self.signatures.push(line);
            }
        }
    }

    /// What is signed: the note without its signatures.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, the log's own first.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| write!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_provider;
    use crate::secret::SecretBytes;

    fn key(algorithm: Signature) -> Box<dyn SigningKey> {
        default_provider().signing_key(algorithm, &SecretBytes::new(vec![7; algorithm.seed_len()])).unwrap()
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed() {
        let provider = default_provider();
        for algorithm in [Signature::SlhDsaSha2_128s, Signature::MlDsa87] {
            let key = key(algorithm);
            let checkpoint = Checkpoint { origin: "strongroom/x".into(), size: 17, root: [9; 32] };
            let public = LogKey::new("strongroom/x", algorithm, key.public_key());
            assert_eq!(LogKey::parse(&public.text(provider), provider).unwrap(), public);
            let mut signed = SignedCheckpoint::sign(checkpoint.clone(), &*key, provider).unwrap();
            let witness: SignatureLine = SignatureLine::parse("\u{2014} w.example/1 AAAAAQID\n").unwrap();
            signed.add([witness.clone(), witness]);
            let note = signed.to_string();
            assert!(note.starts_with("strongroom/x\n17\n") && note.ends_with("\u{2014} w.example/1 AAAAAQID\n"));
            let read = SignedCheckpoint::read(&note, &public, provider).unwrap();
            assert_eq!((&read, read.signatures().len()), (&signed, 2));
            for bad in [note.replacen("17", "18", 1), note.replace("strongroom/x ", "strongroom/y "), String::new()] {
                assert!(SignedCheckpoint::read(&bad, &public, provider).is_err());
            }
        }
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for bad in
            ["", "x", "\u{2014} a", "\u{2014} a AA==", "\u{2014} a+b AAAAAQID", "- a AAAAAQID", "\u{2014}  AAAAAQID"]
        {
            assert!(SignatureLine::parse(bad).is_err(), "{bad}");
        }
    }
}
