//! Generates the types of the services in `schema/`, without `protoc`.

use std::error::Error;

const SCHEMAS: [&str; 3] = ["schema/strongroom.proto", "schema/sidecar.proto", "schema/store.proto"];
/// Messages with key bytes or plaintext inside: nobody shall be able to print them.
const SECRET: [&str; 8] = [
    "v1.SecretKey",
    "v1.KeyResult",
    "v1.KeysResponse",
    "v1.Encapsulated",
    "v1.EncapsulateResult",
    "sidecar.v1.OpenedRecord",
    "store.v1.SealContextRequest",
    "store.v1.SearchSealedRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    for schema in SCHEMAS {
        println!("cargo::rerun-if-changed={schema}");
    }
    println!("cargo::rerun-if-changed=tools/build.rs");
    let descriptors = protox::compile(SCHEMAS, ["schema"])?;
    let secret = SECRET.map(|name| format!("strongroom.{name}"));
    tonic_prost_build::configure().skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}
