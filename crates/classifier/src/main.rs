//! The classifier process.

fn main() -> std::process::ExitCode {
    kit::run(classifier::NAME, classifier::service)
}
