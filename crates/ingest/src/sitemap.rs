//! What a `sitemap.xml` lists.

use quick_xml::events::Event;

use crate::read::Sitemap;
use crate::refusal::Refusal;
use crate::xml;

/// Most addresses of one sitemap, as its protocol has it.
const MAX_ADDRESSES: usize = 50_000;

/// Reads the addresses of pages and of other sitemaps.
pub(crate) fn read(text: &str) -> Result<Sitemap, Refusal> {
    let mut found = Sitemap::default();
    let mut open: Vec<String> = Vec::new();
    let mut address = String::new();
    xml::each(text, "sitemap", |event| {
        match event {
            Event::Start(tag) => {
                open.push(xml::name(tag).to_owned());
                address.clear();
            }
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                let of = open.last().map(String::as_str);
                let taken = address.trim().to_owned();
                match (name.as_str(), of) {
                    ("loc", Some("url")) => found.pages.push(taken),
                    ("loc", Some("sitemap")) => found.maps.push(taken),
                    _ => {}
                }
            }
            event => address.push_str(&xml::text(event)),
        }
        if found.pages.len() + found.maps.len() > MAX_ADDRESSES {
            return Err(Refusal::Damaged("sitemap", format!("more than {MAX_ADDRESSES} addresses")));
        }
        if open.len() > crate::refusal::MAX_DEPTH { Err(Refusal::TooDeep) } else { Ok(()) }
    })?;
    if found.pages.is_empty() && found.maps.is_empty() {
        return Err(Refusal::Damaged("sitemap", "it lists no address".to_owned()));
    }
    Ok(found)
}
