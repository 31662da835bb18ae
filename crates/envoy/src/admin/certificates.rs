//! Which certificates an Envoy has fetched and does not use, because it has refused them.
//!
//! The statistics of a source do not tell that. Envoy refuses a certificate once, and counts it in
//! `update_rejected`. It takes the same certificate for one that has not changed when it comes again, and
//! counts that as a success, with its version. A control plane over REST sends it again with each
//! question, and one over gRPC with each change of something else. So what Envoy was sent is compared with what
//! its TLS contexts hold:
//!
//! | source | shows |
//! | --- | --- |
//! | `sds.*.update_rejected` in `/stats` | whether some certificate was refused; also by the parent, until its last flush |
//! | secrets in `/config_dump` | what was sent last, whether Envoy has taken it or not |
//! | `/certs` | the certificates of all TLS contexts of this process |
//! | `*.ssl_context_update_by_sds` in `/stats` | whether a listener or cluster has ever got a context from what was fetched |
//! | `*.ssl.certificate.*` in `/stats` | which fetched certificates a listener or cluster has tried |
//!
//! Only the first one is asked for as long as nothing was refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::evidence::subscription;

/// Whether a certificate was refused, and how often those of a listener or cluster were replaced.
pub(super) const COUNTERS: &str =
    r"^(sds\..*\.update_rejected|(listener|cluster)\..*\.ssl_context_update_by_sds)$";

/// Which certificates a listener or cluster has tried.
pub(super) const TRIED: &str =
    r"^(listener|cluster)\..*\.ssl\.certificate\..*\.expiration_unix_time_seconds$";

/// The query for the fetched certificates, without private keys or anything else.
pub(super) const SECRETS: &str = concat!(
    "?resource=dynamic_active_secrets&mask=name,secret.tls_certificate.certificate_chain,",
    "secret.validation_context.trusted_ca"
);

/// The path that `/certs` has for a certificate that came with its source.
const INLINE: &str = "<inline>";

/// The certificates that were fetched and are in no use, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// Those of which no TLS context holds what was sent last. One may still hold what was sent before.
    pub(crate) refused: Vec<String>,
    /// Those of them that were never of use.
    pub(crate) never_used: Vec<String>,
}

/// Returns the names, as in the statistics, of the secrets that Envoy has refused at some time.
pub(super) fn rejected(counters: &[(String, u64)]) -> BTreeSet<String> {
    let counted = counters.iter().filter(|(_, count)| *count > 0);
    let names = counted.filter_map(|(name, _)| {
        let name = name.strip_prefix("sds.")?;
        name.strip_suffix(".update_rejected")
    });
    names.map(str::to_owned).collect()
}

/// The fetched certificates of `/config_dump`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Secrets {
    configs: Vec<Secret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Secret {
    name: String,
    secret: Content,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    tls_certificate: Option<TlsCertificate>,
    validation_context: Option<ValidationContext>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TlsCertificate {
    certificate_chain: DataSource,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ValidationContext {
    trusted_ca: DataSource,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DataSource {
    filename: Option<String>,
    inline_string: Option<String>,
    inline_bytes: Option<String>,
}

/// The certificates of `/certs`: one entry for each TLS context.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Contexts {
    certificates: Vec<Context>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    ca_cert: Vec<Held>,
    cert_chain: Vec<Held>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Held {
    path: String,
    serial_number: String,
}

impl Held {
    fn identity(&self) -> Identity {
        match self.path.as_str() {
            INLINE => Identity::Serial(normal(&self.serial_number)),
            path => Identity::File(path.to_owned()),
        }
    }
}

/// By what a certificate is known again.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    File(String),
    /// The serial number, in hexadecimal digits.
    Serial(String),
}

/// What was sent as certificates.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    These(BTreeSet<Identity>),
    /// Something that is no certificate.
    Garbage,
    /// Nothing, or something by which none can be known again.
    Unknown,
}

impl DataSource {
    fn sent(&self) -> Sent {
        if let Some(path) = &self.filename {
            return Sent::These([Identity::File(path.clone())].into());
        }
        let bytes = self.inline_bytes.as_ref().map(|bytes| decoded(bytes));
        let text = match (&self.inline_string, bytes) {
            (Some(text), _) => text.clone(),
            (None, Some(Some(bytes))) => String::from_utf8_lossy(&bytes).into_owned(),
            (None, Some(None) | None) => return Sent::Unknown,
        };
        let mut serials = BTreeSet::new();
        for certificate in certificates(&text) {
            match serial_number(&certificate) {
                Some(Serial::Positive(serial)) => serials.insert(Identity::Serial(serial)),
                Some(Serial::Negative) => return Sent::Unknown,
                None => continue,
            };
        }
        match serials.is_empty() {
            true => Sent::Garbage,
            false => Sent::These(serials),
        }
    }
}

/// Judges what was sent by what is held.
///
/// A refusal is counted for the secret that came last, and the fault may be that of another one with which it
/// makes a context. So each secret counts once any was refused, but for an authority: many contexts may share
/// one, and some hold only the first of its certificates. It counts if it was refused itself, or if it is none.
pub(super) fn judge(
    rejected: &BTreeSet<String>,
    secrets: &Secrets,
    contexts: &Contexts,
) -> Vec<String> {
    let all = |of: fn(&Context) -> &Vec<Held>| {
        let each = contexts.certificates.iter().flat_map(of);
        each.map(Held::identity).collect::<BTreeSet<_>>()
    };
    let (chains, authorities) = (all(|it| &it.cert_chain), all(|it| &it.ca_cert));
    let unused = secrets.configs.iter().filter(|secret| {
        let is_rejected = rejected.contains(&statistics_name(&secret.name));
        let content = &secret.secret;
        let chain = content.tls_certificate.as_ref();
        let authority = content.validation_context.as_ref();
        let is_unused = |sent: Sent, held: &BTreeSet<Identity>, counts: bool| match sent {
            Sent::These(sent) => counts && sent.is_disjoint(held),
            Sent::Garbage => true,
            Sent::Unknown => false,
        };
        chain.is_some_and(|it| is_unused(it.certificate_chain.sent(), &chains, true))
            || authority
                .is_some_and(|it| is_unused(it.trusted_ca.sent(), &authorities, is_rejected))
    });
    unused.map(|secret| secret.name.clone()).collect()
}

/// Tells which of the `unused` secrets were never of use.
///
/// One was of use where a listener or cluster has tried it, and has got a context as often as it has fetched
/// certificates. Each that comes makes one, and one that is refused makes none. But a neighbour that is renewed
/// makes one as well. So some context must also hold what no secret has now: what was sent before.
pub(super) fn told(
    unused: &[String],
    secrets: &Secrets,
    contexts_now: &Contexts,
    counters: &[(String, u64)],
    tried: &[(String, u64)],
) -> Certificates {
    let fetched: BTreeSet<&str> = (secrets.configs.iter())
        .map(|secret| secret.name.as_str())
        .collect();
    let mut by_scope: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (gauge, _) in tried {
        let parts = gauge.split_once(".ssl.certificate.");
        let Some((scope, name)) = parts.and_then(|(scope, name)| {
            Some((scope, name.strip_suffix(".expiration_unix_time_seconds")?))
        }) else {
            continue;
        };
        if fetched.contains(name) {
            by_scope.entry(scope).or_default().insert(name);
        }
    }
    let contexts = |scope: &str| {
        let of_scope = counters.iter().filter(|(name, _)| {
            let rest = name.strip_prefix(scope);
            rest.is_some_and(|rest| {
                rest.starts_with('.') && rest.ends_with(".ssl_context_update_by_sds")
            })
        });
        of_scope.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count))
    };
    let holds_older = holds_what_was_sent_before(secrets, contexts_now);
    let was_used = |name: &str| {
        holds_older
            && by_scope.iter().any(|(scope, names)| {
                let fetched = u64::try_from(names.len()).unwrap_or(u64::MAX);
                names.contains(name) && contexts(scope) >= fetched
            })
    };
    let words = |name: &String| subscription(&format!("sds.{}", statistics_name(name)));
    let never_used = unused.iter().filter(|name| !was_used(name));
    Certificates {
        refused: unused.iter().map(words).collect(),
        never_used: never_used.map(words).collect(),
    }
}

