//! When what a sidecar needs is away, busy or slow: no use is lost for nothing, and nothing is asked for twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use strongroom::audit::{InMemory, What};
use strongroom::crypto::default_provider;
use strongroom::keys::kms::{Caller, Handle, Role, Scope};
use strongroom::keys::{DataKeys, EpochKeys, Label, Profile, TenantRecord};
use strongroom::record::{Field, Packing, Place, StoreKind, pack};
use strongroom::sidecar::{RecordSource, RedeemRequest, Sidecar, SidecarOptions, SidecarParts};
use strongroom::token::{ChunkPlace, Form, HandoffRecord, Holder, Ledger, OpenedPlace, RecordKind, Refusal, of_chunk};
use strongroom::{Epoch, Error, ErrorKind, Result, TenantId, limits};

use crate::mem_kv::MemKv;
use crate::scene::{Scene, TEXT, meet, node};
use crate::world::NOW_MS;

/// A key service that may be away, and takes its time.
struct Keys {
    inner: Handle,
    away: AtomicBool,
    fetched: AtomicUsize,
}

impl DataKeys for Keys {
    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "away"));
        }
        self.fetched.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        self.inner.tenant(tenant)
    }

    fn epoch_keys(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochKeys>> {
        self.inner.epoch_keys(tenant, epoch)
    }
}

/// A scene whose sidecar has its keys from what is returned with it.
fn with_keys(profile: Profile) -> (Scene, Arc<Keys>) {
    let scene = Scene::new(profile);
    let inner = scene.world.anywhere(Role::Sidecar);
    let keys = Arc::new(Keys { inner: inner.clone(), away: AtomicBool::new(false), fetched: AtomicUsize::new(0) });
    let audit = Arc::new(InMemory::default());
    let parts = SidecarParts {
        kms: Arc::new(inner),
        keys: keys.clone(),
        provider: default_provider(),
        clock: Arc::new(scene.world.clock.clone()),
        audit: audit.clone(),
        ledger: Ledger::open(Arc::new(MemKv::default()), "boot", NOW_MS - 60_000).unwrap(),
        audience: scene.audience.clone(),
        source: None,
        options: SidecarOptions::default(),
    };
    let sidecar = Arc::new(Sidecar::new(parts).unwrap());
    let met = meet(&sidecar, &scene.holder);
    (Scene { sidecar, met, audit, ..scene }, keys)
}

#[test]
fn a_key_service_that_is_away_costs_no_use() {
    let (scene, keys) = with_keys(Profile::Pure);
    let records = scene.seal(1);
    let once = scene.mint(&records, 1);
    keys.away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(scene.redeem(&once, &records).err().unwrap().kind(), ErrorKind::Unavailable);
    }
    keys.away.store(false, Ordering::SeqCst);
    assert_eq!(scene.redeem(&once, &records).unwrap().len(), 1);
    assert_eq!(scene.redeem(&once, &records).err().unwrap().kind(), ErrorKind::Denied);
}

/// Guards against a key service that is overrun whenever what it said has become old.
#[test]
fn keys_are_fetched_once_however_many_wait_for_them() {
    let (scene, keys) = with_keys(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 1000);
    let all_at_once = || {
        let redeem = || assert!(scene.redeem(&token, &records).is_ok());
        std::thread::scope(|scope| (0..32).for_each(|_| drop(scope.spawn(redeem))));
    };
    all_at_once();
    assert_eq!(keys.fetched.load(Ordering::SeqCst), 1);
    scene.world.clock.set(NOW_MS + limits::KEYRING_AGE_MS);
    all_at_once();
    assert_eq!(keys.fetched.load(Ordering::SeqCst), 2);
}

/// A store that answers what it is told to.
struct Shelf(Mutex<Result<Vec<u8>>>);

impl Shelf {
    fn puts(&self, answer: Result<Vec<u8>>) {
        *self.0.lock() = answer;
    }
}

impl RecordSource for Shelf {
    fn fetch(&self, _: &TenantId, place: &OpenedPlace) -> Result<Vec<u8>> {
        assert_eq!((place.scope(), place.record(), place.version()), (&[1; 16], &[2; 16], 3));
        let answer = self.0.lock();
        answer.as_ref().cloned().map_err(|e| Error::new(e.kind(), e.to_string()))
    }
}

/// A chunk as a store seals it.
fn chunk(scene: &Scene) -> HandoffRecord {
    chunk_of(scene, str::from_utf8(TEXT).unwrap())
}

