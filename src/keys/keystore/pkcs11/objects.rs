//! Objects in the token: how they are found, made so that they cannot leave, looked over, and destroyed.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::errors::{Failure, no_key};
use super::lease::Lease;
use crate::crypto::{Provider, first_16};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::keystore::custody::KeyRole;

/// CKA_ID of the key for `role`: tells nothing about the tenant.
pub fn id_of(provider: &dyn Provider, role: &KeyRole) -> [u8; 16] {
    first_16(provider.sha256(&[&role.bytes()]))
}

/// CKA_LABEL of the key for `role`: what an operator may see in the token.
pub fn label_of(role: &KeyRole) -> Vec<u8> {
    format!("strongroom {}", role.purpose().as_str()).into_bytes()
}

/// What every private or secret key in the token has. Some tokens take a missing attribute for the weaker value.
pub fn locked_in(id: [u8; 16], label: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Copyable(false),
        Attribute::Modifiable(false),
        Attribute::Id(id.to_vec()),
        Attribute::Label(label.to_vec()),
    ]
}

/// Every object of `class` with this CKA_ID, whoever made it.
fn find(session: &Session, class: ObjectClass, id: [u8; 16]) -> Result<Vec<ObjectHandle>, Failure> {
    Ok(session.find_objects(&[Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.to_vec())])?)
}

/// Every key of `class` with this CKA_ID that only those who log in can have put there, and that cannot leave the token.
///
/// The ids are no secret, and many tokens let anybody who reaches them make objects that are not private.
pub fn find_guarded(session: &Session, class: ObjectClass, id: [u8; 16]) -> Result<Vec<ObjectHandle>, Failure> {
    Ok(session.find_objects(&[
        Attribute::Class(class),
        Attribute::Token(true),
        Attribute::Id(id.to_vec()),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
    ])?)
}

/// The one private or secret key of `class` with this CKA_ID.
pub fn find_key(lease: &Lease<'_>, class: ObjectClass, id: [u8; 16]) -> Result<ObjectHandle, Failure> {
    lease.handle(id, || {
        let found = find_guarded(lease.session()?, class, id)?;
        match found.as_slice() {
            [key] => Ok(*key),
            [] => Err(no_key().into()),
            _ => Err(Error::integrity("the token").into()),
        }
    })
}

/// Refuses a key that the token would let out, whatever it was asked for.
pub fn check_locked_in(session: &Session, key: ObjectHandle) -> Result<(), Failure> {
    let wanted = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::AlwaysSensitive(true),
        Attribute::Extractable(false),
        Attribute::NeverExtractable(true),
    ];
    let names: Vec<AttributeType> = wanted.iter().map(Attribute::attribute_type).collect();
    let found = session.get_attributes(key, &names)?;
    if wanted.iter().all(|attribute| found.contains(attribute)) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Denied, "the token made a key that can leave it")
        .with_remedy("use a token that keeps keys sensitive and non-extractable")
        .into())
}

/// The attribute `name` of `object`, where the token shows it.
pub fn value(session: &Session, object: ObjectHandle, name: AttributeType) -> Result<Vec<u8>, Failure> {
    match session.get_attributes(object, &[name])?.pop() {
        Some(Attribute::Value(bytes) | Attribute::EcPoint(bytes)) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Error::integrity("an object in the token").into()),
    }
}

/// Destroys every key with this CKA_ID, and looks whether they are gone.
pub fn destroy(lease: &Lease<'_>, id: [u8; 16]) -> Result<(), Failure> {
    let session = lease.session()?;
    let _removing = lease.removing(id);
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::SECRET_KEY, ObjectClass::PUBLIC_KEY] {
        for object in find(session, class, id)? {
            session.destroy_object(object)?;
        }
        if !find(session, class, id)?.is_empty() {
            return Err(Error::new(ErrorKind::Denied, "the token keeps a key that was to be destroyed")
                .with_remedy("destroy it with the token's own tools")
                .into());
        }
    }
    Ok(())
}

/// An object for one operation, destroyed when dropped.
pub struct Scratch<'a> {
    session: &'a Session,
    object: ObjectHandle,
}

impl<'a> Scratch<'a> {
    /// Takes over `object`.
    pub fn new(session: &'a Session, object: ObjectHandle) -> Self {
        Self { session, object }
    }

    /// The object.
    pub fn handle(&self) -> ObjectHandle {
        self.object
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // A session that has ended took its objects along.
        let _ = self.session.destroy_object(self.object);
    }
}
