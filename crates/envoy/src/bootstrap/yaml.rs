//! A walk over a YAML document that keeps what is needed and passes over the rest.
//!
//! Nothing is built of what is passed over. An alias at a needed place is followed: what has an
//! anchor is noted on a tape while it is passed, and is read from there. Everything else costs the
//! time to read it, and no memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use granit_parser::{Event, ScalarStyle, Span};

use super::BootstrapError;
use super::events::{Events, Problem};
use super::shape::{
    AdditionalAddress, Address, Admin, Cluster, Document, FromText, ListMatcher, Listener, Pipe,
    RegexMatcher, SocketAddress, StaticResources, StatsConfig, StatsMatcher, StringMatcher,
    UdpListenerConfig,
};

/// Reads the first document of a text. `most_anchored` is the most nodes that an anchor may be on or
/// around.
pub(super) fn read(
    text: &str,
    cancelled: &AtomicBool,
    most_anchored: usize,
) -> Result<Document, BootstrapError> {
    let mut walk = Walk {
        events: Events::new(text, cancelled),
        span: Span::default(),
        tape: Vec::new(),
        longest_tape: most_anchored,
        anchors: BTreeMap::new(),
        open: Vec::new(),
        replays: Vec::new(),
    };
    let document = walk.message(Walk::document)?;
    // A fault between the last node and the end of the document is one all the same.
    while walk.events.next()?.is_some() {}
    document.ok_or(BootstrapError::Empty)
}

/// A node before its contents, or an end.
#[derive(Clone)]
enum Node<'a> {
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
    },
    /// With the place on the tape after its end, where it comes from there.
    Sequence(Option<usize>),
    /// As a sequence.
    Mapping(Option<usize>),
    /// The end of the collection around it, or of the document.
    End,
    /// An alias of the node that begins at this place of the tape.
    Alias(usize),
}

impl Node<'_> {
    /// Whether it is the absence of a value, as Envoy's parser sees it.
    fn is_null(&self) -> bool {
        match self {
            Self::Scalar { text, plain } => {
                *plain && matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
            }
            Self::End => true,
            Self::Sequence(_) | Self::Mapping(_) | Self::Alias(_) => false,
        }
    }
}

struct Walk<'a> {
    events: Events<'a>,
    /// Where the last event was.
    span: Span,
    /// What has an anchor, with all that is in it.
    tape: Vec<Node<'a>>,
    longest_tape: usize,
    /// Where on the tape each anchor is.
    anchors: BTreeMap<usize, usize>,
    /// Where on the tape the collections are that are open.
    open: Vec<usize>,
    /// What is read of the tape, the innermost last; empty while the text is read.
    replays: Vec<Replay>,
}

/// A part of the tape that stands where an alias is.
struct Replay {
    next: usize,
    end: usize,
}

type Read<T> = Result<T, Problem>;

