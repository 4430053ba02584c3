//! The retriever process.

fn main() -> std::process::ExitCode {
    kit::run(retriever::NAME, retriever::service)
}
