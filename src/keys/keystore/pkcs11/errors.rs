//! What a token's return codes mean to the caller. Vendors differ in which code they choose, so codes are grouped.

use cryptoki::context::Function;
use cryptoki::error::{Error as TokenError, RvError};

use crate::error::{Error, ErrorKind};

/// Why an operation on the token did not succeed.
pub enum Failure {
    /// The token said so.
    Token(TokenError),
    /// We said so.
    Ours(Error),
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Failure {
    /// The error for the caller; `doing` is what was tried, as in "signing".
    pub fn into_error(self, doing: &'static str) -> Error {
        match self {
            Failure::Token(error) => explain(doing, error),
            Failure::Ours(error) => error,
        }
    }

    fn code(&self) -> Option<RvError> {
        match self {
            Failure::Token(TokenError::Pkcs11(code, _)) => Some(*code),
            _ => None,
        }
    }

    /// Whether the session is of no use any more.
    pub fn ends_session(&self) -> bool {
        matches!(
            self.code(),
            Some(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::CryptokiNotInitialized
                    | RvError::DeviceRemoved
                    | RvError::TokenNotPresent
                    | RvError::OperationActive
                    | RvError::OperationNotInitialized
            )
        )
    }

    /// Whether an object that was found before is not there any more.
    pub fn ends_object(&self) -> bool {
        matches!(self.code(), Some(RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid))
    }

    /// Whether the token looked at a ciphertext and did not open it. Tokens have no common code for a wrong tag.
    pub fn is_refused_ciphertext(&self) -> bool {
        matches!(
            self,
            Failure::Token(TokenError::Pkcs11(
                RvError::EncryptedDataInvalid
                    | RvError::EncryptedDataLenRange
                    | RvError::DataInvalid
                    | RvError::DataLenRange
                    | RvError::DeviceError
                    | RvError::FunctionFailed
                    | RvError::GeneralError,
                Function::Decrypt
            ))
        )
    }
}

/// A token that is not there.
pub fn away(label: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the token `{label}` is away"))
        .with_remedy("check that it is connected and initialised under this label, and that its module is configured")
}

/// A key that is not in the token.
pub fn no_key() -> Error {
    Error::not_found("the token does not hold the key").with_remedy("check that this is the token the key was made in")
}

/// A composite key is two keys, which may be in two places.
pub fn composite() -> Error {
    Error::invalid("a composite is no key of its own").with_remedy("make its two halves")
}

/// The PIN was refused once: it is not tried again, since some wrong ones in a row lock the token.
pub fn pin_refused() -> Error {
    Error::new(ErrorKind::Denied, "the token refuses the PIN")
        .with_remedy("check the PIN and start again; several wrong ones in a row lock the token")
}

/// Whether trying the same PIN again could lock the token.
pub fn is_pin_refused(error: &TokenError) -> bool {
    use RvError as Rv;
    let TokenError::Pkcs11(code, _) = error else { return false };
    matches!(code, Rv::PinIncorrect | Rv::PinInvalid | Rv::PinLenRange | Rv::PinLocked | Rv::PinExpired)
}

/// A token that cannot do something we need.
pub fn cannot(what: &str) -> Error {
    Error::invalid(format!("the token has no {what}")).with_remedy("use another token, or `pkcs11-wrapped`")
}

/// The meaning of `error`, which happened while `doing`.
pub fn explain(doing: &'static str, error: TokenError) -> Error {
    let explained = match &error {
        TokenError::Pkcs11(code, _) => explain_code(doing, *code),
        TokenError::NullFunctionPointer | TokenError::NotSupported => cannot(&format!("function for {doing}")),
        TokenError::LibraryLoading(_) | TokenError::MissingSymbol(_) => {
            Error::new(ErrorKind::Unavailable, "the PKCS#11 module cannot be loaded")
                .with_remedy("check the path of the module and the packages that it needs")
        }
        _ => Error::internal(format!("{doing} in the token failed")),
    };
    explained.with_source(error)
}

fn explain_code(doing: &'static str, code: RvError) -> Error {
    use RvError as Rv;
    let failed = |kind| Error::new(kind, format!("{doing} in the token failed"));
    match code {
        Rv::PinIncorrect | Rv::PinInvalid | Rv::PinLenRange => pin_refused(),
        Rv::PinLocked | Rv::PinExpired | Rv::UserPinNotInitialized => {
            Error::new(ErrorKind::Denied, "the token's PIN is locked, expired or not set")
                .with_remedy("have the token's security officer set it again")
        }
        Rv::UserAnotherAlreadyLoggedIn | Rv::UserTooManyTypes => {
            Error::new(ErrorKind::Denied, "somebody else is logged in to the token")
                .with_remedy("end the security officer's session in this process")
        }
        Rv::TokenNotPresent | Rv::TokenNotRecognized | Rv::DeviceRemoved | Rv::SlotIdInvalid => {
            Error::new(ErrorKind::Unavailable, "the token is away")
                .with_remedy("connect it, or check the configuration of its module")
        }
        Rv::SessionHandleInvalid | Rv::SessionClosed | Rv::UserNotLoggedIn | Rv::CryptokiNotInitialized => {
            failed(ErrorKind::Unavailable).with_remedy("the token ended the session: try again")
        }
        Rv::SessionCount => Error::new(ErrorKind::Busy, "the token has no session left")
            .with_remedy("end other programs that use it, or raise its number of sessions"),
        Rv::DeviceMemory => Error::new(ErrorKind::StorageFull, "the token is full")
            .with_remedy("remove objects that are not needed, then try again"),
        Rv::TokenWriteProtected | Rv::SessionReadOnly => Error::new(ErrorKind::Denied, "the token is write-protected")
            .with_remedy("allow this user to make objects in it"),
        Rv::MechanismInvalid | Rv::MechanismParamInvalid | Rv::FunctionNotSupported | Rv::CurveNotSupported => {
            cannot(&format!("mechanism for {doing}"))
        }
        Rv::KeyHandleInvalid | Rv::ObjectHandleInvalid => no_key(),
        Rv::KeyFunctionNotPermitted | Rv::KeyUnextractable | Rv::ActionProhibited | Rv::AttributeSensitive => {
            Error::new(ErrorKind::Denied, format!("the token does not permit {doing}"))
                .with_remedy("check the token's policy for this user")
        }
        Rv::DeviceError | Rv::GeneralError | Rv::FunctionFailed | Rv::FunctionCanceled | Rv::HostMemory => {
            failed(ErrorKind::Unavailable).with_remedy("look at the token's own log, then try again")
        }
        _ => failed(ErrorKind::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: RvError) -> ErrorKind {
        explain("signing", TokenError::Pkcs11(code, Function::Sign)).kind()
    }

    #[test]
    fn each_meaning_has_its_kind_and_a_remedy() {
        assert_eq!(kind(RvError::PinIncorrect), ErrorKind::Denied);
        assert_eq!(kind(RvError::PinLocked), ErrorKind::Denied);
        assert_eq!(kind(RvError::TokenNotPresent), ErrorKind::Unavailable);
        assert_eq!(kind(RvError::DeviceRemoved), ErrorKind::Unavailable);
        assert_eq!(kind(RvError::MechanismInvalid), ErrorKind::InvalidInput);
        assert_eq!(kind(RvError::SessionCount), ErrorKind::Busy);
        assert_eq!(kind(RvError::DeviceMemory), ErrorKind::StorageFull);
        assert_eq!(kind(RvError::ObjectHandleInvalid), ErrorKind::NotFound);
        let explained = explain("signing", TokenError::Pkcs11(RvError::PinLocked, Function::Login));
        assert!(explained.remedy().is_some());
    }

    #[test]
    fn only_a_failed_decryption_counts_as_a_refused_ciphertext() {
        let failure = |function| Failure::Token(TokenError::Pkcs11(RvError::GeneralError, function));
        assert!(failure(Function::Decrypt).is_refused_ciphertext());
        assert!(!failure(Function::DecryptInit).is_refused_ciphertext());
    }
}
