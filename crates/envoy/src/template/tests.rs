use super::*;

fn inputs() -> Inputs {
    Inputs {
        env: [
            ("TOKEN", "hunter2"),
            ("PORT", "9901"),
            ("QUOTED", "a\"b: c"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        epoch: None,
        node_id: Some("front-1".to_owned()),
        private_ips: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        resolver: Some(Arc::new(|host| match host {
            "upstream:80" => Ok("10.1.2.3:80".parse()?),
            _ => Err("no such name".into()),
        })),
    }
}

fn render(text: &str) -> Result<String, TemplateError> {
    let template = Template::new(Path::new("envoy.yaml"), text.to_owned());
    template.render(&inputs())
}

fn refused(text: &str) -> String {
    handover_tokio::error_chain(&render(text).unwrap_err())
}

#[test]
fn every_input_can_be_used() {
    let text = "\
node: {id: {{ node_id }}}
port: {{ env.PORT | int + 1 }}
quoted: {{ env.QUOTED | tojson }}
ips: [{% for ip in private_ips %}{{ ip | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}]
upstream: {{ resolve(\"upstream:80\") }}
{%- set address = resolve('upstream:80') %}
parts: {{ address.ip }} {{ address.port }}
default: {{ env.MISSING | default('x') }}
";
    insta::assert_snapshot!(render(text).unwrap(), @r#"
    node: {id: front-1}
    port: 9902
    quoted: "a\"b: c"
    ips: ["10.0.0.7", "fd00::7"]
    upstream: 10.1.2.3:80
    parts: 10.1.2.3 80
    default: x
    "#);
    assert_eq!(render("plain\n").unwrap(), "plain\n");
    assert_eq!(render("").unwrap(), "");
}

#[test]
fn the_epoch_is_there_for_who_knows_it() {
    let template = Template::new(Path::new("e.yaml"), "log-{{ epoch }}".to_owned());
    let mut inputs = inputs();
    inputs.epoch = Some(3);
    assert_eq!(template.render(&inputs).unwrap(), "log-3");
}

#[test]
fn every_error_tells_file_line_and_remedy() {
    let sentences: Vec<_> = [
        "a\nb: {{ env.MISSING }}",
        "{{ env['MISSING'] }}",
        "{{ missing }}",
        "\n\n{{ missing.part }}",
        "{% if env.MISSING %}{% endif %}",
        "{{ env.PORT.part.part }}",
        "{{ epoch }}",
        "{{ nonsense('x') }}",
        "{{ node_id | nonsense }}",
        "{{ node_id is nonsense }}",
        "{{ resolve('nowhere:80') }}",
        "\n{{ resolve(1) }}",
        "{{ node_id + 1 }}",
        "{{ node_id",
        "{% include 'other' %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% set a = 'x' * 50000000 %}{{ a }}{{ a }}",
        "{{ debug() }}",
    ]
    .iter()
    .map(|text| refused(text))
    .collect();
    insta::assert_snapshot!("errors", sentences.join("\n"));
}

#[test]
fn a_failed_resolution_keeps_its_cause() {
    use std::error::Error as _;
    let error = render("{{ resolve('nowhere:80') }}").unwrap_err();
    let cause = error.source().and_then(|problem| problem.source());
    assert_eq!(cause.unwrap().to_string(), "no such name");
    let mut inputs = inputs();
    inputs.resolver = None;
    let template = Template::new(Path::new("e.yaml"), "{{ resolve('a:1') }}".to_owned());
    let error = handover_tokio::error_chain(&template.render(&inputs).unwrap_err());
    assert!(error.contains("the function resolve is unknown"), "{error}");
}

#[test]
fn no_error_tells_a_value() {
    for text in [
        "{{ env.TOKEN + 1 }}",
        "{{ env.TOKEN | int }}",
        "{{ env.TOKEN | float }}",
        "{{ env.TOKEN.part.part }}",
        "{{ env.TOKEN() }}",
        "{{ env[env.TOKEN] }}",
        "{{ range(env.TOKEN) }}",
        "{{ env.TOKEN | round }}",
        "{{ -env.TOKEN }}",
        "{{ 1 // (env.TOKEN | length - 7) }}",
        "{{ env.TOKEN | nonsense }}",
        "{{ env.TOKEN | tojson(1, 2, 3) }}",
        "{{ {}[env.TOKEN].x }}",
    ] {
        let error = render(text).unwrap_err();
        let chain = handover_tokio::error_chain(&error);
        let shown = format!("{chain} {error:?} {:?}", inputs());
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
    let template = Template::new(Path::new("e"), "hunter2".to_owned());
    assert!(!format!("{template:?}").contains("hunter2"));
}

#[test]
fn a_template_file_is_read_within_limits() {
    let dir = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap();
    let path = dir.path().join("envoy.yaml");
    assert!(matches!(
        Template::read(&path),
        Err(TemplateError::Read { .. })
    ));
    std::fs::write(&path, "{{ node_id }}").unwrap();
    let template = Template::read(&path).unwrap();
    assert_eq!(template.render(&inputs()).unwrap(), "front-1");
    assert_eq!(template.path(), path);
    std::fs::write(&path, b"\xff").unwrap();
    assert!(matches!(
        Template::read(&path),
        Err(TemplateError::NotText(_))
    ));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(u64::try_from(MAX_BYTES).unwrap() + 1).unwrap();
    assert!(matches!(
        Template::read(&path),
        Err(TemplateError::TooLarge(_))
    ));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(
        text in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|if |for |in |endif|endfor|set |env|\\.|TOKEN|\\[|\\]|\\(|\\)|\\||'|\"|[0-9]|[-+*/~ ]|ä|\n){0,20}"
    ) {
        let _result = render(&text);
    }
}