fn chunk_of(scene: &Scene, text: &str) -> HandoffRecord {
    let place = ChunkPlace { scope: [1; 16], record: [2; 16], version: 3, embedding: [4; 32] };
    let plain = postcard::to_stdvec(&(text, "{\"page\":7}")).unwrap();
    let key = scene.keyring.sealing(Label::VectorStore, Epoch::FIRST, &place.scope).unwrap();
    let belongs = Place {
        tenant: &scene.tenant,
        store: StoreKind::Vectors,
        scope: &place.scope,
        record: &place.record,
        version: place.version,
        field: Field::Payload,
        embedding: Some(&place.embedding),
    };
    let packed = pack(Packing::default(), &plain).unwrap();
    of_chunk(&scene.keyring, &place, key.seal(&belongs, packed.expose_secret()).unwrap()).unwrap()
}

fn by_name(scene: &Scene, token: &[u8], record: &HandoffRecord) -> RedeemRequest {
    let mut request = scene.request(token, std::slice::from_ref(record), Form::Clear);
    request.records[0].sealed = None;
    request
}

/// Guards against a request of a few bytes whose answer takes all memory.
#[test]
fn what_is_opened_for_one_request_is_bounded() {
    let shelf = Arc::new(Shelf(Mutex::new(Err(Error::not_found("gone")))));
    let scene = Scene::with(Profile::Pure, SidecarOptions::default(), Some(shelf.clone()));
    let record = chunk_of(&scene, &"x".repeat(limits::REDEEM_BYTES / 2));
    shelf.puts(Ok(record.sealed.clone()));
    let token = scene.mint(std::slice::from_ref(&record), 9);
    let times = |count| {
        let records = vec![record.clone(); count];
        let mut request = scene.request(&token, &records, Form::Clear);
        request.records.iter_mut().for_each(|wanted| wanted.sealed = None);
        scene.sidecar.redeem(&node(), true, &request)
    };
    assert_eq!(times(1).unwrap().len(), 1);
    assert_eq!(times(2).err().unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_record_that_is_named_is_fetched_and_must_be_the_one_the_token_names() {
    let shelf = Arc::new(Shelf(Mutex::new(Err(Error::not_found("gone")))));
    let scene = Scene::with(Profile::Pure, SidecarOptions::default(), Some(shelf.clone()));
    let record = chunk(&scene);
    let token = scene.mint(std::slice::from_ref(&record), 9);
    let refused = || {
        let error = scene.sidecar.redeem(&node(), true, &by_name(&scene, &token, &record)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(scene.audit.events().pop().unwrap().what, What::RedeemRefused { reason: Refusal::Record });
    };
    refused();
    shelf.puts(Ok(chunk(&scene).sealed));
    refused();
    shelf.puts(Ok(record.sealed.clone()));
    let opened = scene.sidecar.redeem(&node(), true, &by_name(&scene, &token, &record)).unwrap();
    assert_eq!(opened[0].kind, RecordKind::Chunk);
    assert_eq!(opened[0].content.expose_secret(), TEXT);
    assert_eq!(opened[0].metadata.as_ref().unwrap().expose_secret(), b"{\"page\":7}");
}

/// Guards against a caller who is told to come back later with a token whose use is gone.
#[test]
fn busy_is_only_said_while_the_use_is_not_counted() {
    let shelf = Arc::new(Shelf(Mutex::new(Err(Error::new(ErrorKind::Busy, "busy")))));
    let scene = Scene::with(Profile::Pure, SidecarOptions::default(), Some(shelf));
    let record = chunk(&scene);
    let once = scene.mint(std::slice::from_ref(&record), 1);
    let ask = || scene.sidecar.redeem(&node(), true, &by_name(&scene, &once, &record)).err().unwrap().kind();
    assert_eq!(ask(), ErrorKind::Unavailable);
    assert_eq!(ask(), ErrorKind::Denied);
}

/// Guards against one node that takes the contacts of all.
#[test]
fn a_service_that_makes_too_many_contacts_is_busy_alone() {
    let scene = Scene::new(Profile::Pure);
    let contact = |service: &str| {
        let holder = Holder::generate(default_provider(), Profile::Pure).unwrap();
        scene.sidecar.contact(&Caller::new(service, Role::Node, Scope::All), &holder.hello().unwrap())
    };
    (0..limits::CONTACTS_PER_SERVICE).for_each(|_| drop(contact("greedy").unwrap()));
    assert_eq!(contact("greedy").err().unwrap().kind(), ErrorKind::Busy);
    contact("modest").unwrap();
    scene.world.clock.set(NOW_MS + limits::CONTACT_LIFE_MS);
    contact("greedy").unwrap();
}
