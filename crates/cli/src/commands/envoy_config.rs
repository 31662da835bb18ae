//! Where the configuration of Envoy comes from: a file or a template, and the overlays over it.

use std::future::Future;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use handover_envoy::EnvoyConfig;
use handover_envoy::args::EnvoyArgs;
use handover_envoy::bootstrap::Format;
use handover_envoy::files::{RunDir, TemporaryRunDir};
use handover_envoy::template::{self, Renderer, Template, TemplateError};
use handover_envoy::validate::{Verdict, validate, validate_as};
use handover_files::{Hasher, replace_durably};
use handover_netutil::{private_ips, resolve_addr};
use handover_process::RunAs;
use handover_runtime::offload::offload;
use handover_supervisor::control::wire::Configuration;
use handover_supervisor::operator::{Applies, Inputs};
use handover_supervisor::{Files, Keeping, Read, Source};
use handover_watch::FileState;

use super::envoy_args::ADDRESS_LIMIT;
use super::named_directory::full;
use crate::cli::RENDER_TEMPLATE;
use crate::cli::run::{self, NodeArgs};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// The configuration file of Envoy, to be used as it is or rendered.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    /// What is merged over it, in this order.
    overlays: Vec<PathBuf>,
    template: bool,
    node_id: Option<String>,
    /// What a client has given in place of what is in the file.
    given: Option<Arc<[u8]>>,
}

impl ConfigFile {
    pub(super) fn new(file: &run::EnvoyArgs, node: &NodeArgs) -> Self {
        Self {
            path: file.path().to_owned(),
            overlays: file.config_overlay.clone(),
            template: file.template,
            node_id: node.service_node.clone(),
            given: None,
        }
    }

