//! `bundle new` over foreign documents, by the program itself: its readers are processes of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, and so do its helpers")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const DOCUMENT: &str = "word/document.xml";

/// A folder of articles and a file of examples.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        world.write("intents.jsonl", r#"{"text": "when do you open", "intent": "opening"}"#);
        std::fs::create_dir(world.at("kb")).unwrap();
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn import(&self) -> Output {
        let _ = std::fs::remove_dir_all(self.at("out"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstline"));
        command.args(["bundle", "new", "--json"]).arg(self.at("out"));
        command.arg("--kb").arg(self.at("kb")).arg("--intents").arg(self.at("intents.jsonl"));
        command.output().unwrap()
    }

    /// What was imported, by id, and what was said about the rest.
    fn imported(&self) -> (Vec<Value>, Value) {
        let output = self.import();
        assert!(output.status.success(), "{output:?}");
        let said = serde_json::from_slice(&output.stdout).unwrap();
        let text = std::fs::read_to_string(self.at("out/knowledge/documents.jsonl")).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said)
    }
}

fn find<'d>(documents: &'d [Value], id: &str) -> &'d Value {
    documents.iter().find(|document| document["id"] == id).unwrap_or_else(|| panic!("{id} in {documents:?}"))
}

/// The only one of the lines that names a file.
fn about<'l>(lines: &'l Value, file: &str) -> &'l str {
    let lines: Vec<_> = lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let found: Vec<_> = lines.iter().filter(|line| line.contains(file)).collect();
    assert_eq!(found.len(), 1, "{file} in {lines:?}");
    found[0]
}

