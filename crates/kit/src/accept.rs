//! Connections as they come in: plain, or after their TLS handshake with who is at the other end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::tls::Greeting;

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at the same time.
const HANDSHAKES: usize = 256;
/// What a connection that came last has to begin: HTTP/2 drops one that has not, and its request with it.
const BEGINNING: Duration = Duration::from_millis(100);

/// Who is at the other end: the names of its certificate; without one nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer(pub(crate) Arc<[String]>);

/// A connection.
#[derive(Debug)]
pub(crate) struct Io {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
}

impl Connected for Io {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// The connections of a listener until it is closed. Who fails to shake hands is not among them.
pub(crate) fn connections(
    listener: TcpListener,
    greeting: Option<Arc<Greeting>>,
    close: CancellationToken,
) -> impl Stream<Item = io::Result<Io>> {
    let incoming = stream::unfold(Door::Open(listener, close), Door::next);
    let greeted = incoming.map(move |stream| {
        let greeting = greeting.clone();
        async move {
            let stream = stream?;
            let _best_effort = stream.set_nodelay(true);
            match greeting {
                None => Ok(Some(Io { stream: Either::Left(stream), peer: Peer::default() })),
                Some(greeting) => Ok(shake(stream, &greeting).await),
            }
        }
    });
    greeted.buffer_unordered(HANDSHAKES).filter_map(|greeted| std::future::ready(greeted.transpose()))
}

/// A listener. The system accepts for it, and resets what nobody has taken when it ends: so that who came in time is not
/// lost, those are taken before.
enum Door {
    Open(TcpListener, CancellationToken),
    Closing(std::net::TcpListener),
}

impl Door {
    async fn next(mut self) -> Option<(io::Result<TcpStream>, Self)> {
        loop {
            self = match self {
                Self::Open(listener, close) => match close.run_until_cancelled(listener.accept()).await {
                    Some(taken) => {
                        return Some((taken.map(|(stream, _)| stream), Self::Open(listener, close)));
                    }
                    None => Self::Closing(listener.into_std().ok()?),
                },
                Self::Closing(listener) => {
                    let Ok((stream, _)) = listener.accept() else {
                        drop(listener);
                        tokio::time::sleep(BEGINNING).await;
                        return None;
                    };
                    let taken = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    return Some((taken, Self::Closing(listener)));
                }
            }
        }
    }
}

async fn shake(stream: TcpStream, greeting: &Greeting) -> Option<Io> {
    let from = stream.peer_addr().ok();
    let acceptor = TlsAcceptor::from(greeting.now());
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(?from, %error, "no TLS connection");
            return None;
        }
        Err(_) => {
            tracing::warn!(?from, "no TLS connection: the handshake took too long");
            return None;
        }
    };
    let names = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|own| {
        // It is verified by now; one that cannot be read has no names.
        let names = webpki::EndEntityCert::try_from(own).map(|cert| {
            cert.valid_dns_names().chain(cert.valid_uri_names()).map(str::to_owned).collect::<Vec<_>>()
        });
        names.unwrap_or_default()
    });
    Some(Io { stream: Either::Right(Box::new(stream)), peer: Peer(names.unwrap_or_default().into()) })
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(poller, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(poller, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(poller)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(poller)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(poller, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
