//! The safety process.

fn main() -> std::process::ExitCode {
    kit::run(safety::NAME, safety::service)
}