/// Returns whether some context holds a certificate or an authority that no secret has now. One that the
/// configuration itself holds looks the same.
fn holds_what_was_sent_before(secrets: &Secrets, contexts: &Contexts) -> bool {
    let mut sent = BTreeSet::new();
    for secret in &secrets.configs {
        let chain = secret.secret.tls_certificate.as_ref();
        let chain = chain.map(|it| it.certificate_chain.sent());
        let authority = secret.secret.validation_context.as_ref();
        let authority = authority.map(|it| it.trusted_ca.sent());
        for these in chain.into_iter().chain(authority) {
            match these {
                Sent::These(these) => sent.extend(these),
                Sent::Garbage => {}
                // What it is may be what is held.
                Sent::Unknown => return true,
            }
        }
    }
    let mut held = contexts.certificates.iter().flat_map(|context| {
        let authorities = context.ca_cert.iter();
        authorities.chain(&context.cert_chain)
    });
    held.any(|held| !sent.contains(&held.identity()))
}

/// Returns what Envoy makes of a name in the statistics of a source.
fn statistics_name(name: &str) -> String {
    name.replace("://", "_")
        .replace(":/", "_")
        .replace(':', "_")
}

/// Returns the certificates of a text in the PEM format, each in DER.
fn certificates(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let parts = text.split("-----BEGIN ").skip(1);
    parts.filter_map(|part| {
        let (label, rest) = part.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        label
            .ends_with("CERTIFICATE")
            .then(|| decoded(body))
            .flatten()
    })
}

/// Decodes base64. White space does not count. `None` if there is anything else in it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    let digits = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for digit in digits.take_while(|byte| *byte != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.extend(u8::try_from((bits >> count) & 0xff));
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// The serial number of a certificate.
#[derive(Debug, PartialEq, Eq)]
enum Serial {
    Positive(String),
    /// No authority may give such a number, and Envoy does not write it as it is.
    Negative,
}

/// Reads the serial number of a certificate in DER. It is the first field that is not the version.
fn serial_number(certificate: &[u8]) -> Option<Serial> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    const INTEGER: u8 = 0x02;
    let (tag, certificate, _) = element(certificate)?;
    let (inner_tag, fields, _) = element(certificate)?;
    if (tag, inner_tag) != (SEQUENCE, SEQUENCE) {
        return None;
    }
    let (first, value, rest) = element(fields)?;
    let (tag, number) = match first {
        VERSION => element(rest).map(|(tag, number, _)| (tag, number))?,
        _ => (first, value),
    };
    if tag != INTEGER || number.is_empty() {
        return None;
    }
    if number.first().is_some_and(|byte| *byte >= 0x80) {
        return Some(Serial::Negative);
    }
    let digits: Vec<String> = number.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Serial::Positive(normal(&digits.concat())))
}

/// Splits an element of DER into its tag, its value, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // A certificate has at most three bytes of length, and no open one.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            let length = length.iter();
            let length = length.fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

/// A number in hexadecimal digits, as each writer writes it.
fn normal(digits: &str) -> String {
    let digits = digits.trim_start_matches('0');
    digits.to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
