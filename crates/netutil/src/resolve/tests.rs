use std::{
    error::Error,
    future::pending,
    io,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use insta::assert_snapshot;
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn an_ip_address_is_its_own_answer_and_no_resolver_is_asked() {
    let nobody = Answers::new(&[]);
    for (addr, expected) in [
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("[::]:0", "[::]:0"),
        ("[::ffff:192.0.2.1]:8080", "[::ffff:192.0.2.1]:8080"),
        ("[fe80::1%7]:443", "[fe80::1%7]:443"),
        ("[fe80::1%0]:443", "[fe80::1]:443"),
        ("192.0.2.1:0080", "192.0.2.1:80"),
        ("[127.0.0.1]:80", "127.0.0.1:80"),
    ] {
        let resolved = resolve_addr_with(&nobody, addr, RESOLVE_LIMIT).await;
        assert_eq!(
            resolved.map(|addr| addr.to_string()).ok().as_deref(),
            Some(expected),
            "{addr}"
        );
    }
    assert!(nobody.asked().is_empty());
}

#[tokio::test]
async fn a_zone_is_found_by_the_name_of_its_interface() {
    let index = getifaddrs::if_nametoindex("lo").expect("every Linux network namespace has lo");
    let resolved = resolve_addr("[fe80::1%lo]:80").await;
    assert_eq!(
        resolved.ok(),
        Some(format!("[fe80::1%{index}]:80").parse().unwrap())
    );
}

#[tokio::test]
async fn the_first_ipv4_address_wins_over_any_ipv6_address() {
    let answers = Answers::new(&["[2001:db8::1]:80", "192.0.2.2:80", "192.0.2.1:80"]);
    let resolved = resolve_addr_with(&answers, "host.example:80", RESOLVE_LIMIT).await;
    assert_eq!(resolved.ok(), Some("192.0.2.2:80".parse().unwrap()));
}

#[tokio::test]
async fn without_ipv4_the_first_ipv6_address_wins_and_keeps_its_zone() {
    let answers = Answers::new(&["[fe80::2%3]:80", "[2001:db8::1]:80"]);
    let resolved = resolve_addr_with(&answers, "host.example:80", RESOLVE_LIMIT).await;
    assert_eq!(resolved.ok(), Some("[fe80::2%3]:80".parse().unwrap()));
}

#[tokio::test]
async fn the_resolver_is_asked_for_the_name_as_it_was_given() {
    let answers = Answers::new(&["192.0.2.1:80"]);
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let names = [
        "localhost",
        "Host_1.example",
        "absolute.example.",
        "3com",
        "xn--bcher-kva.example",
        &longest,
    ];
    for name in names {
        let resolved = resolve_addr_with(&answers, &format!("{name}:80"), RESOLVE_LIMIT).await;
        assert!(resolved.is_ok(), "{name}");
    }
    assert_eq!(answers.asked(), names.map(|name| (name.to_owned(), 80)));
}

#[tokio::test]
async fn a_host_name_in_brackets_is_looked_up_without_them() {
    let answers = Answers::new(&["192.0.2.1:9080"]);
    let resolved = resolve_addr_with(&answers, "[localhost]:9080", RESOLVE_LIMIT).await;
    assert_eq!(resolved.ok(), Some("192.0.2.1:9080".parse().unwrap()));
    assert_eq!(answers.asked(), [("localhost".to_owned(), 9080)]);
}

#[tokio::test]
async fn a_service_stands_for_its_port_with_a_name_and_with_an_address() {
    let answers = Answers::new(&["192.0.2.1:80"]);
    let resolved = resolve_addr_with(&answers, "localhost:http", RESOLVE_LIMIT).await;
    assert_eq!(resolved.ok(), Some("192.0.2.1:80".parse().unwrap()));
    assert_eq!(answers.asked(), [("localhost".to_owned(), 80)]);
    for (addr, expected) in [
        ("192.0.2.1:http", "192.0.2.1:80"),
        ("[::1]:http-alt", "[::1]:8080"),
    ] {
        let resolved = resolve_addr_with(&answers, addr, RESOLVE_LIMIT).await;
        assert_eq!(resolved.ok(), Some(expected.parse().unwrap()), "{addr}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_known_is_named() {
    let nobody = Answers::new(&[]);
    let error = resolve_addr_with(&nobody, "[::1]:8o", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_snapshot!(error, @r#""8o" in "[::1]:8o" is not a TCP service that this system knows; use a decimal number from 0 to 65535, or a name from /etc/services"#);
    assert!(nobody.asked().is_empty());
}

/// A minimal container has no `/etc/services`: then the system knows no service, and says so.
#[tokio::test]
async fn the_system_either_knows_http_or_says_that_it_does_not() {
    match resolve_addr("127.0.0.1:http").await {
        Ok(resolved) => assert_eq!(resolved, "127.0.0.1:80".parse().unwrap()),
        Err(error) => assert!(
            matches!(error, ResolveError::UnknownService { .. }),
            "{error}"
        ),
    }
    let error = resolve_addr("127.0.0.1:no-such-service").await.unwrap_err();
    assert!(
        matches!(error, ResolveError::UnknownService { .. }),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_of_services_that_cannot_be_searched_is_an_error_with_its_cause() {
    let error = resolve_addr_with(&Broken, "127.0.0.1:http", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_snapshot!(error, @r#"the lookup of the port of "http" for "127.0.0.1:http" failed; use a decimal number"#);
    assert_snapshot!(error.source().unwrap(), @"the resolver is out of order");

    let started = Instant::now();
    let error = resolve_addr_with(&Silent, "127.0.0.1:http", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_eq!(started.elapsed(), RESOLVE_LIMIT);
    assert_snapshot!(error.source().unwrap(), @"no answer came within 15s");
}

#[tokio::test(start_paused = true)]
async fn the_lookup_of_a_host_has_the_time_that_the_service_has_left() {
    let started = Instant::now();
    let error = resolve_addr_with(&SlowService, "host.example:http", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_eq!(started.elapsed(), RESOLVE_LIMIT);
    assert!(
        matches!(error, ResolveError::TimedOut { limit, .. } if limit == RESOLVE_LIMIT),
        "{error}"
    );
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let resolved = resolve_addr("localhost:80")
        .await
        .expect("the hosts file has localhost");
    assert!(resolved.ip().is_loopback(), "{resolved}");
    assert_eq!(resolved.port(), 80);
}

#[tokio::test]
async fn a_resolver_can_be_passed_as_a_trait_object() {
    let answers: Box<dyn Lookup> = Box::new(Answers::new(&["192.0.2.1:80"]));
    assert!(
        resolve_addr_with(answers.as_ref(), "host:80", RESOLVE_LIMIT)
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_left_after_the_limit() {
    let started = Instant::now();
    let error = resolve_addr_with(&Silent, "host.example:80", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_secs(15));
    assert_snapshot!(error, @r#"the lookup of "host.example" for "host.example:80" did not end within 15s; check that the DNS servers can be reached"#);
}

#[tokio::test]
async fn a_failed_lookup_keeps_its_cause() {
    let error = resolve_addr_with(&Broken, "host.example:80", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_snapshot!(error, @r#"the lookup of "host.example" for "host.example:80" failed; check the name and the resolver's settings"#);
    assert_snapshot!(error.source().unwrap(), @"the resolver is out of order");
}

#[tokio::test]
async fn a_host_without_addresses_is_an_error_of_its_own() {
    let nobody = Answers::new(&[]);
    let error = resolve_addr_with(&nobody, "host.example:80", RESOLVE_LIMIT)
        .await
        .unwrap_err();
    assert_snapshot!(error, @r#""host.example" of "host.example:80" has neither an IPv4 nor an IPv6 address; check its DNS records"#);
}

#[test]
fn no_address_is_an_error_of_its_own() {
    assert_snapshot!(errors(["", "  ", "\n"]), @r#"
    no address specified; give a host and a port, such as "example.com:80"
    no address specified; give a host and a port, such as "example.com:80"
    no address specified; give a host and a port, such as "example.com:80"
    "#);
}

#[test]
fn a_missing_host_or_port_is_named() {
    assert_snapshot!(
        errors([
            ":80", "[]:80", "example.com", "example.com:", "192.0.2.1", "[::1]", "[::1]:",
            "[::1]80",
        ]),
        @r#"
        ":80" has no host; put one before the port, such as "example.com:80"
        "[]:80" has no host; put one before the port, such as "example.com:80"
        "example.com" has no port; append one, such as ":80"
        "example.com:" has no port; append one, such as ":80"
        "192.0.2.1" has no port; append one, such as ":80"
        "[::1]" has no port; append one, such as ":80"
        "[::1]:" has no port; append one, such as ":80"
        "[::1]80" has no port; append one, such as ":80"
        "#
    );
}

#[test]
fn a_bad_port_is_named() {
    assert_snapshot!(
        errors([
            "host:65536", "host:-1", "host:+80", "host:-http", "[::1]:80/tcp",
            "host:99999999999999999999",
        ]),
        @r#"
        "65536" in "host:65536" is not a port; use a decimal number from 0 to 65535 or the name of a service, such as "http"
        "-1" in "host:-1" is not a port; use a decimal number from 0 to 65535 or the name of a service, such as "http"
        "+80" in "host:+80" is not a port; use a decimal number from 0 to 65535 or the name of a service, such as "http"
        "-http" in "host:-http" is not a port; use a decimal number from 0 to 65535 or the name of a service, such as "http"
        "80/tcp" in "[::1]:80/tcp" is not a port; use a decimal number from 0 to 65535 or the name of a service, such as "http"
        "99999999999999999999" in "host:99999999999999999999" is not a port; use a decimal number from 0 to 65535 or the name of a service, such as "http"
        "#
    );
}

#[test]
fn brackets_must_be_a_pair_around_ipv6() {
    assert_snapshot!(
        errors([
            "[::1:80", "::1]:80", "[[::1]:80", "[[::1]]:80", "[::1]]:80", "host[::1]:80", "[::1]:[80]",
            "::1", "::1:80", "2001:db8::1", "host:80:90", "fe80::1%lo:80",
            "[::g]:80", "[localhost%lo]:80", "[127.0.0.1%lo]:80",
        ]),
        @r#"
        "[::1:80" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "::1]:80" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "[[::1]:80" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "[[::1]]:80" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "[::1]]:80" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "host[::1]:80" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "[::1]:[80]" has unbalanced square brackets; write the host without brackets, or inside one pair, such as "[::1]:80"
        "::1" has more than one colon; if it is an IPv6 address, enclose it in square brackets, such as "[::1]:80"
        "::1:80" has more than one colon; if it is an IPv6 address, enclose it in square brackets, such as "[::1]:80"
        "2001:db8::1" has more than one colon; if it is an IPv6 address, enclose it in square brackets, such as "[::1]:80"
        "host:80:90" has more than one colon; if it is an IPv6 address, enclose it in square brackets, such as "[::1]:80"
        "fe80::1%lo:80" has more than one colon; if it is an IPv6 address, enclose it in square brackets, such as "[::1]:80"
        "[::g]:80" has no valid host: a colon or a zone inside square brackets makes it an IPv6 address; correct it
        "[localhost%lo]:80" has no valid host: a colon or a zone inside square brackets makes it an IPv6 address; correct it
        "[127.0.0.1%lo]:80" has no valid host: a colon or a zone inside square brackets makes it an IPv6 address; correct it
        "#
    );
}

#[test]
fn a_zone_must_be_an_interface_or_a_number() {
    assert_snapshot!(
        errors([
            "[fe80::1%]:80", "[fe80::1%no-such-if]:80", "[fe80::1%+1]:80",
            "[fe80::1%4294967296]:80", "[fe80::1%a%b]:80", "[fe80::1%\0]:80",
        ]),
        @r#"
        "" in "[fe80::1%]:80" is not an interface of this node; use a name or a number that "ip link" shows
        "no-such-if" in "[fe80::1%no-such-if]:80" is not an interface of this node; use a name or a number that "ip link" shows
        "+1" in "[fe80::1%+1]:80" is not an interface of this node; use a name or a number that "ip link" shows
        "4294967296" in "[fe80::1%4294967296]:80" is not an interface of this node; use a name or a number that "ip link" shows
        "a%b" in "[fe80::1%a%b]:80" is not an interface of this node; use a name or a number that "ip link" shows
        "\0" in "[fe80::1%\0]:80" is not an interface of this node; use a name or a number that "ip link" shows
        "#
    );
}

#[test]
fn what_cannot_be_a_host_never_reaches_the_resolver() {
    assert_snapshot!(
        errors([
            " host:80", "host:80\n", "ho st:80", "http://host:80", "host/path:80", "user@host:80",
            "bücher.example:80", "fe80%lo:80", "a..b:80", ".a:80", ".:80", "a..:80",
            "256.0.0.1:80", "10.1:80", "1:80", "127.0.0.01:80", "0x7f.0xA1:80", "127.0.0.1.:80",
        ]),
        @r#"
        " host:80" has no valid host: it contains white space; remove it
        "host:80\n" has no valid host: it contains white space; remove it
        "ho st:80" has no valid host: it contains white space; remove it
        "http://host:80" has no valid host: a scheme comes before it; remove everything up to and including "//"
        "host/path:80" has no valid host: '/' cannot be in a host name; use ASCII letters, digits, '-' and '_', and the "xn--" form of other names
        "user@host:80" has no valid host: '@' cannot be in a host name; use ASCII letters, digits, '-' and '_', and the "xn--" form of other names
        "bücher.example:80" has no valid host: 'ü' cannot be in a host name; use ASCII letters, digits, '-' and '_', and the "xn--" form of other names
        "fe80%lo:80" has no valid host: '%' cannot be in a host name; use ASCII letters, digits, '-' and '_', and the "xn--" form of other names
        "a..b:80" has no valid host: each part between two dots must have 1 to 63 characters
        ".a:80" has no valid host: each part between two dots must have 1 to 63 characters
        ".:80" has no valid host: each part between two dots must have 1 to 63 characters
        "a..:80" has no valid host: each part between two dots must have 1 to 63 characters
        "256.0.0.1:80" has no valid host: its last part is a number, so it must be an IPv4 address with four numbers up to 255
        "10.1:80" has no valid host: its last part is a number, so it must be an IPv4 address with four numbers up to 255
        "1:80" has no valid host: its last part is a number, so it must be an IPv4 address with four numbers up to 255
        "127.0.0.01:80" has no valid host: its last part is a number, so it must be an IPv4 address with four numbers up to 255
        "0x7f.0xA1:80" has no valid host: its last part is a number, so it must be an IPv4 address with four numbers up to 255
        "127.0.0.1.:80" has no valid host: its last part is a number, so it must be an IPv4 address with four numbers up to 255
        "#
    );
}

#[test]
fn an_over_long_name_never_reaches_the_resolver() {
    let reason = |addr: &str| match Authority::parse(addr) {
        Err(ResolveError::BadHost { reason, .. }) => Some(reason),
        _ => None,
    };
    let part = "a".repeat(64);
    assert_eq!(
        reason(&format!("{part}.example:80")),
        Some(HostError::PartLength)
    );
    let name = "abc.".repeat(63);
    assert_eq!(reason(&format!("{name}a:80")), None);
    assert_eq!(reason(&format!("{name}a.:80")), None);
    assert_eq!(reason(&format!("{name}ab:80")), Some(HostError::TooLong));
}

/// The messages for these addresses, a line each.
fn errors<const N: usize>(addrs: [&str; N]) -> String {
    let message = |addr| match Authority::parse(addr) {
        Ok(parsed) => format!("{addr:?} was parsed as {parsed:?}"),
        Err(error) => error.to_string(),
    };
    addrs.map(message).join("\n")
}

/// Gives the same answer to each question, and remembers the questions.
struct Answers {
    answer: Vec<SocketAddr>,
    asked: Mutex<Vec<(String, u16)>>,
}

impl Answers {
    fn new(answer: &[&str]) -> Self {
        let answer = answer.iter().map(|addr| addr.parse().unwrap()).collect();
        Self {
            answer,
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> Vec<(String, u16)> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl Lookup for Answers {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push((host.to_owned(), port));
        Ok(self.answer.clone())
    }

    async fn service(&self, name: &str) -> io::Result<Option<u16>> {
        Ok(match name {
            "http" => Some(80),
            "http-alt" => Some(8080),
            _ => None,
        })
    }
}

/// Knows a service after ten seconds, and never answers for a host.
struct SlowService;

#[async_trait]
impl Lookup for SlowService {
    async fn lookup(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        pending().await
    }

    async fn service(&self, _name: &str) -> io::Result<Option<u16>> {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(Some(80))
    }
}

/// Never answers.
struct Silent;

#[async_trait]
impl Lookup for Silent {
    async fn lookup(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        pending().await
    }

    async fn service(&self, _name: &str) -> io::Result<Option<u16>> {
        pending().await
    }
}

/// Always fails.
struct Broken;

#[async_trait]
impl Lookup for Broken {
    async fn lookup(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("the resolver is out of order"))
    }

    async fn service(&self, _name: &str) -> io::Result<Option<u16>> {
        Err(io::Error::other("the resolver is out of order"))
    }
}
