//! Every field of an envelope, changed in three ways: by somebody on the way, who has neither key nor signer; by somebody
//! with the sender's signer, who has not the key; and by the sender itself, who has both.

use coset::cbor::value::Value;
use strongroom::envelope::Refusal;
use strongroom::keys::Profile;

use super::agents::{Agent, dealing_with, payload};
use super::forge::{Fields, Forge, envelope, parts, with};
use super::world::{NOW_MS, World, other_of, patiently, tenant_of};

const PROFILE: Profile = Profile::Pure;
const OPENS: Option<Refusal> = None;

/// One change, and what it comes to: on the way, signed anew, made anew.
struct Change {
    key: u64,
    value: Value,
    on_the_way: Refusal,
    signed: Refusal,
    /// `None`: then it is what the sender may just as well send.
    made: Option<Refusal>,
}

fn change(key: u64, value: Value, on_the_way: Refusal, signed: Refusal, made: Option<Refusal>) -> Change {
    Change { key, value, on_the_way, signed, made }
}

/// A change that is noticed before the signature is looked at.
fn early(key: u64, value: Value, reason: Refusal) -> Change {
    change(key, value, reason, reason, Some(reason))
}

fn changes(foreign_session: [u8; 16], other_signer: [u8; 32], fields: &Fields) -> Vec<Change> {
    use Refusal::{Ciphertext, Open, Profile, Recipient, Replay, Sender, Session, Signature, Signer, Time};
    let flipped = |key: usize| {
        let mut bytes = fields[key].1.as_bytes().unwrap().clone();
        bytes[0] ^= 1;
        Value::Bytes(bytes)
    };
    vec![
        early(0, Value::from(2), Refusal::Malformed),
        change(1, Value::from(3), Signature, Open, OPENS),
        change(2, Value::from(other_of(PROFILE).as_str()), Signature, Sender, Some(Sender)),
        change(3, Value::from("mallory"), Signature, Sender, Some(Sender)),
        early(4, flipped(4), Signer),
        change(4, Value::Bytes(other_signer.to_vec()), Signature, Signature, Some(Signature)),
        early(5, Value::from(other_of(PROFILE).as_str()), Recipient),
        early(6, flipped(6), Session),
        change(6, Value::Bytes(foreign_session.to_vec()), Signature, Open, Some(Open)),
        early(7, Value::from(2), Refusal::Malformed),
        change(8, flipped(8), Signature, Ciphertext, Some(Ciphertext)),
        early(9, Value::from(-50), Profile),
        early(10, Value::from(2), Profile),
        change(11, Value::from(NOW_MS + 5_001), Signature, Time, Some(Time)),
        change(11, Value::from(NOW_MS - 240_001), Signature, Time, Some(Time)),
        change(12, Value::from(NOW_MS), Signature, Time, Some(Time)),
        change(12, Value::from(NOW_MS + 300_001), Signature, Time, Some(Time)),
        change(13, Value::from(0), Signature, Replay, Some(Replay)),
        change(13, Value::from(999), Signature, Open, OPENS),
        change(14, flipped(14), Signature, Open, OPENS),
        change(15, Value::Bytes(b"call-8".to_vec()), Signature, Open, OPENS),
        change(15, Value::Null, Signature, Open, OPENS),
        change(16, Value::Array(vec![Value::Bytes(b"other".to_vec())]), Signature, Open, OPENS),
        change(16, Value::Null, Signature, Open, OPENS),
    ]
}

