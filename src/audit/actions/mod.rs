//! What agents say that they did: each action a record of the agent's own, signed by it, and ordered by the audit log
//! like everything else.
//!
//! An agent has an [`Actions`]: it notes an action without waiting, signs on a thread of its own and hands over what is
//! signed. The store has an [`ActionLog`]: it believes a signature only by its chain, and what it has taken in stands in
//! the log. The bytes are drawn in `schema/audit-action.md`; the body of an action never leaves the agent, only its digest.

mod queue;
mod record;
mod refusal;
mod take;

use std::fmt;

use crate::entropy;
use crate::error::{Error, Result};
use crate::limits;

pub use queue::{ActionReport, Actions, ActionsOptions, Taker};
pub use record::{ACTION_VERSION, ActionRecord, SignedAction, action_message};
pub use refusal::Refusal;
pub use take::ActionLog;

/// The name of an action: 16 random bytes, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId([u8; 16]);

impl ActionId {
    /// A new one.
    pub fn random() -> Result<Self> {
        let mut id = [0; 16];
        entropy::fill(&mut id)?;
        Ok(Self(id))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for ActionId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for ActionId {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        bytes.try_into().map(Self).map_err(|_| Error::invalid("an action's id has 16 bytes"))
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Something that an agent did.
#[derive(Clone, PartialEq, Eq)]
pub struct Action {
    name: String,
    body: Body,
    parent: Option<ActionId>,
}

/// What there is to know of an action besides its name.
#[derive(Clone, PartialEq, Eq)]
enum Body {
    Bytes(Vec<u8>),
    Digest { sha256: [u8; 32], len: u64 },
}

impl Action {
    /// The action called `name` with `body`, whose digest is made when it is signed.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that is empty, too long or has control characters, and
    /// for a body over [`limits::ACTION_BODY_BYTES`].
    pub fn new(name: &str, body: impl Into<Vec<u8>>) -> Result<Self> {
        let body = body.into();
        if body.len() > limits::ACTION_BODY_BYTES {
            return Err(Error::invalid("the body of the action is too large").with_remedy(format!(
                "a body has at most {} MiB; give the digest of a longer one",
                limits::ACTION_BODY_BYTES >> 20
            )));
        }
        check_name(name)?;
        Ok(Self { name: name.to_owned(), body: Body::Bytes(body), parent: None })
    }

    /// The same with a body that stays elsewhere: its SHA-256 and its length in bytes.
    pub fn digested(name: &str, sha256: [u8; 32], len: u64) -> Result<Self> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), body: Body::Digest { sha256, len }, parent: None })
    }

    /// The same, following from another action.
    #[must_use]
    pub fn parent(mut self, parent: ActionId) -> Self {
        self.parent = Some(parent);
        self
    }

    fn digest(&self, provider: &dyn crate::crypto::Provider) -> ([u8; 32], u64) {
        match &self.body {
            Body::Bytes(bytes) => (provider.sha256(&[bytes]), bytes.len() as u64),
            Body::Digest { sha256, len } => (*sha256, *len),
        }
    }
}

impl Drop for Action {
    fn drop(&mut self) {
        if let Body::Bytes(bytes) = &mut self.body {
            zeroize::Zeroize::zeroize(bytes);
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("`{}` is not the name of an action", crate::id::shown(name)))
        .with_remedy(format!("use 1 to {} bytes without control characters", limits::ACTION_NAME_BYTES)))
}

fn is_name(name: &str) -> bool {
    (1..=limits::ACTION_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}
