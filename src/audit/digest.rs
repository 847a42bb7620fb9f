//! One digest over the blinded ids of many records: what the log keeps of a long answer.

use crate::crypto::Provider;

/// What the database knows a record by: it says nothing of the record's name to who has no keys.
pub type Tag = [u8; 16];

/// The blinded ids of the records of one request, in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RecordDigest {
    tags: Vec<u8>,
    records: u64,
}

impl RecordDigest {
    /// Adds a record.
    pub fn push(&mut self, tag: &Tag) {
        self.tags.extend_from_slice(tag);
        self.records += 1;
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// SHA-256 over the ids one after the other, in hexadecimal.
    pub fn finish(&self, provider: &dyn Provider) -> String {
        hex(&provider.sha256(&[&self.tags]))
    }
}

impl<'a> Extend<&'a Tag> for RecordDigest {
    fn extend<I: IntoIterator<Item = &'a Tag>>(&mut self, tags: I) {
        tags.into_iter().for_each(|tag| self.push(tag));
    }
}

impl FromIterator<Tag> for RecordDigest {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut digest = Self::default();
        tags.into_iter().for_each(|tag| digest.push(&tag));
        digest
    }
}

/// `bytes` in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // Not by `write!`: events are written for every read.
    let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'a' + n - 10 });
    let mut hex = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| hex.extend([digit(byte >> 4), digit(byte & 15)]));
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_provider;

    /// Guards against a digest that two different answers share.
    #[test]
    fn order_and_number_count() {
        let finish = |tags: &[Tag]| tags.iter().copied().collect::<RecordDigest>().finish(default_provider());
        let [a, b] = [[1; 16], [2; 16]];
        assert_ne!(finish(&[a, b]), finish(&[b, a]));
        assert_ne!(finish(&[a]), finish(&[a, a]));
        assert_eq!(finish(&[]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