/// Guards against a field that nothing binds, or that only one of the two does.
#[test]
fn no_field_can_be_changed() {
    let (world, tenant) = (World::new(), tenant_of(PROFILE));
    let receiver = Agent::with(&world, &tenant, "searcher", dealing_with(&other_of(PROFILE)));
    let (invitation, foreign) = (receiver.invite(), receiver.invite());
    let forge = Forge::new(&world, &tenant, "planner", &tenant, &invitation);
    let first = forge.make(&forge.fields(0), b"first");
    assert_eq!(payload(receiver.receive(&first)), b"first");
    // A second signer that the receiver believes.
    let other = Forge::new(&world, &tenant, "other", &tenant, &receiver.invite());
    assert_eq!(payload(receiver.receive(&other.make(&other.fields(0), b"x"))), b"x");

    let mut covered = std::collections::BTreeSet::new();
    let changes = changes(*foreign.session().as_bytes(), *other.signer.thumbprint(), &forge.fields(0));
    for (n, change) in changes.into_iter().enumerate() {
        let fields = forge.fields(1 + n as u64);
        let changed = with(&fields, change.key, &change.value);
        let what = format!("field {} changed to {:?}", change.key, change.value);
        let ciphertext = forge.seal(&fields, b"payload");
        let (_, _, signature) = parts(&forge.sign(&fields, &ciphertext));
        receiver.refuses(&envelope(&changed, &ciphertext, &signature), change.on_the_way, &what);
        receiver.refuses(&forge.sign(&changed, &ciphertext), change.signed, &format!("{what} and signed"));
        let made = forge.make(&changed, b"payload");
        match change.made {
            Some(reason) => receiver.refuses(&made, reason, &format!("{what} by its sender")),
            None => assert_eq!(payload(receiver.receive(&made)), b"payload", "{what}"),
        }
        // Nothing of it stands in the way of the envelope as it was, unless that is what was sent under its number.
        if change.made.is_some() || change.key == 13 {
            assert_eq!(payload(receiver.receive(&forge.sign(&fields, &ciphertext))), b"payload", "{what}");
        }
        covered.insert(change.key);
    }
    assert_eq!(covered.into_iter().collect::<Vec<_>>(), (0..=16).collect::<Vec<_>>());
}

#[test]
fn neither_ciphertext_nor_signature_can_be_changed() {
    let (world, tenant) = (World::new(), tenant_of(PROFILE));
    let receiver = Agent::new(&world, &tenant, "searcher");
    let forge = Forge::new(&world, &tenant, "planner", &tenant, &receiver.invite());
    let fields = forge.fields(0);
    let ciphertext = forge.seal(&fields, b"payload");
    let (_, _, signature) = parts(&forge.sign(&fields, &ciphertext));
    for at in [0, ciphertext.len() / 2, ciphertext.len() - 1] {
        let mut changed = ciphertext.clone();
        changed[at] ^= 1;
        receiver.refuses(&envelope(&fields, &changed, &signature), Refusal::Signature, "a changed ciphertext");
        receiver.refuses(&forge.sign(&fields, &changed), Refusal::Open, "a changed ciphertext, signed");
    }
    for short in [&ciphertext[..ciphertext.len() - 1], &ciphertext[..15], b""] {
        receiver.refuses(&forge.sign(&fields, short), Refusal::Open, "a short ciphertext, signed");
    }
    for at in [0, signature.len() / 2, signature.len() - 1] {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        receiver.refuses(&envelope(&fields, &ciphertext, &changed), Refusal::Signature, "a changed signature");
    }
    for wrong in [&signature[1..], b"", &[&signature[..], b"x"].concat()] {
        receiver.refuses(&envelope(&fields, &ciphertext, wrong), Refusal::Signature, "a signature of another length");
    }
    // The signer's signature over the same without the prefix is for something else.
    let (_, header_and_rest) = forge.sign(&fields, &ciphertext).split_first().map(|(a, b)| (*a, b.to_vec())).unwrap();
    let signed = &header_and_rest[..header_and_rest.len() - signature.len() - 3];
    let unprefixed = forge.signer.sign(signed).unwrap();
    receiver.refuses(
        &envelope(&fields, &ciphertext, &unprefixed),
        Refusal::Signature,
        "a signature for something else",
    );
    assert_eq!(payload(receiver.receive(&forge.sign(&fields, &ciphertext))), b"payload");
}

/// Guards against a session that goes to whoever says that it is somebody else.
#[test]
fn nobody_sends_in_anothers_name() {
    let (world, tenant, other) = (World::new(), tenant_of(PROFILE), other_of(PROFILE));
    let receiver = Agent::with(&world, &tenant, "searcher", dealing_with(&other));
    let forge = Forge::new(&world, &tenant, "mallory", &tenant, &receiver.invite());
    let right = forge.fields(0);
    for (key, name) in [(2, other.as_str()), (3, "planner")] {
        let wrong = with(&right, key, &Value::from(name));
        receiver.refuses(&forge.make(&wrong, b"x"), Refusal::Sender, name);
    }
    assert_eq!(payload(receiver.receive(&forge.make(&right, b"x"))), b"x");
}

