//! The gRPC face of the stage.

use std::sync::Arc;

use bundle::{Audience, Document, Reader};
use encoder::Opened;
use kit::{Fault, Kind};
use proto::retriever_service_server::{RetrieverService, RetrieverServiceServer};
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::index::{Error, Passage};
use crate::search::Query;
use crate::store::Retriever;

/// Name of the stage.
pub const NAME: &str = "retriever";

const MAX_QUERY_BYTES: usize = 64 * 1024;
/// A longer question is searched on a thread of its own: 64 KiB take some 10 ms, an ordinary question 0.1 ms.
const MAX_INLINE_BYTES: usize = 2 * 1024;
const DEFAULT_K: u32 = 6;
const MAX_K: u32 = 100;
/// Largest message of a stream of documents; a document in it is at most 1 MiB.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Most bytes of one stream, since all of it waits in memory until the last document is known to be good.
const MAX_STREAM_BYTES: usize = 32 << 20;

/// Opens the live index of the bundle and serves it.
///
/// # Errors
/// The bundle does not validate, its index was not built, or it cannot be opened.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let reader = Reader::open(&context.server.bundle)?;
    let waits = !config.rerank.base_url.is_empty();
    let server = context.server.clone();
    // Clients that wait for a server of models are made where waiting is allowed.
    let open = move || {
        let opened = Opened::new(&server.encoder);
        let retriever = Retriever::open_live(&reader, opened.encoder().cloned(), &server.data_dir, &config)?;
        Ok::<_, Error>((opened, retriever))
    };
    let (opened, retriever) = tokio::task::spawn_blocking(open).await??;
    let state = retriever.state();
    tracing::info!(
        documents = state.documents,
        passages = state.passages,
        version = state.index_version,
        tier = opened.describe(),
        "index open"
    );
    let server = Server { retriever: Arc::new(retriever), waits, context };
    Ok(kit::Stage::new(NAME)
        .reporting(Opened::HEALTH, opened.encoder().is_some())
        .with(RetrieverServiceServer::new(server).max_decoding_message_size(MAX_MESSAGE_BYTES)))
}

struct Server {
    retriever: Arc<Retriever>,
    /// Whether a search waits for a reranker.
    waits: bool,
    context: kit::Context,
}

#[tonic::async_trait]
impl RetrieverService for Server {
    async fn retrieve(
        &self,
        request: Request<proto::RetrieveRequest>,
    ) -> Result<Response<proto::RetrieveResponse>, Status> {
        let request = request.into_inner();
        if request.query.trim().is_empty() {
            return Err(kit::fault::invalid(NAME, "EMPTY_QUERY", "query", "must not be empty"));
        }
        if request.query.len() > MAX_QUERY_BYTES {
            let what = format!("has {} bytes, allowed 1..={MAX_QUERY_BYTES}", request.query.len());
            return Err(kit::fault::invalid(NAME, "QUERY_TOO_LONG", "query", what));
        }
        if request.k > MAX_K {
            let what = format!("is {}, allowed 1..={MAX_K}, or 0 for {DEFAULT_K}", request.k);
            return Err(kit::fault::invalid(NAME, "K_OUT_OF_RANGE", "k", what));
        }
        let inline = request.query.len() <= MAX_INLINE_BYTES && !self.waits;
        let audience = match request.audience() {
            proto::Audience::Internal => Audience::Internal,
            proto::Audience::Public | proto::Audience::Unspecified => Audience::Public,
        };
        let k = if request.k == 0 { DEFAULT_K } else { request.k } as usize;
        let span =
            tracing::info_span!("retrieval", gen_ai.operation.name = "retrieval", gen_ai.request.top_k = k);
        let search = move |retriever: &Retriever| {
            let (text, category) = (request.query.as_str(), request.category.as_str());
            let vector = request.embedding.as_ref().map(|it| (it.encoder.as_str(), it.values.as_slice()));
            span.in_scope(|| retriever.search(&Query { text, vector, audience, category, k }))
        };
        let found =
            if inline { search(&self.retriever).map_err(refuse)? } else { self.block(search).await? };
        let passages = found.passages.into_iter().map(|(score, passage)| to_proto(score, passage)).collect();
        Ok(Response::new(proto::RetrieveResponse { passages, index_version: found.index_version }))
    }

