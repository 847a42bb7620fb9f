//! What is taken in, field by field.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use strongroom::audit::actions::{ActionId, ActionLog, ActionRecord, Refusal, SignedAction, action_message};
use strongroom::audit::{Event, Outcome, What};
use strongroom::crypto::default_provider;
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{Kms as _, Role};
use strongroom::keys::{Profile, Signer, Signers};
use strongroom::{ErrorKind, Result, SessionId, TenantId};

use crate::world::{NOW_MS, World, agent, other_of, tenant_of};

const PSEUDONYM: &str = "0123456789abcdef0123456789abcdef";

pub struct Scene {
    pub world: World,
    pub tenant: TenantId,
    pub signer: Arc<Signer>,
    pub log: ActionLog,
}

pub fn signers(world: &World, tenant: &TenantId, purpose: SignerUse) -> Signers {
    let kms = Arc::new(world.of(Role::Agent, tenant));
    Signers::new(kms, default_provider(), Arc::new(world.clock.clone()), agent(), purpose)
}

pub fn log(world: &World, tenant: &TenantId) -> ActionLog {
    let kms = Arc::new(world.of(Role::Store, tenant));
    ActionLog::new(kms, default_provider(), Arc::new(world.clock.clone()), world.audit.clone())
}

impl Scene {
    pub fn new(profile: Profile) -> Self {
        let (world, tenant) = (World::new(), tenant_of(profile));
        let signer = signers(&world, &tenant, SignerUse::Actions).of(&tenant).unwrap();
        let log = log(&world, &tenant);
        Self { world, tenant, signer, log }
    }

    fn record(&self) -> ActionRecord {
        ActionRecord {
            id: ActionId::random().unwrap(),
            tenant: self.tenant.clone(),
            agent: agent(),
            session: self.signer.session(),
            name: "tool.call".into(),
            body_sha256: default_provider().sha256(&[b"body"]),
            body_len: 4,
            parent: Some(ActionId::from([3; 16])),
            acted_at_ms: NOW_MS,
        }
    }

    fn sign(&self, record: &ActionRecord) -> SignedAction {
        let record = record.encode().unwrap();
        SignedAction { signature: self.signer.sign(&action_message(&record)).unwrap(), record }
    }

    fn append(&self, actions: &[SignedAction]) -> Vec<Result<()>> {
        self.log.append(&self.tenant, PSEUDONYM, self.signer.chain(), actions).unwrap()
    }

    /// What stands in the log of actions.
    fn events(&self) -> Vec<Event> {
        let is_action = |event: &Event| matches!(event.what, What::AgentAction { .. } | What::ActionRefused { .. });
        self.world.audit.events().into_iter().filter(is_action).collect()
    }

    /// Asserts that `action` is refused for `reason`, and that the log says so.
    fn refused(&self, action: SignedAction, reason: Refusal) {
        let error = self.append(&[action]).remove(0).err().unwrap_or_else(|| panic!("{reason}"));
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains(reason.as_str()), "{error}");
        let event = self.events().pop().unwrap();
        assert_eq!((event.what, event.outcome), (What::ActionRefused { reason }, Outcome::Refused));
    }
}

#[test]
fn what_an_agent_signed_is_proven_by_its_event_in_every_profile() {
    for profile in Profile::ALL {
        let scene = Scene::new(profile);
        let actions: Vec<_> = (0..3).map(|_| scene.sign(&scene.record())).collect();
        assert!(scene.append(&actions).iter().all(Result::is_ok));
        let events = scene.events();
        assert_eq!(events.len(), 3);
        for (event, signed) in events.iter().zip(&actions) {
            let record = ActionRecord::decode(&signed.record).unwrap();
            let What::AgentAction { action, parent, acted_at_ms, signer, digest, signature } = &event.what else {
                panic!("{event:?}")
            };
            assert_eq!((event.tenant.as_deref(), event.outcome), (Some(PSEUDONYM), Outcome::Done));
            assert_eq!((action, parent.as_ref()), (&record.id.to_string(), Some(&"03".repeat(16))));
            assert_eq!(*acted_at_ms, NOW_MS);
            let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            assert_eq!(
                (signer, digest),
                (&hex(scene.signer.thumbprint()), &hex(&default_provider().sha256(&[&signed.record])))
            );
            // Whoever has the record and the credential needs nothing else.
            let (algorithm, key) = (scene.signer.algorithm(), scene.signer.public_key());
            let signature = STANDARD.decode(signature).unwrap();
            let message = action_message(&signed.record);
            default_provider().verify(algorithm, key, b"", &message, &signature).unwrap();
            let json = serde_json::to_string(event).unwrap();
            assert!(json.len() < strongroom::limits::AUDIT_ENTRY_BYTES, "{}", json.len());
            for name in ["tool.call", scene.tenant.as_str(), agent().as_str()] {
                assert!(!json.contains(name), "{json}");
            }
        }
    }
}

