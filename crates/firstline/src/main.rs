//! The `firstline` command.

fn main() -> std::process::ExitCode {
    firstline::run()
}
