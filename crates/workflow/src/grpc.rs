//! Methods of gRPC that workflows call, as the descriptors of the bundle describe them.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};

use crate::catalogue::{Catalogue, Error, Workflow};
use crate::converse::Progress;
use crate::request::Request;
use crate::slot::{Kind, Slot};
use crate::template::{Values, answered};

/// The `method` of a request that is a call; its path is that of HTTP/2.
pub(crate) const CALL: &str = "GRPC";

/// A value that is a number as well as a text.
const SAMPLE: &str = "1";

/// The methods of each target. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Methods(Arc<BTreeMap<String, DescriptorPool>>);

impl Methods {
    /// Reads the descriptors of targets by their names.
    ///
    /// # Errors
    /// One is no set of file descriptors, or lacks a file that another imports; with its target.
    pub(crate) fn read(descriptors: BTreeMap<String, Vec<u8>>) -> anyhow::Result<Self> {
        let read = |(target, bytes): (String, Vec<u8>)| {
            let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| {
                let made = "allowed what `protoc --include_imports --descriptor_set_out` writes";
                anyhow::anyhow!("workflows/descriptors/{target}.binpb: {error}, {made}")
            })?;
            Ok((target, pool))
        };
        Ok(Self(Arc::new(descriptors.into_iter().map(read).collect::<anyhow::Result<_>>()?)))
    }

    /// Every method that a workflow calls exists, and takes the body with values such as its slots give.
    ///
    /// # Errors
    /// The first workflow that calls something else.
    pub(crate) fn check(&self, catalogue: &Catalogue) -> Result<(), Error> {
        catalogue.all().try_for_each(|workflow| {
            self.check_request(&workflow.request, workflow, Values::clone)?;
            let Some(undo) = &workflow.compensation else { return Ok(()) };
            self.check_request(&undo.request, workflow, |slots| {
                let response = workflow.response.values.keys();
                let response = response.map(|name| (name.clone(), SAMPLE.to_owned())).collect();
                answered(slots.clone(), &Progress { response, ..Progress::default() }, SAMPLE)
            })
        })
    }

    fn check_request(
        &self,
        request: &Request,
        workflow: &Workflow,
        values: impl Fn(&Values) -> Values,
    ) -> Result<(), Error> {
        let Some(path) = request.template.grpc.as_ref().map(|name| format!("/{name}")) else {
            return Ok(());
        };
        let target = &request.template.target;
        let method = self.method(target, &path).ok_or_else(|| {
            let set = format!("workflows/descriptors/{target}.binpb");
            request.wrong("grpc", format!("is {path:?}, allowed a method of a service in {set}"))
        })?;
        if method.is_client_streaming() || method.is_server_streaming() {
            return Err(request.wrong("grpc", "is a method with streams, allowed a unary one".to_owned()));
        }
        for slots in samples(&workflow.slots) {
            let body = request.body(&values(&slots))?;
            self.encode(target, &path, &body).map_err(|error| {
                let message = method.input().full_name().to_owned();
                request.wrong("body", format!("is no {message} with values such as {body}: {error}"))
            })?;
        }
        Ok(())
    }

    /// A message in protobuf's bytes from its JSON.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn encode(&self, target: &str, path: &str, body: &str) -> Result<Vec<u8>, String> {
        let method = self.method(target, path).ok_or("there is no such method")?;
        let mut json = serde_json::Deserializer::from_str(body);
        let message = DynamicMessage::deserialize(method.input(), &mut json);
        message.map(|message| message.encode_to_vec()).map_err(|error| error.to_string())
    }

    /// The JSON of an answer, with fields that have their default; `None` when it is no message of the method.
    pub(crate) fn decode(&self, target: &str, path: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = DynamicMessage::decode(self.method(target, path)?.output(), bytes).ok()?;
        let mut json = Vec::new();
        let options = SerializeOptions::new().skip_default_fields(false);
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options).ok()?;
        Some(json)
    }

    fn method(&self, target: &str, path: &str) -> Option<MethodDescriptor> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        let service = self.0.get(target)?.get_service_by_name(service)?;
        service.methods().find(|method| method.name() == name)
    }
}

/// Values such as slots have: each of a choice once, with what is optional and without.
fn samples(slots: &[Slot]) -> Vec<Values> {
    let choices = |slot: &Slot| match &slot.kind {
        Kind::Choice(choices) => choices.len(),
        _ => 1,
    };
    let sample = |slot: &Slot, index: usize| match &slot.kind {
        Kind::Choice(choices) => choices[index % choices.len()].value.clone(),
        Kind::Date => "2026-01-31".to_owned(),
        Kind::Email => "jo@mail.example".to_owned(),
        Kind::Text | Kind::Pattern(_) | Kind::OrderId(_) | Kind::Amount(_) => SAMPLE.to_owned(),
    };
    let most = slots.iter().map(choices).max().unwrap_or(1);
    let of = |index: usize, all: bool| {
        let slots = slots.iter().filter(|slot| all || !slot.optional);
        slots.map(|slot| (slot.name.clone(), sample(slot, index))).collect()
    };
    (0..most).flat_map(|index| [of(index, true), of(index, false)]).collect()
}
