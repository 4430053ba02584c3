//! A neighbour of a newer version: its messages have fields and values that are unknown here.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body as AxumBody, Bytes};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kit::config::Balance;
use kit::{Context, Link};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage as _, Value};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tower::{Service as _, ServiceExt as _};

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Every message that is sent and received ends with fields nobody here knows: a number, and bytes.
    Fields,
    /// Every value of an enumeration that is received is one that nobody here knows.
    Values,
}

/// Number of a value that no enumeration has.
const VALUE: i32 = 99;
/// Fields 2046, bytes, and 2047, a number, of a message: see the encoding of Protocol Buffers.
const FIELDS: &[u8] = b"\xf2\x7f\x03new\xf8\x7f\x2a";
/// Flag and length before a message (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX: usize = 5;

impl News {
    fn of_request(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::Fields => each(body, |message| [message, FIELDS].concat()),
            Self::Values => body.to_vec(),
        }
    }

    fn of_response(self, path: &str, body: &[u8]) -> Vec<u8> {
        let Self::Values = self else { return self.of_request(body) };
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        let output = service.methods().find(|known| known.name() == method).unwrap().output();
        each(body, |message| {
            unknown(DynamicMessage::decode(output.clone(), message).unwrap()).encode_to_vec()
        })
    }
}

/// Changes each message of a body.
fn each(mut body: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut changed = Vec::new();
    while let Some((prefix, rest)) = body.split_at_checked(PREFIX) {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        let (message, rest) = rest.split_at(length);
        let message = change(message);
        changed.push(prefix[0]);
        changed.extend((message.len() as u32).to_be_bytes());
        changed.extend(message);
        body = rest;
    }
    changed
}

/// The message with unknown values in the place of all known ones.
fn unknown(mut message: DynamicMessage) -> DynamicMessage {
    let descriptor = message.descriptor();
    for field in descriptor.fields() {
        match field.kind() {
            Kind::Enum(_) if field.is_list() => {
                let n = message.get_field(&field).as_list().map_or(0, <[Value]>::len);
                message.set_field(&field, Value::List(vec![Value::EnumNumber(VALUE); n]));
            }
            Kind::Enum(_) => message.set_field(&field, Value::EnumNumber(VALUE)),
            Kind::Message(_) if message.has_field(&field) && !field.is_map() => {
                let inner = |value: &Value| match value {
                    Value::Message(inner) => Value::Message(unknown(inner.clone())),
                    other => other.clone(),
                };
                let value = match message.get_field(&field).as_ref() {
                    Value::List(values) => Value::List(values.iter().map(inner).collect()),
                    value => inner(value),
                };
                message.set_field(&field, value);
            }
            _ => {}
        }
    }
    message
}

/// A link that leads to a stage through somebody who adds the news; what is watched without end passes as it is.
pub(crate) fn newer(link: Link, news: News, context: &Context) -> Link {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
    let between = tower::service_fn(move |request: Request<AxumBody>| {
        let link = link.clone();
        async move { Ok::<_, Infallible>(pass(link, news, request).await) }
    });
    let routes = tonic::service::Routes::from(Router::new().fallback_service(between));
    let shutdown = context.shutdown.clone().cancelled_owned();
    let serving = tonic::transport::Server::builder().add_routes(routes);
    let serving = serving.serve_with_incoming_shutdown(incoming, shutdown);
    context.tasks.spawn(async move { serving.await.unwrap() });
    Link::remote(&url, Balance::Single, context).unwrap()
}

async fn pass(mut link: Link, news: News, request: Request<AxumBody>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (path, body) = (head.uri.path().to_owned(), body.collect().await.unwrap().to_bytes());
    let body = Body::new(Full::new(Bytes::from(news.of_request(&body))));
    let response = match link.ready().await.unwrap().call(Request::from_parts(head, body)).await {
        Ok(response) => response,
        Err(status) => return status.into_http(),
    };
    let (head, body) = response.into_parts();
    if path.contains("/Watch") {
        return Response::from_parts(head, body);
    }
    let body = match body.collect().await {
        Ok(body) => body,
        Err(status) => return status.into_http(),
    };
    let trailers = body.trailers().cloned();
    let body = Full::new(Bytes::from(news.of_response(&path, &body.to_bytes())));
    let body = body.with_trailers(async move { trailers.map(Ok) });
    Response::from_parts(head, Body::new(body))
}
