//! The seam between stages: the same client code over a stage in this process or one on the network.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body::Frame;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

use crate::balance::{KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT, Way};
use crate::call::Call;
use crate::config::{Balance, Server};
use crate::serve::{Context, Stage};
use crate::tls::{self, Introduction};

type Transport = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// A way to a stage. A generated client takes it as its transport.
#[derive(Debug, Clone)]
pub struct Link {
    transport: Transport,
    is_local: bool,
    /// Sent with every call.
    token: Option<HeaderValue>,
}

/// The links of a process by stage name.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<BTreeMap<&'static str, Link>>);

impl Links {
    /// Links made from pairs of stage name and link.
    pub fn new(links: impl IntoIterator<Item = (&'static str, Link)>) -> Self {
        Self(Arc::new(links.into_iter().collect()))
    }

    /// Links over the network to the endpoints of the configuration.
    ///
    /// # Errors
    /// An endpoint that is no URL, and files of `server.tls` that cannot be used.
    pub fn remote(server: &Server, context: &Context) -> anyhow::Result<Self> {
        let secure = server.endpoints.iter().any(|(_, url)| url.starts_with("https://"));
        let tls = secure.then(|| tls::introduction(context)).transpose()?;
        let link = |(name, url): (_, &str)| {
            anyhow::ensure!(
                !server.tls.is_on() || url.starts_with("https://"),
                "server.endpoints.{name} is {url}, with server.tls it is https://"
            );
            let tls = tls.clone().filter(|_| url.starts_with("https://"));
            Ok((name, Link::over(url, server.balance, tls, context)?))
        };
        Ok(Self::new(server.endpoints.iter().map(link).collect::<anyhow::Result<Vec<_>>>()?))
    }

    /// All of them, by the names of their stages.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Link)> {
        self.0.iter().map(|(name, link)| (*name, link))
    }

    /// The link to a stage.
    ///
    /// # Errors
    /// The process has no such link.
    pub fn get(&self, stage: &str) -> anyhow::Result<Link> {
        self.0.get(stage).cloned().ok_or_else(|| anyhow::anyhow!("no link to stage {stage}"))
    }
}

impl Link {
    /// A link to a stage of this process: no socket, the same metadata, deadlines and statuses.
    pub fn local(stage: &Stage) -> Self {
        let service = stage.service().map_err(|never| match never {});
        Self { transport: BoxCloneSyncService::new(service), is_local: true, token: None }
    }

    /// A link over the network, connected when first used and again whenever it breaks.
    ///
    /// # Errors
    /// A URL that does not parse or has no host, and for `https://` files of `server.tls` that cannot be used.
    pub fn remote(url: &str, balance: Balance, context: &Context) -> anyhow::Result<Self> {
        let tls = url.starts_with("https://").then(|| tls::introduction(context)).transpose()?;
        Self::over(url, balance, tls, context)
    }

    fn over(
        url: &str,
        balance: Balance,
        tls: Option<Arc<Introduction>>,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let way = way(url, tls)?;
        let literal = way.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let token = context.server.token.as_ref().map(bearer).transpose()?;
        let is_nobody = url.starts_with("https://") && !context.server.tls.is_on() && token.is_none();
        let failed = move |error: BoxError| transport_status(error, is_nobody);
        let channel = if literal || balance == Balance::Single {
            let channel = way.single().map_err(move |error| failed(error.into()));
            BoxCloneSyncService::new(channel)
        } else {
            BoxCloneSyncService::new(way.balanced(context).map_err(failed))
        };
        Ok(Self { transport: channel, is_local: false, token })
    }

    /// Asks whoever is there whether it serves, for as long as `patience`; a stage of this process does. Behind a name one of
    /// several may be gone, so that it is asked once more where nobody was reached.
    ///
    /// # Errors
    /// What stood in the way; UNAVAILABLE where it answers that it does not serve.
    pub async fn health(&self, patience: Duration) -> Result<(), Status> {
        if self.is_local {
            return Ok(());
        }
        match self.asked(patience).await {
            Err(status) if status.code() == Code::Unavailable => self.asked(patience).await,
            answer => answer,
        }
    }

