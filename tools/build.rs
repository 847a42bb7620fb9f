//! Generates the types of `schema/strongroom.proto`, without `protoc`.

use std::error::Error;

const SCHEMA: &str = "schema/strongroom.proto";
/// Messages with key bytes inside: nobody shall be able to print them.
const SECRET: [&str; 5] = ["SecretKey", "KeyResult", "KeysResponse", "Encapsulated", "EncapsulateResult"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SCHEMA}");
    println!("cargo::rerun-if-changed=tools/build.rs");
    let descriptors = protox::compile([SCHEMA], ["schema"])?;
    let secret = SECRET.map(|name| format!("strongroom.v1.{name}"));
    tonic_prost_build::configure().skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}