fn docx(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in parts {
        zip.start_file(*name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn pdf_of(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(out.len());
        out.extend(format!("{} 0 obj\n", index + 1).bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let start = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    places.iter().for_each(|place| out.extend(format!("{place:010} 00000 n \n").bytes()));
    let size = objects.len() + 1;
    out.extend(
        format!("trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n").bytes(),
    );
    out
}

fn pdf(content: &[u8], filter: &str) -> Vec<u8> {
    let mut stream = format!("<< /Length {} {filter} >>\nstream\n", content.len()).into_bytes();
    stream.extend(content);
    stream.extend(b"\nendstream");
    let objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_vec(),
        stream,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
        b"<< /Title (Delivery times) >>".to_vec(),
    ];
    pdf_of(&objects, "/Info 6 0 R")
}

const LINES: &[u8] = b"BT /F1 12 Tf 14 TL 50 700 Td (A parcel arrives in three work-) Tj T* (ing days.) Tj 0 -40 Td (On holidays it takes one day more.) Tj ET";

const PAGE: &str = r#"<!doctype html><html><head><title>Cards &ndash; Example Bank</title><style>p{}</style></head>
<body><header><a href="/">Home</a></header><nav><ul><li>Menu<li>Login</ul></nav>
<main><article><header><h1>Lost card</h1></header><p>Freeze the card in the <a href="/app">app</a> <b>at once</b>.
<h2>Steps</h2><ol><li><p>Open the app<li>Choose <i>Freeze</i><ul><li>or call us</ul></ol>
<table><tr><th>Card<th>Fee<tr><td>Plus<td>12 pounds</table><form>Search <input></form><script>alert("x")</script>
</article></main><footer>Imprint</footer></body></html>"#;

const WORDS: &str = r#"<w:document xmlns:w="w"><w:body>
<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Refunds</w:t></w:r></w:p>
<w:p><w:r><w:t xml:space="preserve">We pay back </w:t></w:r><w:r><w:rPr><w:b/></w:rPr><w:t>R&amp;D</w:t></w:r><w:del><w:r><w:delText>never</w:delText></w:r></w:del><w:r><w:t xml:space="preserve"> costs.</w:t></w:r></w:p>
<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="7"/></w:numPr></w:pPr><w:r><w:t>Ask</w:t></w:r></w:p>
<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="7"/></w:numPr></w:pPr><w:r><w:t>Wait</w:t></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Days</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>5</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
</w:body></w:document>"#;
const STYLES: &str = r#"<w:styles xmlns:w="w"><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style></w:styles>"#;
const NUMBERING: &str = r#"<w:numbering xmlns:w="w"><w:abstractNum w:abstractNumId="3"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl></w:abstractNum><w:num w:numId="7"><w:abstractNumId w:val="3"/></w:num></w:numbering>"#;

#[test]
fn every_format_becomes_markdown_with_a_title_and_an_id() {
    let world = World::new();
    world.write(
        "kb/a.jsonl",
        "{\"id\":\"hours\",\"title\":\"Hours\",\"content\":\"We open at nine.\",\"audience\":\"internal\"}\n",
    );
    world.write("kb/cards/lost.html", PAGE);
    world.write("kb/delivery.pdf", pdf(LINES, ""));
    world.write("kb/fees.md", "# Fees\n\nA card is free.\n");
    world.write("kb/front.md", "---\nid: front\ntitle: Front\naudience: internal\n---\nFor staff.\n");
    let parts = [(DOCUMENT, WORDS), ("word/styles.xml", STYLES), ("word/numbering.xml", NUMBERING)];
    world.write("kb/refunds.docx", docx(&parts));
    world.write("kb/rules.txt", "Rules of the house.\n");
    world.write("kb/logo.png", [0_u8; 9]);
    let (documents, said) = world.imported();
    assert_eq!(said["problems"], serde_json::json!([]), "{said}");
    assert_eq!(said["skipped"], serde_json::json!({ ".png files": 1 }));
    let text = |id: &str| find(&documents, id)["content"].as_str().unwrap().to_owned();
    let title = |id: &str| find(&documents, id)["title"].as_str().unwrap().to_owned();
    assert_eq!(title("cards-lost"), "Lost card");
    assert_eq!(
        text("cards-lost"),
        "# Lost card\n\nFreeze the card in the app at once.\n\n## Steps\n\n1. Open the app\n2. Choose Freeze\n   - or call us\n\n\
         | Card | Fee |\n|---|---|\n| Plus | 12 pounds |"
    );
    assert_eq!(title("delivery"), "Delivery times");
    assert_eq!(
        text("delivery"),
        "A parcel arrives in three working days.\n\nOn holidays it takes one day more."
    );
    assert_eq!(title("refunds"), "Refunds");
    assert_eq!(
        text("refunds"),
        "# Refunds\n\nWe pay back R&D costs.\n\n1. Ask\n2. Wait\n\n| Days | 5 |\n|---|---|"
    );
    assert_eq!(
        (title("fees"), title("rules"), title("front")),
        ("Fees".into(), "rules".into(), "Front".into())
    );
    assert_eq!(find(&documents, "front")["audience"], "internal");
    assert_eq!(find(&documents, "hours")["audience"], "internal");
    assert_eq!(documents.len(), 7);
}

#[test]
fn what_is_broken_is_named_with_advice_and_the_rest_is_imported() {
    let world = World::new();
    world.write("kb/good.md", "# Good\n\nText.\n");
    world.write("kb/good.html", "<p>Text.");
    world.write("kb/lines.jsonl", "not json\n{\"id\":\"a\",\"title\":\"A\",\"content\":\"text\"}\n{\"id\":\"a\",\"title\":\"A\",\"content\":\"text\"}\n");
    world.write("kb/latin.txt", b"Die Geb\xfchr f\xfcr die Karte betr\xe4gt f\xfcnf Euro.");
    let wide: Vec<u8> = "Größe der Karte".encode_utf16().flat_map(u16::to_le_bytes).collect();
    world.write("kb/wide.txt", [b"\xff\xfe".as_slice(), &wide].concat());
    world.write("kb/long.txt", "A line of some length.\n".repeat(60_000));
    let broken: [(&str, Vec<u8>, &str); 12] = [
        ("front.md", b"---\ntitle: x\n---\ntext".to_vec(), "has no `id`"),
        ("empty.txt", b" \n".to_vec(), "holds no text"),
        ("junk.txt", (0..=255).cycle().take(5000).collect(), "binary"),
        ("junk.html", (0..=255).cycle().take(5000).collect(), "binary"),
        ("blank.html", b"<nav>Menu</nav>".to_vec(), "holds no text"),
        ("junk.pdf", b"hello".to_vec(), "is no PDF"),
        ("cut.pdf", pdf(LINES, "")[..200].to_vec(), "is no PDF"),
        ("scan.pdf", pdf(b"q Q", ""), "OCR"),
        ("junk.docx", b"hello".to_vec(), "is no DOCX"),
        ("empty.docx", docx(&[("other.xml", "<a/>")]), "word/document.xml"),
        ("named.md", pdf(LINES, ""), "give it that ending"),
        ("old.doc", b"x".to_vec(), "save it as .docx"),
    ];
    broken.iter().for_each(|(name, bytes, _)| world.write(&format!("kb/{name}"), bytes));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(world.at("kb"), world.at("kb/loop")).unwrap();
        std::os::unix::fs::symlink("self.md", world.at("kb/self.md")).unwrap();
        std::os::unix::fs::symlink(world.at("intents.jsonl"), world.at("kb/out.jsonl")).unwrap();
    }
    let (documents, said) = world.imported();
    let problems = &said["problems"];
    broken.iter().for_each(|(name, _, why)| {
        let line = about(problems, &format!("kb/{name}"));
        assert!(line.contains(why), "{line}");
    });
    assert!(about(problems, "lines.jsonl:1: ").contains("no JSON"));
    assert!(about(problems, "lines.jsonl:3: ").contains("duplicate id"));
    let mut expected = broken.len() + 2;
    if cfg!(unix) {
        assert!(about(problems, "kb/loop").contains("link to a folder"));
        assert!(about(problems, "kb/self.md").contains("cannot be read"));
        assert!(about(problems, "kb/out.jsonl").contains("out of the folder"));
        expected += 3;
    }
    assert_eq!(problems.as_array().unwrap().len(), expected, "{problems}");
    let ids: Vec<_> = documents.iter().map(|document| document["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["good", "good-2", "latin", "a", "long", "long-2", "wide"]);
    assert!(find(&documents, "latin")["content"].as_str().unwrap().contains("Gebühr für"));
    assert!(about(&said["notes"], "latin.txt").contains("windows-1252"));
    assert_eq!(find(&documents, "wide")["content"], "Größe der Karte");
    // Nothing at all: a failure, and no folder.
    std::fs::remove_dir_all(world.at("kb")).unwrap();
    world.write("kb/junk.pdf", "hello");
    let output = world.import();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is no PDF") && !world.at("out").exists());
}

#[test]
fn a_saved_website_is_read_in_the_order_of_its_sitemap() {
    let world = World::new();
    let page = |text: &str| format!("<title>{text}</title><main><p>About {text}.</main>");
    let address = |path: &str| format!("<url><loc>https://shop.example{path}</loc></url>");
    let paths = ["/z/last", "/", "/a?id=2", "/gone", "/%2e%2e/intents.jsonl", "/b%20c"].map(address);
    world.write(
        "kb/sitemap.xml",
        "<sitemapindex><sitemap><loc>https://shop.example/maps/one.xml</loc></sitemap></sitemapindex>",
    );
    world.write("kb/maps/one.xml", format!("<urlset>{}</urlset>", paths.concat()));
    world.write("kb/index.html", page("home"));
    world.write("kb/z/last/index.html", page("last"));
    world.write("kb/a?id=2.html", page("query"));
    world.write("kb/b c", page("space"));
    world.write("kb/tag/old.html", page("old"));
    let (documents, said) = world.imported();
    let ids: Vec<_> = documents.iter().map(|document| document["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["z-last", "home", "a-id-2", "b-c"]);
    assert_eq!(documents[0]["title"], "last");
    assert_eq!(said["skipped"]["pages outside the sitemap"], 1, "{said}");
    assert!(about(&said["problems"], "sitemap.xml").contains("2 of its 6 pages"), "{said}");
}

#[test]
fn hostile_documents_are_refused_in_bounded_time_and_memory() {
    let world = World::new();
    world.write("kb/good.txt", "Text.\n");
    world.write("kb/nested.html", "<div>".repeat(1_000_000));
    world.write("kb/bold.html", "<b>".repeat(1_000_000));
    world.write("kb/tables.html", "<table><tr><td>".repeat(300_000));
    sparse(&world.at("kb/huge.txt"), 1_000_000_000);
    sparse(&world.at("kb/huge.html"), 1_000_000_000);
    sparse(&world.at("kb/line.jsonl"), 400_000_000);
    let zeros = " ".repeat(300_000_000);
    world.write("kb/bomb.docx", docx(&[(DOCUMENT, &zeros)]));
    drop(zeros);
    world.write("kb/deep.docx", docx(&[(DOCUMENT, &"<w:tbl>".repeat(2_000_000))]));
    world.write("kb/bomb.pdf", pdf(&deflated(800_000_000), "/Filter /FlateDecode"));
    let circle = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R 2 0 R] /Count 99999999 >>".to_vec(),
        b"<< /Type /Page /Parent 4 0 R /Contents 5 0 R >>".to_vec(),
        b"<< /Parent 4 0 R >>".to_vec(),
    ];
    world.write("kb/circle.pdf", pdf_of(&circle, ""));
    world.write("kb/arrays.pdf", pdf_of(&[b"[".repeat(3_000_000)], ""));
    let start = std::time::Instant::now();
    let (documents, said) = world.imported();
    assert_eq!(documents.len(), 1, "{said}");
    for name in ["huge.txt", "huge.html", "nested.html", "bold.html", "tables.html", "line.jsonl:1:"] {
        about(&said["problems"], name);
    }
    for name in ["bomb.docx", "deep.docx", "bomb.pdf", "circle.pdf", "arrays.pdf"] {
        about(&said["problems"], name);
    }
    assert!(about(&said["problems"], "nested.html").contains("512 deep"));
    assert!(about(&said["problems"], "bomb.docx").contains("unpacks to"));
    eprintln!("{:?}\n{:#}", start.elapsed(), said["problems"]);
    assert!(start.elapsed().as_secs() < 120, "twelve files of at most 20 s each on two cores");
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() / 1024;
        eprintln!("peak {peak} MiB");
        assert!(peak < 600, "{peak} MiB in the largest process, limited to 512 and the program itself");
    }
}

fn sparse(path: &Path, bytes: u64) {
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

/// A zlib stream of so many spaces.
fn deflated(bytes: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a", zip::write::SimpleFileOptions::default()).unwrap();
    let chunk = vec![b' '; 1_000_000];
    (0..bytes / chunk.len()).for_each(|_| zip.write_all(&chunk).unwrap());
    let archive = zip.finish().unwrap().into_inner();
    // A local header of 30 bytes and the name, then the raw stream up to the central directory.
    let end = archive.windows(4).rposition(|at| at == b"PK\x01\x02").unwrap();
    let mut stream = vec![0x78, 0x9c];
    stream.extend(&archive[31..end]);
    stream
}

#[test]
fn a_folder_of_examples_makes_a_category_of_each_file() {
    let world = World::new();
    world.write("kb/hours.md", "# Hours\n\nOpen from nine to five.\n");
    std::fs::remove_file(world.at("intents.jsonl")).unwrap();
    world.write("intents.jsonl/Our shops.jsonl", r#"{"text": "when do you open", "intent": "opening"}"#);
    world.write("intents.jsonl/orders.jsonl", r#"{"text": "where is my order", "intent": "tracking"}"#);
    world.write("intents.jsonl/other.jsonl", r#"{"text": "is it raining", "intent": null}"#);
    let output = world.import();
    assert!(output.status.success(), "{output:?}");
    let mut check = Command::new(env!("CARGO_BIN_EXE_firstline"));
    assert!(check.args(["bundle", "check"]).arg(world.at("out")).output().unwrap().status.success());
    let read = |file: &str| std::fs::read_to_string(world.at("out").join(file)).unwrap();
    assert!(read("assistant.toml").contains("[categories.our_shops]\ntitle = \"Our shops\""));
    assert!(read("intents/our_shops.toml").contains("category = \"our_shops\""));
    assert!(
        read("intents/orders.toml").contains("tracking")
            && read("intents/out_of_scope.toml").contains("raining")
    );

    world.write("intents.jsonl/zoo.jsonl", r#"{"text": "opening times", "intent": "opening"}"#);
    let output = world.import();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("is in") && said.contains("our_shops"), "{said}");
}
