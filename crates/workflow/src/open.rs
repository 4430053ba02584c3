//! The workflows of a bundle, with the methods they call.

use crate::catalogue::{Catalogue, Error};
use crate::grpc::Methods;

/// Compiles the workflows of a bundle and checks what they call.
///
/// # Errors
/// A workflow that cannot work, or descriptors that cannot be read.
pub(crate) fn open(reader: &bundle::Reader) -> anyhow::Result<(Catalogue, Methods)> {
    let catalogue = Catalogue::compile(reader.workflows()?)?;
    let methods = Methods::read(reader.descriptors()?)?;
    methods.check(&catalogue)?;
    Ok((catalogue, methods))
}

/// Checks what only this stage knows of the workflows of a bundle: their templates, rendered over their slots, and the
/// methods they call.
///
/// # Errors
/// The first workflow that cannot work.
pub fn check(reader: &bundle::Reader) -> anyhow::Result<()> {
    let Err(error) = open(reader) else { return Ok(()) };
    let error = error.downcast::<Error>()?;
    let (workflow, path) = error.place();
    anyhow::bail!("{}: {}", reader.workflow_place(workflow, &path), error.words())
}
