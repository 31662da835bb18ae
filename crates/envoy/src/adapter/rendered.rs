//! Configurations from a template.
//!
//! A template may use the number of the epoch, so each epoch can have a text of its own. What is
//! asked for must not change with the number, or every epoch would be a change that asks for the
//! next one. So such a configuration is the template together with all else that it can use: two
//! are equal when every epoch would get the same text. The addresses that were resolved belong to
//! it, therefore they are looked up when it is made and never again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use handover_core::Epoch;
use handover_runtime::offload::{OffloadError, offload};

use super::config::{ConfigError, EnvoyConfig};
use super::error::EnvoyFailed;
use crate::bootstrap::Format;
use crate::overlay::{Layer, merge};
use crate::template::{Inputs, Renderer, Resolver, Template, TemplateError};

/// Why a template gives no configuration that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// It cannot be rendered.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What was rendered cannot be supervised.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was rendered was not read, because the thread for it ended.
    #[error("the rendered configuration was not read")]
    NotRead(#[source] OffloadError),
}

/// A template whose text may differ from epoch to epoch.
#[derive(PartialEq, Eq)]
pub(super) struct PerEpoch {
    templates: Templates,
    env: BTreeMap<String, String>,
    node_id: Option<String>,
    private_ips: Vec<IpAddr>,
    /// What `resolve` has given.
    addresses: Addresses,
    /// The program that renders it, or `None` for a thread of this process.
    renderer: Option<Renderer>,
}

/// The template of a configuration, and those of its overlays.
#[derive(Clone, PartialEq, Eq)]
struct Templates {
    main: Template,
    overlays: Vec<Template>,
}

impl Templates {
    fn new(main: &Template, overlays: &[Template]) -> Self {
        Self {
            main: main.clone(),
            overlays: overlays.to_vec(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Template> {
        std::iter::once(&self.main).chain(&self.overlays)
    }
}

/// What `EnvoyFailed::Render` takes as its source.
type RenderFailed = Box<dyn std::error::Error + Send + Sync>;

type Addresses = BTreeMap<String, SocketAddr>;

/// An address is asked for that was not when the configuration was made.
#[derive(Debug, thiserror::Error)]
#[error(
    "addresses are looked up once, for epoch 0, whose text does not use this one: call resolve \
     for every epoch"
)]
struct NotAskedBefore;

impl EnvoyConfig {
    /// Renders a template. Its path tells the format: that of `envoy.yaml` as that of
    /// `envoy.yaml.j2`.
    ///
    /// Where the template uses `epoch`, each epoch runs with a text of its own, and this
    /// configuration shows itself as epoch 0 would be given it; `inputs.epoch` does not matter.
    /// Each name is resolved once. It takes as long as the resolver does: call it where that does no
    /// harm.
    ///
    /// # Errors
    ///
    /// [`RenderError`]. An epoch with another number can fail where 0 does not: then it fails for
    /// good, when it is started.
    ///
    /// ```
    /// use handover_envoy::EnvoyConfig;
    /// use handover_envoy::template::{Inputs, Template};
    ///
    /// let text = "admin: {address: {pipe: {path: '/run/admin-{{ epoch }}.sock'}}}";
    /// let template = Template::new("/etc/envoy.yaml".as_ref(), text.to_owned());
    /// let config = EnvoyConfig::render(&template, &Inputs::default())?;
    /// assert_eq!(config.bootstrap().admin.to_string(), "unix:/run/admin-0.sock");
    /// # Ok::<(), handover_envoy::RenderError>(())
    /// ```
    pub fn render(template: &Template, inputs: &Inputs) -> Result<Self, RenderError> {
        let (templates, addresses) = (Templates::new(template, &[]), Arc::default());
        let config = rendered(&templates, &first(inputs, &addresses))?;
        Ok(config.for_each_epoch(templates, inputs, &addresses, None))
    }

    /// Renders a template in a process of its own; see [`Renderer`]. Each epoch's text is rendered by
    /// the same program.
    ///
    /// # Errors
    ///
    /// As for [`render`](Self::render).
    ///
    /// # Panics
    ///
    /// In a tokio runtime without its I/O driver or its timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn render_by(
        renderer: &Renderer,
        template: &Template,
        inputs: &Inputs,
    ) -> Result<Self, RenderError> {
        Self::render_merged_by(renderer, template, &[], inputs).await
    }

