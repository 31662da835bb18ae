use serde_json::json;

use super::*;

/// A certificate with this serial number, in DER, as far as it is read: the fields after the number do not
/// matter.
fn der(version: bool, serial: &[u8]) -> Vec<u8> {
    let element = |tag: u8, value: &[u8]| {
        let mut bytes = vec![tag];
        match u8::try_from(value.len()).unwrap() {
            length @ 0..=0x7f => bytes.push(length),
            length => bytes.extend([0x81, length]),
        }
        bytes.extend(value);
        bytes
    };
    let version = if version {
        element(0xa0, &[2, 1, 2])
    } else {
        Vec::new()
    };
    let fields = [version, element(2, serial), element(0x30, &[0; 100])].concat();
    element(0x30, &element(0x30, &fields))
}

fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for (index, three) in der.chunks(3).enumerate() {
        let bits = (0..3).fold(0_usize, |bits, at| {
            (bits << 8) | three.get(at).map_or(0, |byte| usize::from(*byte))
        });
        for at in 0..=three.len() {
            body.push(char::from(DIGITS[(bits >> (18 - 6 * at)) & 63]));
        }
        body.push_str(&"=".repeat(3 - three.len()));
        body.push_str(if index % 16 == 15 { "\n" } else { "" });
    }
    format!("some words\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn inline(serial: &[u8]) -> serde_json::Value {
    json!({"inline_string": pem(&der(true, serial))})
}

#[test]
fn a_certificate_is_known_by_its_serial_number_or_its_file() {
    let sent = |source: serde_json::Value| {
        let source: DataSource = serde_json::from_value(source).unwrap();
        source.sent()
    };
    let these = |identity| Sent::These([identity].into());
    let serial = |digits: &str| these(Identity::Serial(digits.to_owned()));
    assert_eq!(sent(inline(&[0x0a, 0xbc])), serial("abc"));
    assert_eq!(sent(inline(&[0x00, 0xff])), serial("ff"));
    assert_eq!(sent(inline(&[0x80])), Sent::Unknown);
    let first_version = pem(&der(false, &[7]));
    assert_eq!(sent(json!({"inline_string": first_version})), serial("7"));
    // The bytes of a text are written in base64.
    assert_eq!(sent(json!({"inline_bytes": "bm8="})), Sent::Garbage);
    assert_eq!(sent(json!({"inline_bytes": "?"})), Sent::Unknown);
    assert_eq!(
        sent(json!({"filename": "/a"})),
        these(Identity::File("/a".to_owned()))
    );
    assert_eq!(sent(json!({"environment_variable": "A"})), Sent::Unknown);
    assert_eq!(sent(json!({})), Sent::Unknown);
    for garbage in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nMII\n",
        "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
    ] {
        assert_eq!(
            sent(json!({"inline_string": garbage})),
            Sent::Garbage,
            "{garbage}"
        );
    }
}

/// `sent` is what came last for each secret: a chain, or an authority if it has a `+`. Digits are a serial
/// number, `x` is garbage, and `?` is something else. `held` is what the contexts hold, in the same way.
fn unused(rejected: &str, sent: &str, held: &str) -> String {
    let content = |text: &str| match text {
        "?" => json!({"generic_secret": {}}),
        "x" => json!({"inline_string": "no certificate"}),
        number => inline(&[number.parse().unwrap()]),
    };
    let secrets = sent.split_whitespace().map(|secret| {
        let (name, what) = secret.split_once('=').unwrap();
        let secret = match what.strip_prefix('+') {
            Some(what) => json!({"validation_context": {"trusted_ca": content(what)}}),
            None if what == "?" => content(what),
            None => json!({"tls_certificate": {"certificate_chain": content(what)}}),
        };
        json!({"name": name, "version_info": "1", "secret": secret})
    });
    let secrets = json!({"configs": secrets.collect::<Vec<_>>()});
    let contexts = held.split_whitespace().map(|held| {
        let certificate = |number: &str| {
            let number: u8 = number.parse().unwrap();
            json!([{"path": "<inline>", "serial_number": format!("{number:02X}")}])
        };
        match held.strip_prefix('+') {
            Some(number) => json!({"ca_cert": certificate(number), "cert_chain": []}),
            None => json!({"ca_cert": [], "cert_chain": certificate(held)}),
        }
    });
    let contexts = json!({"certificates": contexts.collect::<Vec<_>>()});
    let counters: Vec<_> = rejected
        .split_whitespace()
        .map(|name| (format!("sds.{name}.update_rejected"), 1))
        .collect();
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    let contexts: Contexts = serde_json::from_value(contexts).unwrap();
    let names = judge(&super::rejected(&counters), &secrets, &contexts);
    names.join(" ")
}

