//! The `strongroom` program.

/// Erases memory when it is freed: plaintext passes through strings and buffers of many libraries.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    strongroom::cli::main()
}