    /// Renders a template and its overlays, each in a process of its own, and merges the overlays over it,
    /// one after the other; see [`overlay`](crate::overlay). Otherwise as [`render_by`](Self::render_by).
    ///
    /// # Errors
    ///
    /// As for [`render`](Self::render); [`ConfigError::Overlay`] where they cannot be merged.
    ///
    /// # Panics
    ///
    /// In a tokio runtime without its I/O driver or its timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn render_merged_by(
        renderer: &Renderer,
        template: &Template,
        overlays: &[Template],
        inputs: &Inputs,
    ) -> Result<Self, RenderError> {
        let (templates, addresses) = (Templates::new(template, overlays), Arc::default());
        let config = rendered_by(renderer, &templates, &first(inputs, &addresses)).await?;
        Ok(config.for_each_epoch(templates, inputs, &addresses, Some(renderer)))
    }

    /// The same configuration, which knows how each epoch gets a text of its own where it has one.
    fn for_each_epoch(
        mut self,
        templates: Templates,
        inputs: &Inputs,
        addresses: &Mutex<Addresses>,
        renderer: Option<&Renderer>,
    ) -> Self {
        if templates.all().any(|template| template.mentions("epoch")) {
            let addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            self.per_epoch = Some(Arc::new(PerEpoch {
                templates,
                env: inputs.env.clone(),
                node_id: inputs.node_id.clone(),
                private_ips: inputs.private_ips.clone(),
                addresses: addresses.clone(),
                renderer: renderer.cloned(),
            }));
        }
        self
    }
}

/// What epoch 0 may use, with each address noted that is resolved.
fn first(inputs: &Inputs, addresses: &Arc<Mutex<Addresses>>) -> Inputs {
    let resolver = inputs.resolver.clone();
    Inputs {
        epoch: Some(0),
        resolver: resolver.map(|resolver| remembering(resolver, Arc::clone(addresses))),
        ..inputs.clone()
    }
}

impl PerEpoch {
    async fn render(self: Arc<Self>, epoch: u32) -> Result<EnvoyConfig, RenderFailed> {
        if let Some(renderer) = &self.renderer {
            let inputs = self.inputs(epoch);
            return Ok(rendered_by(renderer, &self.templates, &inputs).await?);
        }
        let rendering = move || rendered(&self.templates, &self.inputs(epoch));
        Ok(offload(rendering).await??)
    }

    /// What this epoch may use.
    fn inputs(&self, epoch: u32) -> Inputs {
        let addresses = self.addresses.clone();
        Inputs {
            env: self.env.clone(),
            epoch: Some(epoch),
            node_id: self.node_id.clone(),
            private_ips: self.private_ips.clone(),
            resolver: Some(Arc::new(move |host| {
                addresses
                    .get(host)
                    .copied()
                    .ok_or_else(|| NotAskedBefore.into())
            })),
        }
    }
}

/// The configuration as this epoch runs it. It is rendered on a thread of its own, because a large
/// template takes its time.
pub(super) async fn for_epoch(
    config: Arc<EnvoyConfig>,
    epoch: Epoch,
) -> Result<Arc<EnvoyConfig>, EnvoyFailed> {
    let Some(per_epoch) = config.per_epoch.clone() else {
        return Ok(config);
    };
    let failed = |source| EnvoyFailed::Render {
        config: config.source().to_owned(),
        epoch,
        source,
    };
    let number = epoch.number();
    match per_epoch.render(number).await {
        Ok(rendered) => Ok(Arc::new(rendered)),
        Err(error) => Err(failed(error)),
    }
}

fn rendered(templates: &Templates, inputs: &Inputs) -> Result<EnvoyConfig, RenderError> {
    let texts = templates.all().map(|template| template.render(inputs));
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    Ok(configuration(templates, texts)?)
}

async fn rendered_by(
    renderer: &Renderer,
    templates: &Templates,
    inputs: &Inputs,
) -> Result<EnvoyConfig, RenderError> {
    let mut texts = Vec::new();
    for template in templates.all() {
        texts.push(renderer.render(template, inputs).await?);
    }
    let templates = templates.clone();
    // What is rendered can be large, and this may be the thread of a control loop.
    let parsed = offload(move || configuration(&templates, texts)).await;
    Ok(parsed.map_err(RenderError::NotRead)??)
}

/// The configuration that these texts are, one for each template.
fn configuration(templates: &Templates, texts: Vec<String>) -> Result<EnvoyConfig, ConfigError> {
    let mut texts = texts.into_iter();
    let (path, text) = (templates.main.path(), texts.next().unwrap_or_default());
    if templates.overlays.is_empty() {
        return EnvoyConfig::parse_as(path, text.into_bytes(), Format::of_template(path));
    }
    let texts: Vec<_> = texts.collect();
    let overlays = templates.overlays.iter().zip(&texts);
    let overlays: Vec<_> = overlays
        .map(|(template, text)| layer(template.path(), text))
        .collect();
    let merged = merge(layer(path, &text), &overlays, &AtomicBool::new(false))?;
    EnvoyConfig::parse_as(path, merged, Format::Yaml)
}