/// Guards against a signer for tokens, which stores have for every tenant, that passes for an agent's.
#[test]
fn a_signer_for_tokens_signs_no_envelopes() {
    let (world, tenant) = (World::new(), tenant_of(PROFILE));
    let receiver = Agent::new(&world, &tenant, "searcher");
    let forge = Forge::new(&world, &tenant, "planner", &tenant, &receiver.invite()).with_token_signer(&world);
    receiver.refuses(&forge.make(&forge.fields(0), b"x"), Refusal::Signer, "a signer for tokens");
}

/// Guards against the key of another's envelope being enough, or the signer of another session.
#[test]
fn a_sender_cannot_send_in_anothers_session() {
    let (world, tenant) = (World::new(), tenant_of(PROFILE));
    let receiver = Agent::new(&world, &tenant, "searcher");
    let invitation = receiver.invite();
    let [planner, mallory] =
        ["planner", "mallory"].map(|agent| Forge::new(&world, &tenant, agent, &tenant, &invitation));
    assert_eq!(payload(receiver.receive(&planner.make(&planner.fields(0), b"first"))), b"first");
    receiver.refuses(&mallory.make(&mallory.fields(1), b"x"), Refusal::Sender, "another sender");
    // Were the sender not looked at, the ciphertext would still be another.
    let renewed = Forge::new(&world, &tenant, "planner", &tenant, &receiver.invite());
    let fields = with(&renewed.fields(1), 6, &planner.fields(1)[6].1);
    receiver.refuses(&renewed.make(&fields, b"x"), Refusal::Ciphertext, "another ciphertext of the same sender");
    // A signer renewed in the session is still the same sender.
    let same = with(&with(&planner.fields(1), 4, &renewed.fields(1)[4].1), 16, &renewed.fields(1)[16].1);
    let sealed = planner.seal(&same, b"renewed");
    assert_eq!(payload(receiver.receive(&renewed.sign(&same, &sealed))), b"renewed");
}

#[test]
fn tool_calls_arguments_and_results_cannot_be_exchanged() {
    use strongroom::envelope::Kind;
    let world = World::new();
    for profile in Profile::ALL {
        let tenant = tenant_of(profile);
        let (sender, receiver) = (Agent::new(&world, &tenant, "planner"), Agent::new(&world, &tenant, "tool"));
        let peer = sender.connect(&receiver);
        for kind in Kind::ALL {
            let sent = sender.send_as(&peer, kind, b"{\"path\":\"/\"}");
            let (fields, ciphertext, signature) = parts(&sent);
            for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
                let changed = with(&fields, 1, &Value::from(other.as_u8()));
                let changed = envelope(&changed, &ciphertext, &signature);
                receiver.refuses(&changed, Refusal::Signature, &format!("{kind} as {other}"));
            }
            assert_eq!(receiver.receive(&sent).unwrap().origin().kind(), kind);
        }
    }
}

/// Guards against a first envelope whose certificates are taken for granted.
#[test]
fn a_signer_that_nobody_certified_is_not_believed() {
    let (world, tenant) = (World::new(), tenant_of(PROFILE));
    let receiver = Agent::new(&world, &tenant, "searcher");
    let forge = Forge::new(&world, &tenant, "planner", &tenant, &receiver.invite());
    let fields = forge.fields(0);
    let chain: Vec<Vec<u8>> = forge.signer.chain().to_vec();
    let session = patiently(|| receiver.interceptor.invite()).unwrap();
    let as_value = |chain: &[Vec<u8>]| Value::Array(chain.iter().map(|der| Value::Bytes(der.clone())).collect());
    let wrong = [
        ("no chain", Value::Null),
        ("the tenant's certificate only", as_value(&chain[..1])),
        ("the signer's certificate only", as_value(&chain[1..])),
        ("the two in the wrong order", as_value(&[chain[1].clone(), chain[0].clone()])),
        ("the credential of a session", as_value(session.chain())),
        ("bytes", as_value(&[b"a".to_vec(), b"b".to_vec()])),
    ];
    for (what, chain) in wrong {
        receiver.refuses(&forge.make(&with(&fields, 16, &chain), b"x"), Refusal::Signer, what);
    }
    assert_eq!(payload(receiver.receive(&forge.make(&fields, b"x"))), b"x");
}
