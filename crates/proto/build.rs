//! Compiles the contracts without protoc.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> anyhow::Result<()> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true);
    let mut files: Vec<_> = std::fs::read_dir(root.join("firstline/v1"))?
        .map(|entry| Ok(PathBuf::from("firstline/v1").join(entry?.file_name())))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    compiler.open_files(&files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let set = compiler.file_descriptor_set();
    anyhow::ensure!(!set.file.is_empty(), "no contract found under {}", root.display());
    // Comments are for the generated code; reflection would keep them in the memory of every process.
    let mut described = set.clone();
    described.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(out.join("descriptors.bin"), described.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}