fn layer<'a>(path: &'a Path, text: &'a str) -> Layer<'a> {
    Layer::new(path, text.as_bytes(), Format::of_template(path))
}

/// A resolver that asks for each name once.
fn remembering(resolver: Resolver, addresses: Arc<Mutex<Addresses>>) -> Resolver {
    Arc::new(move |host| {
        let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = addresses.get(host) {
            return Ok(*address);
        }
        let address = resolver(host)?;
        addresses.insert(host.to_owned(), address);
        Ok(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU16, Ordering};

    const ADMIN: &str = "admin: {address: {pipe: {path: /a}}}\n";

    fn template(text: &str) -> Template {
        Template::new(Path::new("/etc/envoy.yaml.j2"), format!("{ADMIN}{text}"))
    }

    /// A resolver whose answer has another port each time.
    fn inputs() -> Inputs {
        let asked = AtomicU16::new(0);
        Inputs {
            resolver: Some(Arc::new(move |_| {
                let port = asked.fetch_add(1, Ordering::Relaxed);
                Ok(([10, 0, 0, 1], port).into())
            })),
            ..Inputs::default()
        }
    }

    fn text(config: &EnvoyConfig) -> String {
        let text = String::from_utf8(config.content().to_vec()).unwrap();
        text.strip_prefix(ADMIN).unwrap().to_owned()
    }

    async fn text_of(config: &Arc<EnvoyConfig>, epoch: u32) -> Result<String, EnvoyFailed> {
        let rendered = for_epoch(Arc::clone(config), Epoch::new(epoch)).await?;
        Ok(text(&rendered))
    }

    #[tokio::test]
    async fn each_epoch_has_a_text_of_its_own_and_the_same_addresses() {
        let template = template("a: {{ resolve('x:1') }}-{{ epoch }} {{ resolve('x:1') }}");
        let config = EnvoyConfig::render(&template, &inputs()).unwrap();
        let config = Arc::new(config);
        assert_eq!(config.format(), Format::Yaml);
        assert_eq!(text(&config), "a: 10.0.0.1:0-0 10.0.0.1:0");
        assert_eq!(
            text_of(&config, 7).await.unwrap(),
            "a: 10.0.0.1:0-7 10.0.0.1:0"
        );
    }

    #[test]
    fn two_are_equal_when_every_epoch_gets_the_same() {
        let template_text = "a: {% if epoch > 0 %}{{ env.LATER }}{% endif %}";
        let with = |text: &str, later: &str| {
            let env = [("LATER".to_owned(), later.to_owned())].into();
            EnvoyConfig::render(&template(text), &Inputs { env, ..inputs() }).unwrap()
        };
        let one = with(template_text, "1");
        assert_eq!(one, with(template_text, "1"));
        let other = with(template_text, "2");
        assert_eq!(one.content(), other.content());
        assert_ne!(one, other);
        assert_ne!(
            one,
            with("a: {% if epoch > 1 %}{{ env.LATER }}{% endif %}", "1")
        );
        // Without the number only the text counts.
        assert_eq!(with("a: 1", "1"), with("a: {{ 0 + 1 }}", "2"));
    }

    #[test]
    fn another_address_is_another_configuration() {
        let (inputs, template) = (inputs(), template("a: {{ resolve('x:1') }}"));
        let first = EnvoyConfig::render(&template, &inputs).unwrap();
        assert_ne!(first, EnvoyConfig::render(&template, &inputs).unwrap());
    }

    #[tokio::test]
    async fn an_epoch_that_cannot_be_rendered_fails_for_good_and_tells_why() {
        for (text, reason) in [
            (
                "a: {% if epoch == 2 %}{{ env.NO }}{% endif %}",
                "NO is not set",
            ),
            (
                "a: {% if epoch == 2 %}{{ resolve('y:1') }}{% endif %}",
                "\"y:1\"",
            ),
            ("{% if epoch == 2 %}admin: 1{% endif %}", "cannot use"),
        ] {
            let config = Arc::new(EnvoyConfig::render(&template(text), &inputs()).unwrap());
            text_of(&config, 1).await.unwrap();
            let error = text_of(&config, 2).await.unwrap_err();
            assert!(error.is_permanent() && error.is_rejection());
            assert_eq!(
                error.to_string(),
                "/etc/envoy.yaml.j2: cannot be rendered for epoch 2"
            );
            let source = handover_tokio::error_chain(std::error::Error::source(&error).unwrap());
            assert!(source.contains(reason), "{source}");
        }
    }
}
