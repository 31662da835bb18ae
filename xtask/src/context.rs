//! What one run of xtask shares between its checks.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::{CargoOpt, Message, Metadata, MetadataCommand, Package, Target};
use tempfile::TempDir;

use crate::checks::leftovers::Trace;
use crate::process;

/// The environment variable by which every process that a run starts can be recognised. Its name does not
/// begin with `HANDOVER_`: those variables configure the program under test, and tests take them away.
pub(crate) const RUN_VARIABLE: &str = "XTASK_RUN";

/// The workspace, this run's identity, and what earlier checks leave for later ones.
pub(crate) struct Context {
    /// The workspace's root directory.
    pub(crate) root: PathBuf,
    /// The whole resolved tree, with all features.
    pub(crate) metadata: Metadata,
    /// The value of [`RUN_VARIABLE`] for this run.
    pub(crate) run_id: String,
    /// What processes, sockets and files there were before the first check.
    pub(crate) before: Trace,
    temp: TempDir,
    files: OnceCell<Vec<String>>,
    handover: OnceCell<PathBuf>,
}

impl Context {
    /// Reads the workspace that the current directory is in.
    pub(crate) fn new() -> Result<Self> {
        let mut command = MetadataCommand::new();
        let metadata = command
            .features(CargoOpt::AllFeatures)
            .exec()
            .context("reading the workspace with `cargo metadata`")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let run_id = format!(
            "{}-{}",
            std::process::id(),
            now.unwrap_or_default().as_nanos()
        );
        // Short, because Unix socket addresses made below it may have no more than 107 bytes.
        let temp = tempfile::Builder::new()
            .prefix("hx-")
            .tempdir()
            .context("making a directory for the run's temporary files")?;
        Ok(Self {
            root: metadata.workspace_root.clone().into_std_path_buf(),
            before: Trace::take(&run_id)?,
            metadata,
            run_id,
            temp,
            files: OnceCell::new(),
            handover: OnceCell::new(),
        })
    }

    /// The directory that started programs take for temporary files. Whatever stays in it is a leftover.
    pub(crate) fn temp(&self) -> &Path {
        self.temp.path()
    }

