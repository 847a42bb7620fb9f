//! Many tenants, some of them active at a time, under a budget for fewer: in a process that is dumped at the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use strongroom::keys::Profile;
use strongroom::{Chunk, CollectionSpec, Config, ErrorKind, Hit, Metric, SearchRequest, Store, Tenant, TenantId};

use crate::common::dump::dump;
use crate::common::{self, vector};
use crate::prey::{Found, Prey};

/// Where the child works. Nothing secret is in its environment.
const STORE_DIR: &str = "STRONGROOM_TEST_STORE";
/// Precedes what the child says, among what the test harness says.
const SAYS: &str = "child: ";
/// How many tenants there are, for who has less time.
const TENANTS: &str = "STRONGROOM_TEST_TENANTS";
const ACTIVE: usize = 50;
/// The chunk whose text is held when the memory is dumped, of a tenant of its own.
const HELD: u64 = 31;
const CHUNKS: u64 = 64;
const SIZE: usize = 64;

fn tenants() -> usize {
    std::env::var(TENANTS).map_or(1000, |n| n.parse().unwrap())
}

fn id(tenant: usize) -> TenantId {
    format!("tenant-{tenant}").parse().unwrap()
}

/// Not the beginning of another.
fn text(tenant: usize, chunk: u64) -> String {
    format!("what chunk {chunk} of tenant {tenant} says")
}

/// Of no other chunk.
fn seed(tenant: usize, chunk: u64) -> u64 {
    tenant as u64 * CHUNKS + chunk
}

#[test]
fn many_tenants_share_a_small_budget_and_evicted_vectors_are_gone() {
    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tenants::process", "--nocapture"])
        .env(STORE_DIR, root.path().join("store"))
        // One heap for all threads: each reserves 64 MiB, all of which would be dumped.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let said = says.find_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned()));
    let said = said.expect("the child ended");
    let resident: Vec<usize> = said.split_whitespace().map(|tenant| tenant.parse().unwrap()).collect();
    let memory = dump(child.id(), &root.path().join("dump"));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    says.for_each(drop);

    // Some of those that were active last have their index, those before them do not.
    assert!(!resident.is_empty() && resident.len() < ACTIVE, "{resident:?}");
    let (mut there, mut gone) = (Prey::default(), Prey::default());
    for tenant in tenants() - ACTIVE..tenants() {
        let prey = if resident.contains(&tenant) { &mut there } else { &mut gone };
        (0..CHUNKS).for_each(|chunk| prey.vector("a vector", &vector(seed(tenant, chunk), SIZE)));
        // Texts are read and searched, and never kept.
        (0..CHUNKS).for_each(|chunk| gone.text("a text", &text(tenant, chunk)));
    }
    // Of those long gone, some.
    for tenant in (0..tenants() - ACTIVE).step_by(37) {
        for chunk in (0..CHUNKS).step_by(9) {
            gone.vector("a vector", &vector(seed(tenant, chunk), SIZE));
            gone.text("a text", &text(tenant, chunk));
        }
    }
    // The hunt is real: what is searched is there, exact and as codes, and so is what somebody holds.
    there.text("a text", &text(tenants(), HELD));
    let found = there.hunter().hunt(&memory);
    let expected = resident.len() * CHUNKS as usize * 3;
    for form in ["a vector (raw f32)", "a vector (codes)"] {
        assert!(found.get(form).is_some_and(|times| *times >= expected), "{form} of {expected}: {found:?}");
    }
    assert!(found.contains_key("a text (raw)"), "{found:?}");
    assert_eq!(gone.hunter().hunt(&memory), Found::new(), "after they were erased");
}

