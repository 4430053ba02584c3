//! A link to every address behind a name: found by DNS again and again, the least busy of two that are connected asked.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Sleep;
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
/// From a failed connection until the next try.
const PAUSE: Duration = Duration::from_millis(100);
const AGENT: &str = concat!("firstline/", env!("CARGO_PKG_VERSION"));
pub(crate) const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
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

    /// A connection to one address of the host, driven by a task of its own until nobody holds it.
    async fn connected(self, address: SocketAddr) -> io::Result<SendRequest<Body>> {
        let stream = in_time(async { self.connect(TcpStream::connect(address).await?).await }).await?;
        let mut settings = http2::Builder::new(TokioExecutor::new());
        settings.timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE_EVERY);
        let handshake = settings.keep_alive_timeout(KEEPALIVE_TIMEOUT).handshake(stream);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        // What ends a connection is told to each call on it.
        #[expect(clippy::disallowed_methods, reason = "it ends with its handle, which the balancer holds")]
        tokio::spawn(connection.map(drop));
        Ok(sender)
    }

    /// The URI of a call as HTTP/2 sends it, with scheme and authority.
    fn at(&self, uri: &Uri) -> Uri {
        let own = self.endpoint.uri();
        let mut parts = uri.clone().into_parts();
        (parts.scheme, parts.authority) = (own.scheme().cloned(), own.authority().cloned());
        Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
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
}

fn cannot(address: &dyn Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
}

async fn in_time(connected: impl Future<Output = io::Result<Stream>>) -> io::Result<Stream> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within a second");
    tokio::time::timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| Err(late()))
}

/// One connection to an address: made at the first call, made again when it breaks, and ready only while it is there, so
/// that the balancer passes over who is gone or still comes.
struct Connection {
    way: Way,
    address: SocketAddr,
    made: Made,
    state: State,
}

/// How many connections to the addresses of a name there are.
#[derive(Clone, Default)]
struct Made(Arc<AtomicUsize>);

/// One of them, until it is dropped.
struct Counted(Made);

enum State {
    Connecting(BoxFuture<'static, io::Result<SendRequest<Body>>>),
    Connected(SendRequest<Body>, #[expect(dead_code, reason = "counts while it is held")] Counted),
    /// Until it is tried again.
    Failed(Arc<io::Error>, Pin<Box<Sleep>>),
}

impl State {
    fn connecting(way: &Way, address: SocketAddr) -> Self {
        Self::Connecting(way.clone().connected(address).boxed())
    }
}

impl Counted {
    fn new(made: &Made) -> Self {
        made.0.fetch_add(1, Ordering::Relaxed);
        Self(made.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn new(way: Way, address: SocketAddr, made: Made) -> Self {
        let state = State::connecting(&way, address);
        Self { way, address, made, state }
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    /// Where nobody behind the name is connected, a failed one is ready too: to call it fails at once, while a call without
    /// any waits.
    fn poll_ready(&mut self, context: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            self.state = match &mut self.state {
                State::Connecting(connected) => match ready!(connected.poll_unpin(context)) {
                    Ok(sender) => State::Connected(sender, Counted::new(&self.made)),
                    Err(error) => {
                        let error = Arc::new(cannot(&self.address, &error));
                        State::Failed(error, Box::pin(tokio::time::sleep(PAUSE)))
                    }
                },
                State::Connected(sender, _) => match ready!(sender.poll_ready(context)) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(_) => State::connecting(&self.way, self.address),
                },
                State::Failed(_, pause) => match pause.as_mut().poll(context) {
                    Poll::Ready(()) => State::connecting(&self.way, self.address),
                    Poll::Pending if self.made.0.load(Ordering::Relaxed) == 0 => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                },
            };
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let sender = match &mut self.state {
            State::Connected(sender, _) => sender,
            State::Failed(error, _) => {
                let error = io::Error::new(error.kind(), Arc::clone(error));
                return Box::pin(std::future::ready(Err(error.into())));
            }
            State::Connecting(_) => {
                return Box::pin(std::future::ready(Err("called before it was ready".into())));
            }
        };
        *request.uri_mut() = self.way.at(request.uri());
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        let response = sender.send_request(request);
        Box::pin(async move { Ok(response.await?.map(Body::new)) })
    }
}

/// Follows a DNS name: a new address is added to the balancer, a gone one removed.
struct Resolver {
    way: Way,
    changes: mpsc::Sender<Change<SocketAddr, Connection>>,
}

impl Resolver {
    async fn run(self) {
        let mut ticks = tokio::time::interval(RESOLVE_EVERY);
        let (mut known, made) = (HashSet::new(), Made::default());
        loop {
            ticks.tick().await;
            self.look_up(&mut known, &made).await;
        }
    }

    async fn look_up(&self, known: &mut HashSet<SocketAddr>, made: &Made) {
        let Way { host, port, .. } = &self.way;
        let found: HashSet<SocketAddr> = match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(found) => found.collect(),
            // The last known addresses stay: a resolver outage is no reason to drop working connections.
            Err(error) => return tracing::warn!(host, %error, "cannot resolve"),
        };
        for address in found.difference(known) {
            let connection = Connection::new(self.way.clone(), *address, made.clone());
            self.change(Change::Insert(*address, connection)).await;
        }
        for address in known.difference(&found) {
            self.change(Change::Remove(*address)).await;
        }
        *known = found;
    }

    async fn change(&self, change: Change<SocketAddr, Connection>) {
        // The balancer ends with its link.
        let _ = self.changes.send(change).await;
    }
}
