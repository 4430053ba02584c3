//! The orchestrator process.

fn main() -> std::process::ExitCode {
    kit::run(orchestrator::NAME, orchestrator::service)
}
