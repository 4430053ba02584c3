//! Files that others read while they are made.

use std::path::Path;

/// Writes a file, with its folder, whole or not at all.
///
/// # Errors
/// The folder cannot be made, or the file not written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path))
}
