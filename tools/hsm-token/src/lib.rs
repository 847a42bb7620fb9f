//! Nothing: this package is its dependencies and `openssl-verify`.