/// One change a field, signed by the agent itself.
#[test]
fn what_an_agent_signs_of_others_is_refused() {
    let scene = Scene::new(Profile::Pure);
    let good = scene.record();
    type Change = fn(&mut ActionRecord);
    let changes: [(Change, Refusal); 5] = [
        (|record| record.tenant = other_of(Profile::Pure), Refusal::Tenant),
        (|record| record.agent = "another".parse().unwrap(), Refusal::Agent),
        (|record| record.session = SessionId::from([1; 16]), Refusal::Session),
        (|record| record.acted_at_ms = NOW_MS - 300_001, Refusal::Time),
        (|record| record.acted_at_ms = NOW_MS + 300_001, Refusal::Time),
    ];
    for (change, reason) in changes {
        let mut record = good.clone();
        change(&mut record);
        scene.refused(scene.sign(&record), reason);
    }
    let mut record = good.clone();
    record.acted_at_ms = NOW_MS - 300_000;
    scene.append(&[scene.sign(&record)]).remove(0).unwrap();
}

/// One change a field, after it was signed.
#[test]
fn what_was_changed_after_it_was_signed_is_refused() {
    let scene = Scene::new(Profile::Pure);
    let good = scene.record();
    let signature = scene.sign(&good).signature;
    type Change = fn(&mut ActionRecord);
    let changes: [Change; 6] = [
        |record| record.id = ActionId::from([1; 16]),
        |record| record.name = "tool.cal1".into(),
        |record| record.body_sha256[31] ^= 1,
        |record| record.body_len += 1,
        |record| record.parent = None,
        |record| record.acted_at_ms += 1,
    ];
    for change in changes {
        let mut record = good.clone();
        change(&mut record);
        let action = SignedAction { record: record.encode().unwrap(), signature: signature.clone() };
        scene.refused(action, Refusal::Signature);
    }
    for signature in [Vec::new(), vec![0; signature.len()], [&signature[..], &[0]].concat()] {
        scene.refused(SignedAction { record: good.encode().unwrap(), signature }, Refusal::Signature);
    }
    let plain = good.encode().unwrap();
    // Without the prefix, it is some other message of the signer's.
    scene.refused(SignedAction { signature: scene.signer.sign(&plain).unwrap(), record: plain }, Refusal::Signature);
}

#[test]
fn what_is_no_record_is_refused() {
    let scene = Scene::new(Profile::Pure);
    let good = scene.sign(&scene.record()).record;
    let mut version = good.clone();
    version[1] = 2;
    let mut longer = good.clone();
    longer[0] += 1;
    longer.push(0);
    let hostile = [Vec::new(), vec![0xff; 40], version, longer, [&good[..], &[0]].concat(), vec![0x81; 1 << 16]];
    for record in hostile {
        let signature = scene.signer.sign(&action_message(&record)).unwrap();
        scene.refused(SignedAction { record, signature }, Refusal::Malformed);
    }
    for name in ["", "a\nb", &"x".repeat(129)] {
        let mut record = scene.record();
        record.name = name.to_owned();
        scene.refused(scene.sign(&record), Refusal::Malformed);
    }
}

#[test]
fn signers_for_something_else_or_of_ended_sessions_are_refused() {
    let scene = Scene::new(Profile::Pure);
    let envelopes = signers(&scene.world, &scene.tenant, SignerUse::Envelopes).of(&scene.tenant).unwrap();
    let others = other_of(Profile::Pure);
    let stranger = signers(&scene.world, &others, SignerUse::Actions).of(&others).unwrap();
    for signer in [envelopes, stranger] {
        let answers = scene.log.append(&scene.tenant, PSEUDONYM, signer.chain(), &[scene.sign(&scene.record())]);
        assert_eq!(answers.unwrap().remove(0).err().unwrap().kind(), ErrorKind::Denied);
        assert_eq!(scene.events().pop().unwrap().what, What::ActionRefused { reason: Refusal::Signer });
    }
    scene.append(&[scene.sign(&scene.record())]).remove(0).unwrap();
    let agents = scene.world.of(Role::Agent, &scene.tenant);
    agents.revoke_session(&scene.tenant, scene.signer.session()).unwrap();
    scene.world.clock.set(NOW_MS + strongroom::limits::SIGNER_RECHECK_MS + 1);
    scene.refused(scene.sign(&scene.record()), Refusal::Signer);
}

#[test]
fn the_same_again_is_no_second_action_and_another_under_its_name_is_none() {
    let scene = Scene::new(Profile::Pure);
    let record = scene.record();
    let signed = scene.sign(&record);
    let twice = scene.append(&[signed.clone(), signed.clone()]);
    assert!(twice.iter().all(Result::is_ok));
    scene.append(&[signed]).remove(0).unwrap();
    // Signed anew, as after an answer that was lost.
    scene.append(&[scene.sign(&record)]).remove(0).unwrap();
    assert_eq!(scene.events().len(), 1);
    scene.refused(scene.sign(&ActionRecord { body_len: 5, ..record }), Refusal::Conflict);
    let many = vec![scene.sign(&scene.record()); strongroom::limits::ACTIONS + 1];
    let answer = scene.log.append(&scene.tenant, PSEUDONYM, scene.signer.chain(), &many);
    assert_eq!(answer.err().unwrap().kind(), ErrorKind::InvalidInput);
}
