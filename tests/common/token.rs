//! Real PKCS#11 tokens, made afresh for each test, in a process that no other test shares: the libraries read their
//! configuration from the environment, and are initialised and finalised for a whole process.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use strongroom::Passphrase;
use strongroom::keys::keystore::pkcs11::TokenConfig;

pub const PIN: &str = "a user's pin";
const SO_PIN: &str = "an officer's pin";
/// Where the child process finds its tokens.
const DIR_ENV: &str = "STRONGROOM_TEST_TOKENS";

/// Two Kryoptic tokens with everything.
pub const KRYOPTIC: &str = "kryoptic";
pub const KRYOPTIC_2: &str = "kryoptic 2";
/// Kryoptic tokens that lack something.
pub const NO_KEM: &str = "no ml-kem";
pub const NO_HKDF: &str = "no hkdf";
pub const ONLY_KEM: &str = "only ml-kem";
/// Two SoftHSM tokens.
pub const SOFTHSM: &str = "softhsm";
pub const SOFTHSM_2: &str = "softhsm 2";

/// Label and denied mechanisms of each Kryoptic slot.
const SLOTS: [(&str, &[&str]); 5] = [
    (KRYOPTIC, &[]),
    (KRYOPTIC_2, &[]),
    (NO_KEM, &["CKM_ML_KEM", "CKM_ML_KEM_KEY_PAIR_GEN"]),
    (NO_HKDF, &["CKM_HKDF_DERIVE"]),
    (ONLY_KEM, &["CKM_ML_DSA", "CKM_SLH_DSA", "CKM_ECDSA"]),
];

/// Runs `test` in a process of its own, where tokens are configured. `name` is the test's own name.
pub fn in_own_process(name: &str, test: impl FnOnce()) {
    if is_own_process() {
        return test();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("softhsm")).unwrap();
    let softhsm = format!("directories.tokendir = {}\nlog.level = ERROR\n", dir.path().join("softhsm").display());
    fs::write(dir.path().join("softhsm2.conf"), softhsm).unwrap();
    fs::write(dir.path().join("kryoptic.conf"), kryoptic_conf(dir.path())).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(DIR_ENV, dir.path())
        .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"))
        .env("KRYOPTIC_CONF", dir.path().join("kryoptic.conf"))
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "`{name}` is no test: {stdout}");
    print!("{stdout}");
}

/// Whether this is such a process.
pub fn is_own_process() -> bool {
    env::var_os(DIR_ENV).is_some()
}

fn kryoptic_conf(dir: &Path) -> String {
    let slot = |(n, (_, denied)): (usize, &(&str, &[&str]))| {
        let db = dir.join(format!("kryoptic-{n}.sql"));
        let denied: Vec<String> = denied.iter().map(|name| format!(", \"{name}\"")).collect();
        let mechanisms = match denied.is_empty() {
            true => String::new(),
            false => format!("mechanisms = [\"DENY\"{}]\n", denied.concat()),
        };
        format!("[[slots]]\nslot = {n}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n{mechanisms}\n", db.display())
    };
    SLOTS.iter().enumerate().map(slot).collect()
}

/// The module of the Kryoptic token.
pub fn kryoptic_module() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/hsm-token/release/libkryoptic_pkcs11.so");
    let module = env::var_os("STRONGROOM_TEST_PKCS11").map_or(built, PathBuf::from);
    assert!(module.exists(), "there is no PKCS#11 token at `{}`: run `tools/hsm-token/build`", module.display());
    module
}

/// The module of SoftHSM.
pub fn softhsm_module() -> PathBuf {
    let installed = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
    let candidates = env::var_os("STRONGROOM_TEST_SOFTHSM").map(PathBuf::from).into_iter();
    let found = candidates.chain(installed.map(PathBuf::from)).find(|path| path.exists());
    found.expect("SoftHSM is not installed: run `tools/setup --tests`, or set STRONGROOM_TEST_SOFTHSM")
}

pub fn pin() -> Passphrase {
    Passphrase::new(PIN.as_bytes().to_vec()).unwrap()
}

/// The library as any other program sees it.
pub fn context(module: &Path) -> Pkcs11 {
    let context = Pkcs11::new(module).unwrap();
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => context,
        Err(e) => panic!("{e}"),
    }
}

/// Initialises the Kryoptic token of this label.
pub fn kryoptic(label: &str) -> TokenConfig {
    let module = kryoptic_module();
    let context = context(&module);
    let n = SLOTS.iter().position(|(name, _)| *name == label).unwrap();
    let slot = context.get_all_slots().unwrap()[n];
    initialize(&context, slot, label);
    TokenConfig { module, label: label.to_owned() }
}

/// Makes a SoftHSM token of this label.
pub fn softhsm(label: &str) -> TokenConfig {
    let module = softhsm_module();
    let context = context(&module);
    // The last slot is always the one that is still free.
    let slot = *context.get_slots_with_token().unwrap().last().unwrap();
    initialize(&context, slot, label);
    TokenConfig { module, label: label.to_owned() }
}

fn initialize(context: &Pkcs11, slot: Slot, label: &str) {
    context.init_token(slot, &AuthPin::new(SO_PIN.into()), label).unwrap();
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&AuthPin::new(SO_PIN.into()))).unwrap();
    session.init_pin(&AuthPin::new(PIN.into())).unwrap();
    session.logout().unwrap();
}

/// Where the token is now.
pub fn slot(token: &TokenConfig) -> (Pkcs11, Slot) {
    let context = context(&token.module);
    let slots = context.get_slots_with_token().unwrap();
    let named = |slot: &Slot| context.get_token_info(*slot).unwrap().label().trim_end() == token.label;
    let slot = slots.into_iter().find(named).unwrap();
    (context, slot)
}

/// A session of somebody else who knows the PIN too.
pub fn session(token: &TokenConfig) -> Session {
    let (context, slot) = slot(token);
    let session = context.open_rw_session(slot).unwrap();
    match session.login(UserType::User, Some(&AuthPin::new(PIN.into()))) {
        Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
        Err(e) => panic!("{e}"),
    }
}

/// Restarts the library, as a token does that loses power: every session, login and handle is gone.
pub fn restart(token: &TokenConfig) {
    context(&token.module).finalize().unwrap();
}
