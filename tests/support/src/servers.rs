//! Servers of others: nginx, gunicorn and the like, which `cargo xtask servers` puts below the target directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::envoy_bin::{report_skip, test_of};
use crate::supervisor::{Launch, handover_bin};

/// Where servers are looked for, the fetched ones first.
#[derive(Debug, Clone)]
pub struct Servers {
    /// What `cargo xtask servers` has fetched, if anything.
    fetched: Option<PathBuf>,
}

/// The places of the servers, if this program is among them. Without it the test ends here, successfully, and
/// says so.
///
/// It returns `()` from the enclosing function, so it must stand in the test itself.
#[macro_export]
macro_rules! require_server {
    ($program:expr) => {{
        // The type name of a local function is the path of the test around it.
        fn here() {}
        let here = std::any::type_name_of_val(&here);
        match $crate::servers::servers_or_skip(here, $program) {
            Some(servers) => servers,
            None => return,
        }
    }};
}

/// The work of [`require_server!`](crate::require_server).
#[doc(hidden)]
#[must_use]
pub fn servers_or_skip(here: &str, program: &str) -> Option<Servers> {
    let servers = Servers::find();
    let is_there = servers.path(program).is_some();
    if !is_there {
        let whence = match program {
            "node" => "Debian's package nodejs has it",
            _ => "cargo xtask servers fetches it",
        };
        let why = format!("no {program} here ({whence})");
        report_skip(&test_of(here), &why);
    }
    is_there.then_some(servers)
}

impl Servers {
    fn find() -> Self {
        let test = std::env::current_exe().ok();
        let above = test.iter().flat_map(|test| test.ancestors());
        let mut places = above.map(|directory| directory.join("servers"));
        Self {
            fetched: places.find(|place| place.is_dir()),
        }
    }

    /// Where this program is.
    fn path(&self, program: &str) -> Option<PathBuf> {
        let mut programs = self.search_path().into_iter().map(|it| it.join(program));
        programs.find(|program| program.is_file())
    }

    fn search_path(&self) -> Vec<PathBuf> {
        let own = ["python/bin", "caddy/bin", "debian/usr/sbin"];
        let fetched = self.fetched.iter();
        let fetched = fetched.flat_map(|place| own.map(|directory| place.join(directory)));
        let search = std::env::var_os("PATH").unwrap_or_default();
        // Where Debian installs servers. The search path of a user may lack it.
        let system = std::iter::once(PathBuf::from("/usr/sbin"));
        let others = std::env::split_paths(&search).chain(system);
        fetched.chain(others).collect()
    }

    /// A shell command line that finds the servers, and the `handover` binary by its name.
    ///
    /// # Panics
    ///
    /// When `handover` has not been built.
    #[must_use]
    pub fn launch(&self, command: &str) -> Launch {
        let handover = handover_bin();
        let own = handover.parent().map(Path::to_owned);
        let search = own.into_iter().chain(self.search_path());
        let search = std::env::join_paths(search).expect("no directory has a colon in its name");
        let mut launch = Launch::program("/bin/sh")
            .args(["-c", &format!("exec {command}")])
            .env("PATH", search)
            // Cached byte code would be left beside the test's files.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HANDOVER_SOCKET", "none");
        if let Some(fetched) = &self.fetched {
            launch = launch.env("PYTHONPATH", fetched.join("python")).env(
                "LD_LIBRARY_PATH",
                libraries(&fetched.join("debian/usr/lib")),
            );
        }
        launch
    }
}

/// The directory itself and those in it that Debian names after an architecture.
fn libraries(directory: &Path) -> OsString {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let inner = entries.map(|entry| entry.path()).filter(|it| it.is_dir());
    let all = std::iter::once(directory.to_owned()).chain(inner);
    std::env::join_paths(all).expect("no directory has a colon in its name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetched_servers_come_first_and_what_is_nowhere_is_skipped() {
        let fetched = tempfile::tempdir().unwrap();
        let servers = Servers {
            fetched: Some(fetched.path().to_owned()),
        };
        let own = fetched.path().join("debian/usr/sbin/sh");
        assert_ne!(servers.path("sh"), Some(own.clone()));
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "").unwrap();
        assert_eq!(servers.path("sh"), Some(own));
        assert!(servers_or_skip("a::test::here", "no-such-server").is_none());
    }
}
