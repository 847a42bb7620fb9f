//! The vendor's library: loaded and initialised once in this process, whoever asks for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::slot::Slot;
use parking_lot::Mutex;

use super::TokenConfig;
use super::errors::{away, explain};
use crate::error::{Error, Result};

/// Initialising and finalising count for the whole process, so there is one context per library, and nobody finalises.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// The library at `path`, ready for use.
pub fn load(path: &Path) -> Result<Pkcs11> {
    let missing = |e: std::io::Error| {
        Error::invalid(format!("there is no PKCS#11 module `{}`", path.display()))
            .with_source(e)
            .with_remedy("name the library that came with the token")
    };
    let path = path.canonicalize().map_err(missing)?;
    let mut modules = MODULES.lock();
    if let Some(module) = modules.get(&path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(&path).map_err(|e| explain("loading", e))?;
    initialize(&module)?;
    modules.insert(path, module.clone());
    Ok(module)
}

/// Initialises the library, unless somebody has.
pub fn initialize(module: &Pkcs11) -> Result<()> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(e) => Err(explain("initialisation", e)),
    }
}

/// Where the token is now.
pub fn find_slot(module: &Pkcs11, config: &TokenConfig) -> Result<Slot> {
    let slots = module.get_slots_with_token().map_err(|e| explain("listing tokens", e))?;
    let mut found = slots.into_iter().filter(|slot| {
        // A slot that cannot be asked is one whose token has just gone.
        module.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == config.label)
    });
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(away(&config.label)),
        (Some(_), Some(_)) => Err(Error::invalid(format!("two tokens have the label `{}`", config.label))
            .with_remedy("give one of them another label")),
    }
}