/// Not a test of its own: the test above runs it.
#[test]
fn process() {
    let Some(dir) = std::env::var_os(STORE_DIR) else { return };
    // So that a debugger that is not our parent may look, where the kernel asks for that.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (store, last) = runtime.block_on(use_all(Path::new(&dir)));
    let held = runtime.block_on(hold(&store));
    let resident: Vec<String> = runtime.block_on(async {
        let mut resident = Vec::new();
        for (tenant, handle) in &last {
            if handle.collection("docs").unwrap().status().await.unwrap().resident_bytes > 0 {
                resident.push(tenant.to_string());
            }
        }
        resident
    });
    println!("{SAYS}{}", resident.join(" "));
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]).unwrap();
    drop((last, held));
    runtime.block_on(store.close()).unwrap();
}

/// What one tenant more has found, and keeps.
async fn hold(store: &Store) -> Vec<Hit> {
    fill(store.clone(), tenants()).await;
    let handle = store.tenant(&id(tenants())).await.unwrap();
    let hits = find(tenants(), &handle, HELD).await;
    drop(handle);
    close(store, tenants()).await;
    hits
}

/// Fills all tenants, then works with each window of them, twice round. The last window is still open.
async fn use_all(dir: &Path) -> (Store, Vec<(usize, Tenant)>) {
    let options = common::options(dir).config(Config { resident_mib: 1, ..common::config() });
    Store::init(&options, common::passphrase()).await.unwrap();
    let store = Store::open(options, common::passphrase()).await.unwrap();
    let windows = || (0..tenants()).collect::<Vec<_>>().chunks(ACTIVE).map(<[usize]>::to_vec).collect::<Vec<_>>();
    for window in windows() {
        let filling: Vec<_> = window.into_iter().map(|tenant| tokio::spawn(fill(store.clone(), tenant))).collect();
        for filled in filling {
            filled.await.unwrap();
        }
    }
    let mut last = Vec::new();
    for window in windows() {
        for (tenant, handle) in std::mem::take(&mut last) {
            drop::<Tenant>(handle);
            close(&store, tenant).await;
        }
        for tenant in window {
            last.push((tenant, store.tenant(&id(tenant)).await.unwrap()));
        }
        for _ in 0..2 {
            let searching: Vec<_> =
                last.iter().map(|(tenant, handle)| tokio::spawn(search(*tenant, handle.clone()))).collect();
            for searched in searching {
                searched.await.unwrap();
            }
        }
    }
    (store, last)
}

async fn fill(store: Store, tenant: usize) {
    // Of all profiles its certificates are signed the fastest, by far.
    store.onboard_tenant(&id(tenant), Profile::Cnsa2, None).await.unwrap();
    let handle = store.tenant(&id(tenant)).await.unwrap();
    let docs = handle.create_collection("docs", CollectionSpec::new(SIZE, Metric::Cosine)).await.unwrap();
    let chunks = (0..CHUNKS).map(|n| Chunk::new(n, text(tenant, n), vector(seed(tenant, n), SIZE)));
    docs.ingest(chunks.collect()).await.unwrap();
    drop((docs, handle));
    close(&store, tenant).await;
}

/// Closes a tenant of whom the store's own maintenance may have a hold for a moment.
async fn close(store: &Store, tenant: usize) {
    for _ in 0..1000 {
        match store.close_tenant(&id(tenant)).await {
            Err(e) if e.kind() == ErrorKind::Busy => tokio::time::sleep(Duration::from_millis(10)).await,
            closed => return closed.unwrap(),
        }
    }
    panic!("tenant {tenant} stays in use");
}

/// Each tenant finds its own.
async fn search(tenant: usize, handle: Tenant) {
    for n in [0, 31] {
        let hits = find(tenant, &handle, n).await;
        assert_eq!(hits[0].text, text(tenant, n));
    }
}

async fn find(tenant: usize, handle: &Tenant, n: u64) -> Vec<Hit> {
    let docs = handle.collection("docs").unwrap();
    // Near the chunk, and not the chunk itself: what is hunted is not in the question.
    let query: Vec<f32> = vector(seed(tenant, n), SIZE).iter().map(|x| x * 1.25 + 0.01).collect();
    docs.search(SearchRequest::new(query, 3)).await.unwrap()
}
