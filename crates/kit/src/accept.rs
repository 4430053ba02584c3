//! Connections as they come in: plain, or after their TLS handshake with who is at the other end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::tls::Greeting;

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at the same time.
const HANDSHAKES: usize = 256;

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

/// The connections of a listener. Who fails to shake hands is not among them.
pub(crate) fn connections(
    listener: TcpListener,
    greeting: Option<Arc<Greeting>>,
) -> impl Stream<Item = io::Result<Io>> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let greeted = incoming.map(move |stream| {
        let greeting = greeting.clone();
        async move {
            let stream = stream?;
            match greeting {
                None => Ok(Some(Io { stream: Either::Left(stream), peer: Peer::default() })),
                Some(greeting) => Ok(shake(stream, &greeting).await),
            }
        }
    });
    greeted.buffer_unordered(HANDSHAKES).filter_map(|greeted| std::future::ready(greeted.transpose()))
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
