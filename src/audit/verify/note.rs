//! Signed notes and checkpoints (C2SP signed-note and tlog-checkpoint), as the verifier reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::finding::{Attack, Finding};
use super::hash::{Sum, plain};
use crate::crypto::rustcrypto::RustCrypto;
use crate::crypto::{Provider as _, Signature};
use crate::error::{Error, Result};
use crate::limits;

/// The names of signature types that are understood; each follows the byte 0xff.
const TYPES: [(&[u8], Signature); 2] = [
    (b"\xffstrongroom/slh-dsa-sha2-128s", Signature::SlhDsaSha2_128s),
    (b"\xffstrongroom/ml-dsa-87", Signature::MlDsa87),
];

/// The public key of a log: `name+key id+base64`, as `strongroom audit key` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    id: [u8; 4],
    algorithm: Signature,
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it is none, or one of a type that is not known.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("this is no key of a log: {why}"))
                .with_remedy("it is one line, `name+8 hexadecimal digits+base64`, as `strongroom audit key` prints it")
        };
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it does not have three parts"));
        };
        if !is_name(name) {
            return Err(bad("its name is not one"));
        }
        let typed = STANDARD.decode(typed).map_err(|_| bad("it is not base64"))?;
        let known = TYPES.iter().find_map(|(head, algorithm)| Some((typed.strip_prefix(*head)?, *algorithm)));
        let (key, algorithm) = known.ok_or_else(|| bad("its type is not known"))?;
        if key.len() != algorithm.public_key_len() {
            return Err(bad("it has the wrong length"));
        }
        let [a, b, c, d, ..] = plain(&[name.as_bytes(), b"\n", &typed].concat());
        let right: String = [a, b, c, d].iter().map(|byte| format!("{byte:02x}")).collect();
        if id != right {
            return Err(bad("its id is not that of the key"));
        }
        Ok(Self { name: name.to_owned(), id: [a, b, c, d], algorithm, key: key.to_vec() })
    }

    /// Its name: the origin of the log.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A checkpoint whose signature was verified: only [`Signed::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    origin: String,
    size: u64,
    root: Sum,
    witnesses: Vec<String>,
}

impl Signed {
    /// Verifies that the holder of `key` signed the checkpoint in `note`. Signatures by keys that are not known are
    /// ignored.
    ///
    /// # Errors
    ///
    /// A [`Finding`]: [`WrongKey`](Attack::WrongKey) or [`Malformed`](Attack::Malformed).
    pub fn verify(note: &str, key: &PublicKey) -> Result<Self, Finding> {
        let malformed = |why: &str| Finding::new(Attack::Malformed, format!("the checkpoint is none: {why}"));
        if note.len() > limits::AUDIT_NOTE_BYTES {
            return Err(malformed("it is too long"));
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(malformed("it has control characters"));
        }
        if !note.ends_with('\n') {
            return Err(malformed("its last line has no end"));
        }
        let blank = note.rfind("\n\n").ok_or_else(|| malformed("it has no signatures"))?;
        let (text, lines) = (note.get(..=blank).unwrap_or_default(), note.get(blank + 2..).unwrap_or_default());
        let (mut verified, mut others) = (false, Vec::new());
        for line in lines.split_terminator('\n') {
            let (name, id, signature) = signature(line).ok_or_else(|| malformed("a line of signature is none"))?;
            if name != key.name || id != key.id {
                others.push(name.to_owned());
                continue;
            }
            RustCrypto.verify(key.algorithm, &key.key, b"", text.as_bytes(), &signature).map_err(|_| {
                let what = format!("the signature of `{name}` under the checkpoint does not verify");
                Finding::new(Attack::WrongKey, format!("{what}: it was changed after it was signed, or forged"))
            })?;
            verified = true;
        }
        if !verified {
            let by = if others.is_empty() { "nobody".to_owned() } else { format!("`{}`", others.join("`, `")) };
            let what =
                format!("the checkpoint is not signed by the key of `{}`: there are signatures by {by}", key.name);
            return Err(Finding::new(Attack::WrongKey, what));
        }
        let mut fields = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(malformed("it does not have three lines"));
        };
        let number = size.parse::<u64>().ok().filter(|number| number.to_string() == size);
        let size = number.ok_or_else(|| malformed("its size is no number"))?;
        let root = STANDARD.decode(root).ok().and_then(|root| Sum::try_from(root).ok());
        let root = root.ok_or_else(|| malformed("its root is no hash"))?;
        if origin != key.name {
            let what = format!("the checkpoint is of the log `{origin}`, and the key of `{}`", key.name);
            return Err(Finding::new(Attack::WrongKey, what));
        }
        Ok(Self { origin: origin.to_owned(), size, root, witnesses: others })
    }

    /// How many entries it is of.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of their tree.
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Who else has signed, as the note says: not verified.
    pub fn witnesses(&self) -> &[String] {
        &self.witnesses
    }
}

fn signature(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let rest = line.strip_prefix('\u{2014}')?.strip_prefix(' ')?;
    let (name, encoded) = rest.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    is_name(name).then(|| (name, *id, signature.to_vec()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> PublicKey {
        let typed = [TYPES[0].0, &[7; 32]].concat();
        let id: String = plain(&[b"log\n", &typed[..]].concat())[..4].iter().map(|b| format!("{b:02x}")).collect();
        PublicKey::parse(&format!("log+{id}+{}", STANDARD.encode(&typed))).unwrap()
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let typed = STANDARD.encode([TYPES[0].0, &[7; 32]].concat());
        for bad in ["", "log", "log+00000000", &format!("log+00000000+{typed}"), "log+00000000+AQ==", "a b+0+AQ=="] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn hostile_notes_never_panic(text in "\\PC{0,200}", lines in proptest::collection::vec("\\PC{0,80}", 0..4)) {
            prop_assert!(Signed::verify(&text, &key()).is_err());
            let note = format!("{text}\n1\nx\n\n{}\n", lines.join("\n"));
            prop_assert!(Signed::verify(&note, &key()).is_err());
            prop_assert!(PublicKey::parse(&text).is_err());
        }
    }
}