    async fn put_documents(
        &self,
        request: Request<Streaming<proto::PutDocumentsRequest>>,
    ) -> Result<Response<proto::PutDocumentsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut documents = Vec::new();
        let mut bytes = 0;
        while let Some(message) = stream.message().await? {
            let document = message.document.unwrap_or_default();
            bytes += document.content.len() + document.title.len();
            if bytes > MAX_STREAM_BYTES {
                let what = format!("the stream is larger than {MAX_STREAM_BYTES} bytes, send it in parts");
                return Err(kit::fault::invalid(NAME, "STREAM_TOO_LARGE", "document", what));
            }
            documents.push(from_proto(document));
        }
        let changed = self.block(move |retriever| retriever.put(&documents)).await?;
        let documents = changed.documents as u32;
        Ok(Response::new(proto::PutDocumentsResponse { documents, index_version: changed.index_version }))
    }

    async fn delete_documents(
        &self,
        request: Request<proto::DeleteDocumentsRequest>,
    ) -> Result<Response<proto::DeleteDocumentsResponse>, Status> {
        let ids = request.into_inner().ids;
        if let Some(index) = ids.iter().position(String::is_empty) {
            return Err(kit::fault::invalid(
                NAME,
                "EMPTY_ID",
                "ids",
                format!("id {index}, counted from 0, is empty"),
            ));
        }
        let changed = self.block(move |retriever| retriever.delete(ids.iter().map(String::as_str))).await?;
        let documents = changed.documents as u32;
        Ok(Response::new(proto::DeleteDocumentsResponse { documents, index_version: changed.index_version }))
    }

    async fn get_index(
        &self,
        _request: Request<proto::GetIndexRequest>,
    ) -> Result<Response<proto::GetIndexResponse>, Status> {
        let state = self.retriever.state();
        Ok(Response::new(proto::GetIndexResponse {
            documents: state.documents,
            passages: state.passages,
            index_version: state.index_version,
        }))
    }
}

impl Server {
    /// Work that would hold up other calls. It goes on when its caller does not wait for it, and shutdown waits.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Retriever) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let retriever = self.retriever.clone();
        match self.context.tasks.spawn_blocking(move || work(&retriever)).await {
            Ok(outcome) => outcome.map_err(refuse),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

fn refuse(error: Error) -> Status {
    kit::fault::status(NAME, &error)
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Document { .. } => Kind::Invalid,
            Self::ReadOnly(_) | Self::Mismatch { .. } => Kind::Precondition,
            Self::Encoder(_) => Kind::Unavailable,
            Self::Bundle(_)
            | Self::Absent(_)
            | Self::Io { .. }
            | Self::Index(_)
            | Self::Reranker(_)
            | Self::Dataset { .. } => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Document { .. } => "DOCUMENT_OUT_OF_LIMITS",
            Self::ReadOnly(_) => "INDEX_READ_ONLY",
            Self::Mismatch { .. } => "ENCODER_MISMATCH",
            Self::Encoder(_) => "ENCODER_FAILED",
            Self::Bundle(_)
            | Self::Absent(_)
            | Self::Io { .. }
            | Self::Index(_)
            | Self::Reranker(_)
            | Self::Dataset { .. } => "INDEX_FAILED",
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Document { field, .. } => Some(field),
            Self::Mismatch { .. } => Some("embedding"),
            _ => None,
        }
    }
}

fn from_proto(document: proto::Document) -> Document {
    let audience = match document.audience() {
        proto::Audience::Public => Audience::Public,
        proto::Audience::Internal | proto::Audience::Unspecified => Audience::Internal,
    };
    let proto::Document { id, title, content, tags, .. } = document;
    Document { id, title, content, audience, tags }
}

fn to_proto(score: f32, passage: Passage) -> proto::Passage {
    let audience = match passage.audience {
        Audience::Public => proto::Audience::Public,
        Audience::Internal => proto::Audience::Internal,
    };
    proto::Passage {
        document_id: passage.document,
        document_version: passage.version,
        title: passage.title,
        heading: passage.heading,
        text: passage.text,
        start: passage.start,
        end: passage.end,
        score: f64::from(score),
        audience: audience as i32,
    }
}
