//! A link to every address behind a name: found by DNS again and again, the least busy of two asked.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
use tower::{BoxError, Service};

use crate::serve::Context;
use crate::tls::Introduction;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESOLVE_EVERY: Duration = Duration::from_secs(3);
/// Calls that wait for a connection.
const WAITING: usize = 1024;
/// Addresses that come and go between two calls.
const CHANGES: usize = 64;

/// How the server of a link is spoken to: its HTTP/2 settings, its name, and TLS with how this process introduces
/// itself.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) endpoint: Endpoint,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<Introduction>>,
}

type Stream = TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

impl Way {
    async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        let Some(introduction) = &self.tls else { return Ok(TokioIo::new(Either::Left(stream))) };
        let name =
            ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(introduction.now());
        Ok(TokioIo::new(Either::Right(Box::new(connector.connect(name, stream).await?))))
    }

    /// One connection, to whichever address answers, made when it is needed and again when it breaks.
    pub(crate) fn single(self) -> Channel {
        let connector = tower::service_fn({
            let way = self.clone();
            move |_: Uri| {
                let way = way.clone();
                async move {
                    let address = (way.host.trim_matches(['[', ']']), way.port);
                    let connected = in_time(async { way.connect(TcpStream::connect(address).await?).await });
                    connected.await.map_err(|error| cannot(&format!("{}:{}", way.host, way.port), &error))
                }
            }
        });
        self.endpoint.connect_with_connector_lazy(connector)
    }

    /// One connection to each address of the host.
    pub(crate) fn balanced(
        self,
        context: &Context,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + use<> {
        let (changes, changed) = mpsc::channel(CHANGES);
        let resolver = Resolver { way: self, changes };
        context.tasks.spawn(context.shutdown.clone().run_until_cancelled_owned(resolver.run()));
        let found = ReceiverStream::new(changed).map(Ok::<_, BoxError>);
        let found = PendingRequestsDiscover::new::<Request<Body>>(found, CompleteOnResponse::default());
        Buffer::new(Balance::new(found), WAITING)
    }

    /// The connection to an address; who cannot be reached is told to `lost`.
    fn channel(&self, address: SocketAddr, lost: mpsc::Sender<SocketAddr>) -> Channel {
        let way = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (way, lost) = (way.clone(), lost.clone());
            async move {
                let connected = in_time(async { way.connect(TcpStream::connect(address).await?).await });
                let connected = connected.await.map_err(|error| cannot(&address, &error));
                if connected.is_err() {
                    // A full queue holds it already, or the next call tells it again.
                    let _ = lost.try_send(address);
                }
                connected
            }
        });
        self.endpoint.connect_with_connector_lazy(connector)
    }
}

fn cannot(address: &dyn Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
}

async fn in_time(connected: impl Future<Output = io::Result<Stream>>) -> io::Result<Stream> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within a second");
    tokio::time::timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| Err(late()))
}

/// Follows a DNS name: a new address is added to the balancer, a gone one removed. So is one that cannot be reached,
/// until the name is looked up the next time: who fails at once would look the least busy.
struct Resolver {
    way: Way,
    changes: mpsc::Sender<Change<SocketAddr, Channel>>,
}

impl Resolver {
    async fn run(self) {
        let (lost, mut losses) = mpsc::channel(CHANGES);
        let mut ticks = tokio::time::interval(RESOLVE_EVERY);
        let mut known = HashSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look_up(&mut known, &lost).await,
                // The only one stays: a call to it fails at once, while one without any address waits.
                Some(address) = losses.recv() => {
                    if known.len() > 1 && known.remove(&address) {
                        self.change(Change::Remove(address)).await;
                    }
                }
            }
        }
    }

    async fn look_up(&self, known: &mut HashSet<SocketAddr>, lost: &mpsc::Sender<SocketAddr>) {
        let Way { host, port, .. } = &self.way;
        let found: HashSet<SocketAddr> = match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(found) => found.collect(),
            // The last known addresses stay: a resolver outage is no reason to drop working connections.
            Err(error) => return tracing::warn!(host, %error, "cannot resolve"),
        };
        for address in found.difference(known) {
            self.change(Change::Insert(*address, self.way.channel(*address, lost.clone()))).await;
        }
        for address in known.difference(&found) {
            self.change(Change::Remove(*address)).await;
        }
        *known = found;
    }

    async fn change(&self, change: Change<SocketAddr, Channel>) {
        // The balancer ends with its link.
        let _ = self.changes.send(change).await;
    }
}