    /// A file that is no template.
    #[cfg(feature = "tools")]
    pub(super) fn plain(path: PathBuf) -> Self {
        Self {
            path,
            overlays: Vec::new(),
            template: false,
            node_id: None,
            given: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it is named to people, with its overlays.
    pub(super) fn name(&self) -> String {
        let overlays = self.overlays.iter();
        let overlays: Vec<_> = overlays.map(|path| path.display().to_string()).collect();
        let path = self.path.display();
        match overlays.is_empty() {
            true => path.to_string(),
            false => format!("{path} with {}", overlays.join(", ")),
        }
    }

    /// Whether Envoy gets another text than that of the file.
    pub(super) fn is_derived(&self) -> bool {
        self.template || !self.overlays.is_empty()
    }

    /// Whether it is rendered first.
    pub(super) fn is_template(&self) -> bool {
        self.template
    }

    /// Reads the file on a thread of its own, because a large one takes seconds. A template waits for
    /// addresses there, and is rendered in a process of its own.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped. The thread stops reading soon after, or once it has the
    /// addresses that it waits for, and a process that renders is killed.
    pub(super) async fn read(&self) -> anyhow::Result<EnvoyConfig> {
        if self.template {
            let Templates {
                main,
                overlays,
                inputs,
            } = self.templates().await?;
            let renderer = renderer();
            let config = EnvoyConfig::render_merged_by(&renderer, &main, &overlays, &inputs);
            return Ok(config.await?);
        }
        let file = self.clone();
        beside_the_loop(move |unwanted| {
            let (path, overlays) = (&file.path, &file.overlays);
            Ok(match &file.given {
                Some(text) => EnvoyConfig::merge_unless(path, text.to_vec(), overlays, unwanted)?,
                None => EnvoyConfig::read_merged_unless(path, overlays, unwanted)?,
            })
        })
        .await
    }

    /// What epoch 0 would read. A template without overlays need not be a configuration.
    pub(super) async fn text(&self) -> anyhow::Result<Vec<u8>> {
        if !self.template || !self.overlays.is_empty() {
            return Ok(self.read().await?.content().to_vec());
        }
        let Templates { main, inputs, .. } = self.templates().await?;
        let inputs = template::Inputs {
            epoch: Some(0),
            ..inputs
        };
        Ok(renderer().render(&main, &inputs).await?.into_bytes())
    }

    /// The templates and what they may use.
    async fn templates(&self) -> anyhow::Result<Templates> {
        let file = self.clone();
        beside_the_loop(move |_| {
            let main = match &file.given {
                Some(text) => {
                    let text = String::from_utf8(text.to_vec());
                    let text = text.map_err(|_| TemplateError::NotText(file.path.clone()))?;
                    Template::new(&file.path, text)
                }
                None => Template::read(&file.path)?,
            };
            let overlays = file.overlays.iter().map(|path| Template::read(path));
            let overlays = overlays.collect::<Result<Vec<_>, _>>()?;
            let inputs = file.inputs(&main, &overlays);
            Ok(Templates {
                main,
                overlays,
                inputs,
            })
        })
        .await
    }

    /// The same, with this text in place of the file's. It has a name of its own, so that nobody takes an error
    /// for one of what is kept.
    fn with(&self, given: Arc<[u8]>) -> Self {
        Self {
            path: PathBuf::from("given-configuration.yaml"),
            given: Some(given),
            ..self.clone()
        }
    }

    /// What Envoy says of the file, which has just been read as `config`. What was rendered, merged or given by
    /// a client is asked about in a copy.
    pub(super) async fn verdict(
        &self,
        binary: &Path,
        args: &EnvoyArgs,
        config: &EnvoyConfig,
        run_as: &RunAs,
    ) -> Result<Verdict, Fatal> {
        if !self.is_derived() && self.given.is_none() && !run_as.changes_user() {
            return Ok(validate(binary, args, &self.path).await);
        }
        let (config, group) = (config.clone(), run_as.group());
        let group = group.filter(|_| run_as.changes_user());
        let copied = beside_the_loop(move |_| copy_of(&config, group)).await;
        let (made, copy) = copied.or_exit(ExitCode::OS)?;
        let verdict = validate_as(binary, args, &copy, run_as).await;
        // Without a thread for it, it goes at once.
        offload(move || drop(made)).await.ok();
        Ok(verdict)
    }

    /// The format in which Envoy reads it.
    pub(super) fn format(&self) -> Format {
        if !self.overlays.is_empty() {
            // What is merged is YAML.
            Format::Yaml
        } else if self.template {
            Format::of_template(&self.path)
        } else {
            Format::of(&self.path)
        }
    }

    /// What the templates may use. It waits for an address of the node, where it is asked for.
    fn inputs(&self, main: &Template, overlays: &[Template]) -> template::Inputs {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let mut addresses = Vec::new();
        let mut templates = std::iter::once(main).chain(overlays);
        if templates.any(|template| template.mentions("private_ips")) {
            let found = wait_here(private_ips(Some(ADDRESS_LIMIT)));
            addresses = found.map(|found| found.addresses).unwrap_or_default();
            if addresses.is_empty() {
                tracing::warn!(
                    "this node has no address after {ADDRESS_LIMIT:?}, so `private_ips` is empty in {}",
                    self.name()
                );
            }
        }
        template::Inputs {
            env: std::env::vars_os().filter_map(text).collect(),
            epoch: None,
            node_id: self.node_id.clone(),
            private_ips: addresses,
            resolver: Some(Arc::new(|host| Ok(wait_here(resolve_addr(host))??))),
        }
    }
}

/// Writes the configuration where Envoy can read it, as a member of the group if there is one.
fn copy_of(config: &EnvoyConfig, group: Option<u32>) -> anyhow::Result<(TemporaryRunDir, PathBuf)> {
    let made = TemporaryRunDir::create(&tempfile::env::temp_dir());
    let made = made.context("choose another place with TMPDIR")?;
    let mut run_dir = RunDir::create(made.run_dir().path())?;
    if let Some(group) = group {
        run_dir = run_dir.readable_by(group)?;
    }
    let copy = run_dir.write(0, config.format(), config.content())?;
    Ok((made, copy))
}

/// The template of a configuration and those of its overlays, with what they may use.
struct Templates {
    main: Template,
    overlays: Vec<Template>,
    inputs: template::Inputs,
}

/// This program, as it renders templates.
fn renderer() -> Renderer {
    Renderer::this_program([RENDER_TEMPLATE])
}

/// Does work on a thread that may wait. The work can see when nobody wants its result any more.
pub(super) async fn beside_the_loop<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let dropped = SetOnDrop(Arc::default());
    let unwanted = Arc::clone(&dropped.0);
    offload(move || work(&unwanted))
        .await
        .context("the configuration was not read")?
}

/// Sets the flag when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits on this thread, which must not be that of the supervisor.
fn wait_here<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let output = runtime.block_on(future);
    // A lookup that was given up still occupies its thread.
    runtime.shutdown_background();
    Ok(output)
}

/// The configuration of a supervised Envoy, and the other files that it reads.
pub(crate) struct ConfigSource {
    file: ConfigFile,
    /// The file and its overlays, as the watched files are told: by their full paths.
    absolute: Vec<PathBuf>,
    stand_in: Option<Arc<EnvoyConfig>>,
    /// The first configuration that was read, for whoever looks at it beside the start.
    first: Arc<OnceLock<Arc<EnvoyConfig>>>,
    /// The Envoy binary, if its replacement leads to the next epoch.
    programs: Vec<PathBuf>,
    /// What is needed for what clients give, if they do.
    given: Option<Arc<Given>>,
}

/// What is needed for a configuration that a client gives.
pub(super) struct Given {
    /// The file where it is kept.
    pub(super) kept: PathBuf,
    /// What judges it.
    pub(super) binary: PathBuf,
    pub(super) args: EnvoyArgs,
    pub(super) run_as: RunAs,
}

