//! The telemetry process.

fn main() -> std::process::ExitCode {
    kit::run(telemetry::NAME, telemetry::service)
}
