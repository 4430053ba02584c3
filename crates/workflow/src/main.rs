//! The workflow process.

fn main() -> std::process::ExitCode {
    kit::run(workflow::NAME, workflow::service)
}
