//! A saved website: a folder with a `sitemap.xml` and pages as wget or httrack lay them out.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use bundle::Problem;
use percent_encoding::percent_decode_str;

use crate::folder::{Ending, Found, Kind, Listing, Walk, ending, entries};
use crate::read::{Answer, Format};

/// Names of a sitemap at the root of a site.
const SITEMAPS: [&str; 2] = ["sitemap.xml", "sitemap_index.xml"];
/// Most sitemaps of one site.
const MAX_SITEMAPS: usize = 1000;

/// Lists the pages of a website in the order of its sitemap. False when the folder is none, or none of the
/// pages is there: then it is read like any other.
pub(crate) fn list(walk: &Walk, folder: &Path, listing: &mut Listing) -> bool {
    let Some(sitemap) = SITEMAPS.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
        return false;
    };
    let mut addresses = Vec::new();
    let mut open = vec![sitemap.clone()];
    let mut read = BTreeSet::new();
    while let Some(path) = open.pop() {
        if read.len() == MAX_SITEMAPS || !read.insert(path.clone()) {
            continue;
        }
        match sitemap_at(walk, &path) {
            Ok(found) => {
                addresses.extend(found.pages);
                // The last is taken first.
                open.extend(found.maps.iter().rev().filter_map(|map| saved(walk, folder, map)));
            }
            Err(message) => listing.problem(&path, message + "; its pages are looked for without it"),
        }
    }
    let mut taken = BTreeSet::new();
    let (mut missing, mut files) = (Vec::new(), Vec::new());
    for address in addresses {
        match saved(walk, folder, &address) {
            Some(path) if taken.insert(path.clone()) => {
                let kind = if let Ending::Known(kind) = ending(&path) { kind } else { Kind::Html };
                files.push(Found { path, kind, name: name(&address) });
            }
            Some(_) => {}
            None => missing.push(address),
        }
    }
    if files.is_empty() {
        if !missing.is_empty() {
            let message = "lists no page that is saved here: the folder is read file by file";
            listing.notes.push(Problem::new(&sitemap, 0, message));
        }
        return false;
    }
    if let Some(first) = missing.first() {
        let (missing, all) = (missing.len(), missing.len() + files.len());
        listing.problem(
            &sitemap,
            format!(
                "{missing} of its {all} pages are not saved here, the first {first}: save the site again"
            ),
        );
    }
    listing.files.extend(files);
    skip_others(folder, &taken, listing);
    true
}

fn sitemap_at(walk: &Walk, path: &Path) -> Result<crate::read::Sitemap, String> {
    walk.inside(path)?;
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    match walk.worker.read(file, Format::Sitemap) {
        Ok(Answer::Sitemap(found)) => Ok(found),
        Ok(_) => Err("is no sitemap".to_owned()),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// Counts the documents that the sitemap does not list.
fn skip_others(folder: &Path, taken: &BTreeSet<PathBuf>, listing: &mut Listing) {
    for path in entries(folder, listing) {
        if path.is_dir() && !path.is_symlink() {
            skip_others(&path, taken, listing);
        } else if !taken.contains(&path) {
            match ending(&path) {
                Ending::Known(_) | Ending::Foreign(_) => listing.skip("pages outside the sitemap"),
                Ending::Other(ending) if ending.is_empty() => listing.skip("files without ending"),
                Ending::Other(ending) => listing.skip(format!(".{ending} files")),
            }
        }
    }
}

/// Host, path and query of an address.
fn split(address: &str) -> (&str, &str, Option<&str>) {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    match path.split_once('?') {
        Some((path, query)) => (host, path, Some(query)),
        None => (host, path, None),
    }
}

/// Words for the id of a page.
fn name(address: &str) -> String {
    let (_, path, query) = split(address);
    let path = percent_decode_str(path).decode_utf8_lossy();
    let path = path.trim_end_matches('/');
    let path =
        [".html", ".htm", ".pdf", ".docx"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
    match (path, query) {
        ("", None) => "home".to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(query)) => format!("{path} {query}"),
    }
}

/// The file that a page was saved to: below the folder, or below a folder of the host's name.
fn saved(walk: &Walk, folder: &Path, address: &str) -> Option<PathBuf> {
    let (host, path, query) = split(address);
    let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let path = path.trim_end_matches('/');
    let mut names = Vec::new();
    match query {
        // wget writes the question mark, or an @ where it may not stand in a name.
        Some(query) => {
            for mark in ['?', '@'] {
                names.extend(["", ".html"].map(|end| format!("{path}{mark}{query}{end}")));
                names.push(format!("{path}/index.html{mark}{query}"));
            }
        }
        None if path.is_empty() => names.extend(["index.html", "index.htm"].map(str::to_owned)),
        None => {
            names
                .extend(["", ".html", ".htm", "/index.html", "/index.htm"].map(|end| format!("{path}{end}")));
        }
    }
    let plain = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let names = names.iter().filter(|name| plain(name));
    let places = names.flat_map(|name| [folder.join(name), folder.join(host).join(name)]);
    places.into_iter().find(|path| plain(host) && path.is_file() && walk.inside(path).is_ok())
}