    /// Cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// A directory below the target directory for what checks hand to each other.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let path = self.target().join("xtask");
        fs_err::create_dir_all(&path)?;
        Ok(path)
    }

    /// The workspace's packages, by name.
    pub(crate) fn members(&self) -> Vec<&Package> {
        let mut members = self.metadata.workspace_packages();
        members.sort_by_key(|package| package.name.as_str());
        members
    }

    /// The members of `crates/*`: the libraries, and the program.
    pub(crate) fn crates(&self) -> Vec<&Package> {
        let crates = self.root.join("crates");
        let mut members = self.members();
        members.retain(|package| package.manifest_path.as_std_path().starts_with(&crates));
        members
    }

    /// The members that others can depend on: `crates/*` with a library target.
    pub(crate) fn libraries(&self) -> Vec<&Package> {
        let mut members = self.crates();
        members.retain(|package| package.targets.iter().any(Target::is_lib));
        members
    }

    /// A member's directory, relative to the root.
    pub(crate) fn directory(&self, member: &str) -> Result<String> {
        let mut members = self.members().into_iter();
        let package = members.find(|package| package.name == member);
        let directory = package.and_then(|package| package.manifest_path.parent());
        let directory =
            directory.with_context(|| format!("the workspace has no member `{member}`"))?;
        Ok(self.relative(directory.as_std_path()))
    }

    /// Every file of the repository that git tracks or would track, relative to the root.
    pub(crate) fn files(&self) -> Result<&[String]> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let listed = self.list_files(&["--cached", "--others", "--exclude-standard"])?;
        Ok(self.files.get_or_init(|| listed))
    }

    /// Those [files](Self::files) that are chosen.
    pub(crate) fn files_where(
        &self,
        is_chosen: impl Fn(&str) -> bool,
    ) -> Result<impl Iterator<Item = &String>> {
        let files = self.files()?.iter();
        Ok(files.filter(move |file| is_chosen(file)))
    }

    /// The files that `git ls-files` lists, relative to the root, without those that are deleted.
    pub(crate) fn list_files(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let mut git = self.command("git");
        git.args(["ls-files", "--deduplicate", "-z"])
            .args(arguments);
        let output = process::capture(git).context("listing the repository's files with git")?;
        let files = output.split_terminator('\0');
        let files = files.filter(|path| self.root.join(path).is_file());
        Ok(files.map(str::to_owned).collect())
    }

    /// Copies the [files](Self::files) of the repository to a directory, without what was there before.
    pub(crate) fn copy_to(&self, directory: &Path) -> Result<()> {
        if directory.exists() {
            fs_err::remove_dir_all(directory)?;
        }
        for file in self.files()? {
            let target = directory.join(file);
            let parent = target.parent().unwrap_or(directory);
            fs_err::create_dir_all(parent)?;
            fs_err::copy(self.root.join(file), &target)?;
        }
        Ok(())
    }

    /// The text of a file of the repository.
    pub(crate) fn text(&self, relative: impl AsRef<Path>) -> Result<String> {
        Ok(fs_err::read_to_string(self.root.join(relative))?)
    }

    /// A manifest or another TOML file of the repository.
    pub(crate) fn toml<T: serde::de::DeserializeOwned>(&self, relative: &str) -> Result<T> {
        toml::from_str(&self.text(relative)?).with_context(|| format!("parsing {relative}"))
    }

    /// The path below the root, for messages.
    pub(crate) fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.display().to_string()
    }

    /// Cargo, run at the root, with the run's identity.
    pub(crate) fn cargo<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let own = self.tools().join("bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        // The machine's own tools come first.
        let path = std::env::split_paths(&path).chain([own]);
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        command.args(arguments);
        command
    }

    /// Cargo with the arguments that these words are.
    pub(crate) fn cargo_words(&self, arguments: &str) -> Command {
        self.cargo(arguments.split_whitespace())
    }

    /// Name and version of each package that `cargo tree` finds.
    pub(crate) fn tree<I: IntoIterator<Item: AsRef<OsStr>>>(
        &self,
        arguments: I,
    ) -> Result<BTreeSet<(String, String)>> {
        let mut tree = self.cargo_words("tree --prefix none --no-dedupe --format {p}");
        tree.args(arguments);
        let output = process::capture(tree)?;
        let packages = output.lines().filter_map(|line| {
            let (name, rest) = line.split_once(" v")?;
            let version = rest.split(' ').next()?;
            Some((name.to_owned(), version.to_owned()))
        });
        let packages: BTreeSet<_> = packages.collect();
        ensure!(!packages.is_empty(), "`cargo tree` named no package");
        Ok(packages)
    }

    /// A program, run at the root, with the run's identity.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env(RUN_VARIABLE, &self.run_id)
            .stdin(std::process::Stdio::null());
        command
    }

    /// Where the `handover` binary is, built with the dev profile.
    pub(crate) fn handover(&self) -> Result<&Path> {
        if let Some(path) = self.handover.get() {
            return Ok(path);
        }
        let built = self.build("handover", &[])?;
        Ok(self.handover.get_or_init(|| built))
    }

    /// Builds a package, and returns the program that has its name.
    ///
    /// # Errors
    ///
    /// When it does not compile, or has no such program.
    pub(crate) fn build(&self, package: &str, flags: &[&str]) -> Result<PathBuf> {
        let mut build = self.cargo_words("build --message-format=json-render-diagnostics");
        build.args(["--package", package]).args(flags);
        build.stderr(std::process::Stdio::inherit());
        let output = process::capture(build)?;
        let executable = Message::parse_stream(output.as_bytes()).find_map(|message| {
            let Ok(Message::CompilerArtifact(artifact)) = message else {
                return None;
            };
            let is_meant = artifact.target.name == package;
            artifact.executable.filter(|_| is_meant)
        });
        let executable = executable
            .with_context(|| format!("`cargo build --package {package}` named no executable"))?;
        Ok(executable.into_std_path_buf())
    }

    /// Where xtask installs the tools of Cargo that a machine lacks.
    fn tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// Installs cargo-nextest below the target directory where the machine has none.
    ///
    /// # Errors
    ///
    /// When it is neither there nor can be built.
    pub(crate) fn ensure_nextest(&self) -> Result<()> {
        self.ensure_tool("nextest", "the tests", &[])
    }

    /// Installs `cargo-NAME` below the target directory where the machine has none. `what` is what needs it.
    ///
    /// # Errors
    ///
    /// When it is neither there nor can be built.
    pub(crate) fn ensure_tool(&self, name: &str, what: &str, flags: &[&str]) -> Result<()> {
        if self.has_subcommand(name) {
            return Ok(());
        }
        println!("cargo-{name} is not installed; building it, which takes some minutes");
        let mut install = self.cargo(["install", &format!("cargo-{name}"), "--locked"]);
        install.args(flags).arg("--root").arg(self.tools());
        match process::passes(install)? {
            None => Ok(()),
            Some(problem) => bail!(
                "{problem}; {what} need cargo-{name}: install it, or let this machine reach \
                 the registry of crates"
            ),
        }
    }

    /// Whether `cargo NAME` is there.
    pub(crate) fn has_subcommand(&self, name: &str) -> bool {
        process::capture(self.cargo([name, "--version"])).is_ok()
    }
}