    async fn asked(&self, patience: Duration) -> Result<(), Status> {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.set_timeout(patience);
        // The link enforces the deadline of a call; this also ends the wait for a connection to make it on.
        let mut client = HealthClient::new(self.clone());
        let answer = tokio::time::timeout(patience, client.check(request));
        match answer.await.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner().status()
        {
            ServingStatus::Serving => Ok(()),
            other => Err(Status::unavailable(format!("is {}", other.as_str_name()))),
        }
    }
}

fn bearer(token: &SecretString) -> anyhow::Result<HeaderValue> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
    let mut value = value.context("server.token holds characters that no header may have")?;
    value.set_sensitive(true);
    Ok(value)
}

fn way(url: &str, tls: Option<Arc<Introduction>>) -> anyhow::Result<Way> {
    let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url} is no URL"))?;
    let uri = endpoint.uri();
    let port = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => anyhow::bail!("{url}: allowed http://HOST:PORT or https://HOST:PORT"),
    };
    let host =
        uri.host().filter(|host| !host.is_empty()).with_context(|| format!("{url} has no host"))?.to_owned();
    let port = uri.port_u16().unwrap_or(port);
    let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE_EVERY).keep_alive_timeout(KEEPALIVE_TIMEOUT);
    Ok(Way { endpoint, host, port, tls })
}

/// A failed connection is UNAVAILABLE, whatever it looks like from below. In TLS 1.3 a server that wants a certificate ends
/// the connection of who `is_nobody` after it was made.
fn transport_status(error: BoxError, is_nobody: bool) -> Status {
    let status = Status::from_error(error);
    match status.code() {
        Code::Unknown | Code::Internal | Code::Cancelled | Code::Unavailable if is_nobody => {
            Status::unavailable(format!(
                "{}; who asks for a certificate ends connections so: server.tls.cert and server.tls.key, or server.token",
                status.message()
            ))
        }
        Code::Unknown | Code::Internal | Code::Cancelled => Status::unavailable(status.message().to_owned()),
        _ => status,
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, context: &mut Poller<'_>) -> Poll<Result<(), Status>> {
        self.transport.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(deadline) = Call::current().inject(request.headers_mut()) else {
            return Box::pin(std::future::ready(Err(expired())));
        };
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let response = self.transport.call(request);
        match deadline {
            None => response,
            Some(deadline) => Box::pin(async move {
                match tokio::time::timeout_at(deadline, response).await {
                    Err(_) => Err(expired()),
                    Ok(Err(status)) => Err(at_deadline(status, deadline)),
                    Ok(Ok(response)) => match Status::from_header_map(response.headers()) {
                        Some(status) if status.code() == Code::Cancelled => {
                            Err(at_deadline(status, deadline))
                        }
                        _ => Ok(response.map(|body| {
                            let end = Box::pin(tokio::time::sleep_until(deadline));
                            Body::new(Timed { body, end })
                        })),
                    },
                }
            }),
        }
    }
}

/// tonic watches the same deadline on both sides and calls its end CANCELLED; whoever sees it first, it is one
/// and the same thing to the caller.
fn at_deadline(status: Status, deadline: Instant) -> Status {
    const SLACK: Duration = Duration::from_millis(5);
    let cut = matches!(status.code(), Code::Cancelled | Code::Unavailable);
    if cut && Instant::now() + SLACK >= deadline { expired() } else { status }
}

pub(crate) fn expired() -> Status {
    Status::deadline_exceeded("the deadline of the call has passed")
}

/// A response body that ends with DEADLINE_EXCEEDED: a stream must not outlive the call either.
struct Timed {
    body: Body,
    end: Pin<Box<Sleep>>,
}

impl http_body::Body for Timed {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let deadline = self.end.deadline();
            let failed = |error: Status| at_deadline(transport_status(error.into(), false), deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(failed)));
        }
        ready!(self.end.as_mut().poll(context));
        // Poll again at once after the error: the reader takes it as the end.
        self.end.as_mut().reset(Instant::now());
        Poll::Ready(Some(Err(expired())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
