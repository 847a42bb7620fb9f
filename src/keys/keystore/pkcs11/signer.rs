//! Signing in the token.

use std::sync::Arc;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::dsa::{HedgeType, SignAdditionalContext};
use cryptoki::object::ObjectClass;
use sha2::{Digest as _, Sha384};

use super::objects::find_key;
use super::session::Sessions;
use crate::crypto::{Signature, SigningKey, check_context};
use crate::error::{Error, Result};

/// A key pair whose private half is in the token.
pub struct TokenSigner {
    pub sessions: Arc<Sessions>,
    pub id: [u8; 16],
    pub algorithm: Signature,
    pub public_key: Vec<u8>,
}

impl TokenSigner {
    fn run(&self, mechanism: &Mechanism<'_>, message: &[u8]) -> Result<Vec<u8>> {
        self.sessions.run("signing", |lease| {
            let key = find_key(lease, ObjectClass::PRIVATE_KEY, self.id)?;
            Ok(lease.session()?.sign(mechanism, key, message)?)
        })
    }
}

impl SigningKey for TokenSigner {
    fn algorithm(&self) -> Signature {
        self.algorithm
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(self.algorithm, context)?;
        // Tokens differ over what an empty context is, but none is none.
        let context_params =
            || SignAdditionalContext::new(HedgeType::Preferred, Some(context).filter(|c| !c.is_empty()));
        let signature = match self.algorithm {
            Signature::MlDsa65 | Signature::MlDsa87 => self.run(&Mechanism::MlDsa(context_params()), message)?,
            Signature::SlhDsaSha2_128s | Signature::SlhDsaSha2_192s => {
                self.run(&Mechanism::SlhDsa(context_params()), message)?
            }
            Signature::EcdsaP384 => to_der(&self.run(&Mechanism::Ecdsa, &Sha384::digest(message))?)?,
            Signature::MlDsa65EcdsaP384 => return Err(Error::internal("a composite in a token")),
        };
        Ok(signature)
    }
}

/// `r ‖ s`, as tokens give it, as an Ecdsa-Sig-Value (RFC 3279, section 2.2.3).
fn to_der(signature: &[u8]) -> Result<Vec<u8>> {
    let signature = p384::ecdsa::Signature::from_slice(signature)
        .map_err(|e| Error::integrity("a signature by the token").with_source(e.to_string()))?;
    Ok(signature.to_der().as_bytes().to_vec())
}
