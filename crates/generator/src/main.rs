//! The generator process.

fn main() -> std::process::ExitCode {
    kit::run(generator::NAME, generator::service)
}