#[test]
fn what_was_sent_last_is_in_use_if_a_context_holds_it() {
    for (case, rejected, sent, held, in_no_use) in [
        ("a key that does not fit", "a", "a=1 b=2", "2", "a"),
        ("no certificate", "a", "a=x b=2", "2", "a"),
        ("refused, and another one since", "a", "a=1 b=2", "1 2", ""),
        (
            "refused, and one since that is refused",
            "a",
            "a=3 b=2",
            "1 2",
            "a",
        ),
        ("the other one of a pair", "b", "a=1 b=2", "2", "a"),
        (
            "the authority of a pair, refused first",
            "ca",
            "a=1 ca=+x",
            "",
            "a ca",
        ),
        ("an authority", "ca", "ca=+3", "+3", ""),
        ("an authority is no chain", "ca", "ca=+3", "3", "ca"),
        (
            "an authority that nobody has refused",
            "a",
            "a=1 ca=+3",
            "1",
            "",
        ),
        ("what is no certificate", "key", "key=? a=1", "1", ""),
        (
            "garbage of a pair, refused last",
            "ca",
            "a=x ca=+3",
            "",
            "a ca",
        ),
        (
            "an authority of a pair that is none",
            "a",
            "a=1 ca=+x",
            "",
            "a ca",
        ),
        (
            "a name with colons",
            "file_a_b_c",
            "file://a:/b:c=1",
            "",
            "file://a:/b:c",
        ),
        ("none", "a", "", "", ""),
    ] {
        assert_eq!(unused(rejected, sent, held), in_no_use, "{case}");
    }
}

#[test]
fn only_what_was_counted_is_refused() {
    let counters = [
        ("sds.a.b.update_rejected", 2),
        ("sds.c.update_rejected", 0),
        (
            "listener.l.server_ssl_socket_factory.ssl_context_update_by_sds",
            1,
        ),
    ];
    let counters = counters.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(rejected(&counters), ["a.b".to_owned()].into());
}

/// The counters of contexts and the certificates that were tried.
#[test]
fn one_was_of_use_if_a_context_was_made_for_each_that_a_listener_or_cluster_has_fetched() {
    let secrets = json!({"configs": [{"name": "a"}, {"name": "kubernetes://b"}, {"name": "ca"}]});
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    // What was sent before is still in use.
    let held = json!({"certificates": [
        {"cert_chain": [{"path": "<inline>", "serial_number": "0b"}]}
    ]});
    let held: Contexts = serde_json::from_value(held).unwrap();
    let never_used = |unused: &str, contexts: &str, tried: &str| {
        let numbers = |text: &str, name: fn(&str, &str) -> (String, u64)| {
            let pairs = text.split_whitespace();
            let pairs = pairs.map(|pair| pair.split_once('=').unwrap());
            pairs
                .map(|(scope, what)| name(scope, what))
                .collect::<Vec<_>>()
        };
        let counters = numbers(contexts, |scope, count| {
            let name = format!("{scope}.server_ssl_socket_factory.ssl_context_update_by_sds");
            (name, count.parse().unwrap())
        });
        let tried = numbers(tried, |scope, name| {
            let gauge = format!("{scope}.ssl.certificate.{name}.expiration_unix_time_seconds");
            (gauge, 1_798_314_179)
        });
        let told = told(&[unused.to_owned()], &secrets, &held, &counters, &tried);
        assert_eq!(told.refused.len(), 1);
        told.never_used.join(" ")
    };
    let never = "secret a (SDS)";
    for (case, contexts, tried, is) in [
        ("from the start", "", "listener.l=a", never),
        ("no certificate from the start", "listener.m=1", "", never),
        ("a good one before", "listener.l=1", "listener.l=a", ""),
        (
            "of a pair, from the start",
            "cluster.c=1",
            "cluster.c=a cluster.c=ca",
            never,
        ),
        (
            "of a pair, a good one before",
            "cluster.c=2",
            "cluster.c=a cluster.c=ca",
            "",
        ),
        (
            "beside one of the configuration",
            "cluster.c=1",
            "cluster.c=a cluster.c=unnamed_cert_1",
            "",
        ),
        (
            "in one of two",
            "cluster.c=1",
            "cluster.c=a cluster.d=a",
            "",
        ),
        (
            "of another listener",
            "listener.l.m=1",
            "listener.l=ca listener.l.m=ca",
            never,
        ),
    ] {
        assert_eq!(never_used("a", contexts, tried), is, "{case}");
    }
    let with_colons = never_used("kubernetes://b", "", "listener.l=kubernetes://b");
    assert_eq!(with_colons, "secret kubernetes_b (SDS)");
    let was_used = never_used(
        "kubernetes://b",
        "listener.l=1",
        "listener.l=kubernetes://b",
    );
    assert_eq!(was_used, "");
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        text in r"(-----BEGIN |CERTIFICATE-----|-----END |[A-Za-z0-9+/= \n]){0,30}",
    ) {
        let _serial = serial_number(&bytes);
        let _certificates = certificates(&text).count();
        let source = DataSource { inline_string: Some(text), ..DataSource::default() };
        let _sent = source.sent();
    }
}

