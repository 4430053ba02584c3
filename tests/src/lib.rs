//! The end-to-end tests and their harness: the real stages over local links or loopback TCP, the real
//! binaries as processes, a receiver for workflows and one for traces.

pub mod attack;
pub mod behave;
mod cluster;
mod disk;
mod foreign;
mod helpdesk;
pub mod model;
mod names;
mod newer;
mod pki;
mod process;
mod receiver;
mod siege;
mod stage;
mod syncs;
mod world;

pub use cluster::Cluster;
pub use disk::small_disk;
pub use foreign::{Foreign, prometheus, python};
pub use helpdesk::{Helpdesk, MailServer};
pub use names::{Names, inside};
pub use newer::News;
pub use pki::{Authority, shown};
pub use process::{Finished, Processes, cold_start, command, cpu_us, firstline, memory_mib};
pub use receiver::{Collector, Received, Receiver, SECRET, serve};
pub use siege::{Fault, Siege, scope};
pub use stage::{Stage, scrape};
pub use syncs::{Syncs, bare_syncs_a_second, can_trace, count_syncs, send};
pub use world::{Transport, World, altered, demo, link, scratch};

/// Says that a test cannot run here, and why; past the capture of output, which only failing tests show.
pub fn not_run(test: &str, why: &str) {
    let line = format!("NOT RUN: {test}: {}\n", why.trim_end());
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}

/// Runs an async test body over both transports, each as a test of its own.
#[macro_export]
macro_rules! both {
    ($(async fn $name:ident($world:ident: &World) $body:block)*) => {
        $(mod $name {
            use super::*;
            async fn body($world: &World) $body
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn local() {
                let world = World::start(Transport::Local).await;
                body(&world).await;
                world.stop().await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn tcp() {
                let world = World::start(Transport::Tcp).await;
                body(&world).await;
                world.stop().await;
            }
        })*
    };
}