impl Given {
    /// Whether one is kept. What cannot be looked at is, and its read tells why it cannot be used.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.try_exists().unwrap_or(true)
    }

    /// Keeps a configuration in place of the one before. Only our own user can read it.
    fn keep(&self, text: &[u8]) -> anyhow::Result<()> {
        if std::fs::read(&self.kept).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let (dir, name) = (self.kept.parent(), self.kept.file_name());
        let dir = dir.context("the state directory has no name")?;
        let name = name.and_then(|name| name.to_str());
        let name = name.context("what is kept has no name")?;
        replace_durably(dir, name, &[text])
            .with_context(|| format!("cannot write {}", self.kept.display()))
    }
}

impl ConfigSource {
    /// With a configuration to start with in place of the file, if that cannot be used.
    pub(super) fn new(file: ConfigFile, stand_in: Option<Arc<EnvoyConfig>>) -> Self {
        let files = std::iter::once(&file.path).chain(&file.overlays);
        let absolute = files.map(|path| full(path)).collect();
        Self {
            file,
            absolute,
            stand_in,
            first: Arc::default(),
            programs: Vec::new(),
            given: None,
        }
    }

    /// Where the first configuration will be that is read.
    pub(super) fn first(&self) -> Arc<OnceLock<Arc<EnvoyConfig>>> {
        Arc::clone(&self.first)
    }

    /// Lets clients give the configuration.
    pub(super) fn with_clients(mut self, given: Option<Given>) -> Self {
        self.given = given.map(Arc::new);
        self
    }

    /// Lets the replacement of these program files lead to another configuration.
    pub(super) fn with_programs(mut self, programs: Vec<PathBuf>) -> Self {
        self.programs = programs;
        self
    }
}

impl Source for ConfigSource {
    type Config = Arc<EnvoyConfig>;

    fn name(&self) -> String {
        self.file.path.display().to_string()
    }

    fn read(&self, _files: &Files) -> Read<Arc<EnvoyConfig>> {
        let (file, first) = (self.file.clone(), Arc::clone(&self.first));
        Box::pin(async move {
            let config = file.read().await;
            let config = Arc::new(config.map_err(anyhow::Error::into_boxed_dyn_error)?);
            first.get_or_init(|| Arc::clone(&config));
            Ok(config)
        })
    }

    fn applies(&self) -> Applies {
        match &self.given {
            Some(given) => Applies::FromClients {
                kept: given.is_kept(),
            },
            None => Applies::Never,
        }
    }

    fn read_given(&self, text: Arc<[u8]>, _files: &Files) -> Read<Arc<EnvoyConfig>> {
        let Some(given) = self.given.clone() else {
            return Box::pin(async { Err("no configuration is taken from clients".into()) });
        };
        let (file, first) = (self.file.with(text), Arc::clone(&self.first));
        Box::pin(async move {
            let config = file.read().await;
            let config = config.map_err(anyhow::Error::into_boxed_dyn_error)?;
            let Given {
                binary,
                args,
                run_as,
                ..
            } = &*given;
            let verdict = file.verdict(binary, args, &config, run_as).await;
            match verdict.map_err(|fatal| fatal.to_string())? {
                Verdict::Rejected { message } => return Err(message.into()),
                // Without a verdict the start itself will tell.
                Verdict::Valid | Verdict::CouldNotRun(_) => {}
            }
            let config = Arc::new(config);
            first.get_or_init(|| Arc::clone(&config));
            Ok(config)
        })
    }

    fn keep(&self, text: Arc<[u8]>) -> Keeping {
        let Some(given) = self.given.clone() else {
            return Box::pin(async { Err("no configuration is kept".into()) });
        };
        Box::pin(async move {
            let kept = beside_the_loop(move |_| given.keep(&text)).await;
            kept.map_err(anyhow::Error::into_boxed_dyn_error)
        })
    }

    /// A digest of all watched files but the configuration and its overlays, which are told by their text.
    fn inputs(&self, files: &Files) -> Inputs {
        let Some(snapshot) = files.snapshot() else {
            return Inputs::default();
        };
        let mut hasher = Hasher::default();
        let others = snapshot.files().iter();
        for (path, state) in others.filter(|(path, _)| !self.absolute.contains(path)) {
            hasher.field(path.as_os_str().as_bytes());
            match state {
                FileState::Present { digest, .. }
                | FileState::Unread {
                    identity: digest, ..
                } => hasher.field(digest.as_bytes()),
                FileState::Directory | FileState::Missing | FileState::Unreadable { .. } => {
                    hasher.field(b"");
                }
            }
        }
        Inputs(*hasher.finish().as_bytes())
    }

    fn describe(&self, config: &Arc<EnvoyConfig>) -> Configuration {
        Configuration {
            source: config.source().display().to_string(),
            hash: Some(config.digest().to_string()),
        }
    }

    fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    fn stand_in(&self) -> Option<Arc<EnvoyConfig>> {
        self.stand_in.clone()
    }
}