/// A listener has a certificate that was refused from the start, and a good one, whose renewals make contexts.
#[test]
fn a_neighbour_that_is_renewed_does_not_make_a_refused_certificate_one_that_was_of_use() {
    let chain = |name: &str| {
        let file = format!("/{name}.pem");
        json!({"name": name, "secret": {"tls_certificate": {"certificate_chain": {"filename": file}}}})
    };
    let secrets = json!({"configs": [chain("bad"), chain("good")]});
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    let counter = "listener.l.server_ssl_socket_factory.ssl_context_update_by_sds";
    let counters = [(counter.to_owned(), 7)];
    let tried = ["bad", "good"].map(|name| {
        let gauge = format!("listener.l.ssl.certificate.{name}.expiration_unix_time_seconds");
        (gauge, 1_798_314_179)
    });
    for (held, never_used) in [
        (&["/good.pem"][..], 1),
        // An older one of the same name is in use.
        (&["/good.pem", "/older.pem"], 0),
    ] {
        let chains: Vec<_> = held.iter().map(|path| json!({"path": path})).collect();
        let contexts = json!({"certificates": [{"cert_chain": chains}]});
        let contexts: Contexts = serde_json::from_value(contexts).unwrap();
        let told = told(&["bad".to_owned()], &secrets, &contexts, &counters, &tried);
        assert_eq!(told.never_used.len(), never_used, "{held:?}");
    }
}

#[test]
fn each_digit_of_base64_has_its_value() {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let text = pem(&bytes);
    assert!(text.contains('+') && text.contains('/') && text.contains('0'));
    assert_eq!(certificates(&text).collect::<Vec<_>>(), [bytes]);
    let all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = decoded(all).unwrap();
    let value = |at: usize| {
        let bit = |bit: usize| usize::from(bytes[bit / 8] >> (7 - bit % 8) & 1);
        (at * 6..at * 6 + 6).fold(0, |value, at| value << 1 | bit(at))
    };
    assert!((0..64).all(|digit| value(digit) == digit));
}

#[test]
fn an_element_may_be_as_long_as_three_bytes_tell() {
    let element_of = |length: &[u8], size: usize| {
        let bytes = [&[4], length, &vec![7; size], &[9]].concat();
        element(&bytes).map(|(tag, value, rest)| (tag, value.len(), rest.to_vec()))
    };
    let found = |size| Some((4, size, vec![9]));
    assert_eq!(element_of(&[0x7f], 127), found(127));
    assert_eq!(element_of(&[0x81, 200], 200), found(200));
    assert_eq!(element_of(&[0x82, 1, 2], 258), found(258));
    assert_eq!(element_of(&[0x83, 1, 0, 2], 65_538), found(65_538));
    assert_eq!(element_of(&[0x84, 0, 0, 0, 1], 1), None);
    assert_eq!(element_of(&[0x80], 1), None);
    assert_eq!(element_of(&[0x82, 1, 2], 256), None);
}

#[test]
fn what_is_no_whole_number_is_no_serial_number() {
    let certificate = |first: &[u8]| {
        let inner = [&[0x30, u8::try_from(first.len()).unwrap()], first].concat();
        [&[0x30, u8::try_from(inner.len()).unwrap()], &inner[..]].concat()
    };
    let seven = Serial::Positive("7".to_owned());
    assert_eq!(serial_number(&certificate(&[2, 1, 7])), Some(seven));
    assert_eq!(serial_number(&certificate(&[4, 1, 7])), None);
    assert_eq!(serial_number(&certificate(&[2, 0])), None);
}

/// Other counters of a listener say nothing of its certificates, and those of other listeners neither.
#[test]
fn only_the_contexts_of_the_same_scope_count() {
    let secrets = json!({"configs": [{"name": "a"}]});
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    let held = json!({"certificates": [{"cert_chain": [{"path": "/older"}]}]});
    let held: Contexts = serde_json::from_value(held).unwrap();
    let tried = [(
        "listener.l.ssl.certificate.a.expiration_unix_time_seconds".to_owned(),
        1,
    )];
    for (counter, is_of_use) in [
        (
            "listener.l.server_ssl_socket_factory.ssl_context_update_by_sds",
            true,
        ),
        ("listener.l.downstream_cx_total", false),
        (
            "listener.ll.server_ssl_socket_factory.ssl_context_update_by_sds",
            false,
        ),
    ] {
        let counters = [(counter.to_owned(), 1)];
        let told = told(&["a".to_owned()], &secrets, &held, &counters, &tried);
        assert_eq!(told.never_used.is_empty(), is_of_use, "{counter}");
    }
}
