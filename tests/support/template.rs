//! Fresh data directories, copied from templates: `initdb` takes a second, a copy a fraction of it.

use core::hash::{Hash, Hasher};
use std::fs;
use std::hash::DefaultHasher;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::run;
use super::servers::{Server, cache_dir, server_user};

/// The options and statements that make a data directory.
#[derive(Hash)]
pub struct Recipe {
    /// Options of `initdb`.
    pub options: Vec<String>,
    /// Statements for the single-user server, one a line.
    pub statements: String,
}

impl Recipe {
    /// Makes `data` by copying the template, which is made first if it does not exist.
    ///
    /// All copies of a template have one system identifier.
    pub fn copy_to(&self, server: &Server, data: &Path) {
        let template = self.template(server);
        if !template.exists() {
            self.make(server, data);
            publish(data, &template);
            return;
        }
        copy(&template, data);
    }

    /// Makes `data` by running `initdb`.
    pub fn make(&self, server: &Server, data: &Path) {
        let parent = data.parent().expect("a data directory has a parent");
        let mut initdb = server.command("initdb");
        initdb.current_dir(parent).arg("-D").arg(data).args(&self.options);
        run(initdb, "").unwrap_or_else(|said| panic!("initdb of {} failed: {said}", server.major));

        let mut single = server.command("postgres");
        single.current_dir(parent).args(["--single", "-D"]).arg(data).args(["-c", "fsync=off", "postgres"]);
        // The server exits with 0 even if a statement fails; the first login of a test would show that.
        run(single, &self.statements).unwrap_or_else(|said| panic!("postgres --single failed: {said}"));
    }

    fn template(&self, server: &Server) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (self, &server.bin, server_user()).hash(&mut hasher);
        cache_dir().join(format!("templates/{}-{:016x}", server.major, hasher.finish()))
    }
}

/// Copies a directory with owners, modes and times.
pub fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    run(cp, "").unwrap_or_else(|said| panic!("{said}"));
}

/// Keeps a copy of `data` as a template. The template appears whole or not at all, and the first of several
/// processes wins. If the cache is not writable, no template is made, and the next test runs `initdb` as
/// well.
fn publish(data: &Path, template: &Path) {
    let parent = template.parent().expect("a template lies in a directory");
    if fs::create_dir_all(parent).is_err() {
        return;
    }
    let Ok(unfinished) = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(parent) else { return };
    let copied = unfinished.path().join("data");
    copy(data, &copied);
    // Fails if another process has published its template meanwhile.
    drop(fs::rename(&copied, template));
}
