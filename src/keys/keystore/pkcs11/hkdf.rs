//! HKDF inside the token. The binding has no name for SHA-3 as HKDF's hash, so the parameters are laid out here.

use std::ffi::c_ulong;
use std::marker::PhantomData;
use std::ptr;

use cryptoki::error::Error as TokenError;
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use crate::crypto::Kdf;

const CKM_SHA384: c_ulong = 0x0260;
const CKM_SHA3_512: c_ulong = 0x02d0;
const CKF_HKDF_SALT_NULL: c_ulong = 1;
const CKF_HKDF_SALT_DATA: c_ulong = 2;

/// `CK_HKDF_PARAMS` (PKCS#11 3.0, section 2.60.2), which asks for extract and expand in one go.
///
/// Field by field the C structure. A token reads through the pointers while it derives: `'a` keeps their bytes alive.
#[repr(C)]
struct HkdfParams<'a> {
    extract: u8,
    expand: u8,
    hash: c_ulong,
    salt_type: c_ulong,
    salt: *const u8,
    salt_len: c_ulong,
    salt_key: c_ulong,
    info: *const u8,
    info_len: c_ulong,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> HkdfParams<'a> {
    fn new(kdf: Kdf, salt: &'a [u8], info: &'a [u8]) -> Result<Self, TokenError> {
        Ok(Self {
            extract: 1,
            expand: 1,
            hash: match kdf {
                Kdf::HkdfSha3_512 => CKM_SHA3_512,
                Kdf::HkdfSha384 => CKM_SHA384,
            },
            // No salt and an empty one are the same to HKDF, but not to every token.
            salt_type: if salt.is_empty() { CKF_HKDF_SALT_NULL } else { CKF_HKDF_SALT_DATA },
            salt: if salt.is_empty() { ptr::null() } else { salt.as_ptr() },
            salt_len: c_ulong::try_from(salt.len())?,
            salt_key: 0,
            info: info.as_ptr(),
            info_len: c_ulong::try_from(info.len())?,
            bytes: PhantomData,
        })
    }
}

/// Derives a session object of `template` from `base` by HKDF extract and expand (RFC 5869).
pub fn derive(
    session: &Session,
    base: ObjectHandle,
    kdf: Kdf,
    salt: &[u8],
    info: &[u8],
    template: &[Attribute],
) -> Result<ObjectHandle, TokenError> {
    let params = HkdfParams::new(kdf, salt, info)?;
    // The binding's general constructor takes any parameter structure, for standard mechanisms too.
    let mechanism = VendorDefinedMechanism::new(MechanismType::HKDF_DERIVE, Some(&params));
    session.derive_key(&Mechanism::VendorDefined(mechanism), base, template)
}
