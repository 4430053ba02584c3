//! XML as events; no entity is expanded but the five of XML itself.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use crate::refusal::Refusal;

/// Hands every event of a text to `take`; `what` names the format in the refusal of a damaged one.
pub(crate) fn each(
    text: &str,
    what: &'static str,
    mut take: impl FnMut(&Event) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut reader = Reader::from_str(text.trim_start_matches(bundle::BOM));
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return Ok(()),
            Ok(event) => take(&event)?,
            Err(error) => return Err(Refusal::Damaged(what, error.to_string())),
        }
    }
}

/// The name without its prefix.
pub(crate) fn name<'t>(tag: &'t BytesStart) -> &'t str {
    tag.local_name().into_inner()
}

/// The value of an attribute, whatever its prefix.
pub(crate) fn attribute(tag: &BytesStart, name: &str) -> Option<String> {
    let found =
        tag.attributes().flatten().find(|attribute| attribute.key.local_name().into_inner() == name)?;
    found.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
}

/// The words of an event; empty for a tag.
pub(crate) fn text(event: &Event) -> String {
    match event {
        Event::Text(text) => text.xml10_content().into_owned(),
        Event::CData(text) => text.xml10_content().into_owned(),
        Event::GeneralRef(name) => match name.resolve_char_ref() {
            Ok(Some(c)) => c.to_string(),
            _ => quick_xml::escape::resolve_xml_entity(&name.xml10_content()).unwrap_or_default().to_owned(),
        },
        _ => String::new(),
    }
}