impl<'a> Walk<'a> {
    fn document(&mut self, key: &str, document: &mut Document) -> Read<()> {
        match key {
            "admin" => document.admin = self.message(Self::admin)?,
            "static_resources" | "staticResources" => {
                document.static_resources = self.message(Self::static_resources)?;
            }
            "stats_config" | "statsConfig" => {
                document.stats_config = self.message(Self::stats_config)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn stats_config(&mut self, key: &str, config: &mut StatsConfig) -> Read<()> {
        match key {
            "stats_matcher" | "statsMatcher" => {
                config.stats_matcher = self.message(Self::stats_matcher)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn stats_matcher(&mut self, key: &str, matcher: &mut StatsMatcher) -> Read<()> {
        match key {
            "reject_all" | "rejectAll" => matcher.reject_all = self.scalar(key)?,
            "exclusion_list" | "exclusionList" => {
                matcher.exclusion_list = self.message(Self::list_matcher)?;
            }
            "inclusion_list" | "inclusionList" => {
                matcher.inclusion_list = self.message(Self::list_matcher)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn list_matcher(&mut self, key: &str, list: &mut ListMatcher) -> Read<()> {
        match key {
            "patterns" => list.patterns = self.list(Self::string_matcher)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    fn admin(&mut self, key: &str, admin: &mut Admin) -> Read<()> {
        match key {
            "address" => admin.address = self.message(Self::address)?,
            "allow_paths" | "allowPaths" => {
                admin.allow_paths = self.list(Self::string_matcher)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn string_matcher(&mut self, key: &str, matcher: &mut StringMatcher) -> Read<()> {
        match key {
            "exact" => matcher.exact = self.scalar(key)?,
            "prefix" => matcher.prefix = self.scalar(key)?,
            "suffix" => matcher.suffix = self.scalar(key)?,
            "contains" => matcher.contains = self.scalar(key)?,
            "safe_regex" | "safeRegex" => {
                matcher.safe_regex = self.message(Self::regex_matcher)?;
            }
            "ignore_case" | "ignoreCase" => matcher.ignore_case = self.scalar(key)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    fn regex_matcher(&mut self, key: &str, matcher: &mut RegexMatcher) -> Read<()> {
        match key {
            "regex" => matcher.regex = self.scalar(key)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    fn static_resources(&mut self, key: &str, resources: &mut StaticResources) -> Read<()> {
        match key {
            "clusters" => resources.clusters = self.list(Self::cluster)?,
            "listeners" => {
                resources.listeners = self.list(Self::listener)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn cluster(&mut self, key: &str, cluster: &mut Cluster) -> Read<()> {
        match key {
            "name" => cluster.name = self.scalar(key)?,
            "alt_stat_name" | "altStatName" => cluster.alt_stat_name = self.scalar(key)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    fn listener(&mut self, key: &str, listener: &mut Listener) -> Read<()> {
        match key {
            "name" => listener.name = self.scalar(key)?,
            "stat_prefix" | "statPrefix" => listener.stat_prefix = self.scalar(key)?,
            "address" => listener.address = self.message(Self::address)?,
            "additional_addresses" | "additionalAddresses" => {
                listener.additional_addresses = self.list(Self::additional_address)?;
            }
            "enable_reuse_port" | "enableReusePort" => {
                listener.enable_reuse_port = self.scalar(key)?;
            }
            "traffic_direction" | "trafficDirection" => {
                listener.traffic_direction = self.scalar(key)?;
            }
            "internal_listener" | "internalListener" => {
                let node = self.node()?;
                listener.internal_listener = (!node.is_null()).then_some(serde::de::IgnoredAny);
                self.pass_rest(&node)?;
            }
            "udp_listener_config" | "udpListenerConfig" => {
                listener.udp_listener_config = self.message(Self::udp_listener_config)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn udp_listener_config(&mut self, key: &str, config: &mut UdpListenerConfig) -> Read<()> {
        match key {
            "quic_options" | "quicOptions" => {
                let node = self.node()?;
                config.quic_options = (!node.is_null()).then_some(serde::de::IgnoredAny);
                self.pass_rest(&node)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn additional_address(&mut self, key: &str, more: &mut AdditionalAddress) -> Read<()> {
        match key {
            "address" => more.address = self.message(Self::address)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    fn address(&mut self, key: &str, address: &mut Address) -> Read<()> {
        match key {
            "socket_address" | "socketAddress" => {
                address.socket_address = self.message(Self::socket_address)?;
            }
            "pipe" => address.pipe = self.message(Self::pipe)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    fn socket_address(&mut self, key: &str, address: &mut SocketAddress) -> Read<()> {
        match key {
            "address" => address.address = self.scalar(key)?,
            "port_value" | "portValue" => address.port_value = self.scalar(key)?,
            "protocol" => address.protocol = self.scalar(key)?,
            "network_namespace_filepath" | "networkNamespaceFilepath" => {
                address.network_namespace_filepath = self.scalar(key)?;
            }
            _ => self.pass()?,
        }
        Ok(())
    }

    fn pipe(&mut self, key: &str, pipe: &mut Pipe) -> Read<()> {
        match key {
            "path" => pipe.path = self.scalar(key)?,
            _ => self.pass()?,
        }
        Ok(())
    }

    /// A mapping whose values `field` reads, one call for each key, or `None` for null. The last of
    /// equal keys wins.
    fn message<T: Default>(
        &mut self,
        mut field: impl FnMut(&mut Self, &str, &mut T) -> Read<()>,
    ) -> Read<Option<T>> {
        let node = self.node()?;
        self.message_of(&node, &mut field)
    }

    fn message_of<T: Default>(
        &mut self,
        node: &Node<'a>,
        field: &mut impl FnMut(&mut Self, &str, &mut T) -> Read<()>,
    ) -> Read<Option<T>> {
        if node.is_null() {
            return Ok(None);
        }
        let Node::Mapping(_) = node else {
            return Err(self.wrong("expected a mapping"));
        };
        let mut message = T::default();
        loop {
            match self.node()? {
                Node::End => return Ok(Some(message)),
                Node::Scalar { text, .. } => field(self, &text, &mut message)?,
                Node::Sequence(_) | Node::Mapping(_) | Node::Alias(_) => {
                    return Err(self.wrong("expected text as the key"));
                }
            }
        }
    }

    /// A sequence of such mappings, or `None` for null.
    fn list<T: Default>(
        &mut self,
        mut field: impl FnMut(&mut Self, &str, &mut T) -> Read<()>,
    ) -> Read<Option<Vec<Option<T>>>> {
        let node = self.node()?;
        if node.is_null() {
            return Ok(None);
        }
        let Node::Sequence(_) = node else {
            return Err(self.wrong("expected a sequence"));
        };
        let mut items = Vec::new();
        loop {
            match self.node()? {
                Node::End => return Ok(Some(items)),
                node @ (Node::Scalar { .. }
                | Node::Sequence(_)
                | Node::Mapping(_)
                | Node::Alias(_)) => {
                    items.push(self.message_of(&node, &mut field)?);
                }
            }
        }
    }

    /// A value that is written as a scalar, or `None` for null.
    fn scalar<T: FromText>(&mut self, key: &str) -> Read<Option<T>> {
        let node = self.node()?;
        if node.is_null() {
            return Ok(None);
        }
        let value = match &node {
            Node::Scalar { text, .. } => T::from_text(text),
            Node::Sequence(_) | Node::Mapping(_) | Node::Alias(_) | Node::End => None,
        };
        match value {
            Some(value) => Ok(Some(value)),
            // Without the value, which could be a secret at the wrong place.
            None => Err(self.wrong(format!("expected {} as {key}", T::EXPECTED))),
        }
    }

    /// Passes over a node, an alias as itself.
    fn pass(&mut self) -> Read<()> {
        let node = self.step()?;
        self.pass_rest(&node)
    }

    /// Passes over what is in a node.
    fn pass_rest(&mut self, node: &Node<'a>) -> Read<()> {
        let (Node::Sequence(end) | Node::Mapping(end)) = node else {
            return Ok(());
        };
        if let (Some(end), Some(replay)) = (end, self.replays.last_mut()) {
            replay.next = *end;
            return Ok(());
        }
        let mut within = 1_usize;
        while within > 0 {
            match self.step()? {
                Node::Sequence(_) | Node::Mapping(_) => within += 1,
                Node::End => within -= 1,
                Node::Scalar { .. } | Node::Alias(_) => {}
            }
        }
        Ok(())
    }

    /// The next node, in place of an alias what it stands for.
    fn node(&mut self) -> Read<Node<'a>> {
        loop {
            match self.step()? {
                Node::Alias(place) => {
                    let end = match self.tape.get(place) {
                        Some(Node::Sequence(Some(end)) | Node::Mapping(Some(end))) => *end,
                        _ => place + 1,
                    };
                    self.replays.push(Replay { next: place, end });
                }
                node @ (Node::Scalar { .. } | Node::Sequence(_) | Node::Mapping(_) | Node::End) => {
                    return Ok(node);
                }
            }
        }
    }

    /// The next node or end, of the tape or of the text.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events are open to new ones, and what is no node is an end"
    )]
    fn step(&mut self) -> Read<Node<'a>> {
        while let Some(replay) = self.replays.last_mut() {
            if replay.next < replay.end
                && let Some(node) = self.tape.get(replay.next)
            {
                replay.next += 1;
                return Ok(node.clone());
            }
            self.replays.pop();
        }
        let Some((event, span)) = self.events.next()? else {
            return Ok(Node::End);
        };
        self.span = span;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                (Node::Scalar { text, plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Node::Sequence(None), anchor),
            Event::MappingStart(_, anchor, _) => (Node::Mapping(None), anchor),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(place) => (Node::Alias(*place), 0),
                None => return Err(self.wrong("an alias without an anchor")),
            },
            _ => (Node::End, 0),
        };
        if anchor != 0 || !self.open.is_empty() {
            self.note(node.clone(), anchor)?;
        }
        Ok(node)
    }

    /// Puts a node on the tape.
    fn note(&mut self, node: Node<'a>, anchor: usize) -> Read<()> {
        let place = self.tape.len();
        if place >= self.longest_tape {
            return Err(self.wrong(format!(
                "more than {} nodes with an anchor",
                self.longest_tape
            )));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, place);
        }
        match node {
            Node::Sequence(_) | Node::Mapping(_) => self.open.push(place),
            Node::End => {
                let begin = self.open.pop().and_then(|begin| self.tape.get_mut(begin));
                if let Some(Node::Sequence(end) | Node::Mapping(end)) = begin {
                    *end = Some(place + 1);
                }
            }
            Node::Scalar { .. } | Node::Alias(_) => {}
        }
        self.tape.push(node);
        Ok(())
    }

    fn wrong(&self, what: impl Into<Cow<'static, str>>) -> Problem {
        Problem::at(&self.span, what)
    }
}
