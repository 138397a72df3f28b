//! Tests of the image documents.

use bosun_types::ErrorClass;

use super::*;

fn descriptor(letter: char, extra: &str) -> String {
    let digest = letter.to_string().repeat(64);
    format!(r#"{{"mediaType":"m/{letter}","digest":"sha256:{digest}","size":7{extra}}}"#)
}

fn manifest_json() -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{},{}]}}"#,
        media_type::OCI_MANIFEST,
        descriptor('c', ""),
        descriptor('a', ""),
        descriptor('b', "")
    )
}

fn index_json(platforms: &[&str]) -> String {
    let entries: Vec<String> = platforms
        .iter()
        .zip('a'..)
        .map(|(platform, letter)| {
            let parts: Vec<&str> = platform.split('/').collect();
            let variant = parts.get(2).map_or(String::new(), |v| format!(r#","variant":"{v}""#));
            let platform =
                format!(r#","platform":{{"os":"{}","architecture":"{}"{variant}}}"#, parts[0], parts[1]);
            descriptor(letter, if parts[0].is_empty() { "" } else { &platform })
        })
        .collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
}

fn index(platforms: &[&str]) -> Index {
    match parse_manifest_or_index(index_json(platforms).as_bytes(), "").unwrap() {
        Parsed::Index(index) => index,
        Parsed::Manifest(_) => panic!("an index"),
    }
}

fn chosen(platforms: &[&str], wanted: &str) -> Result<char> {
    let found = choose(&index(platforms), &Platform::parse(wanted).unwrap())?;
    Ok(found.media_type.chars().last().unwrap())
}

#[test]
fn img_8_children_are_the_config_then_the_layers_in_order() {
    let parsed = parse_manifest_or_index(manifest_json().as_bytes(), media_type::OCI_MANIFEST).unwrap();
    let types: Vec<String> = children(&parsed).into_iter().map(|child| child.media_type).collect();
    assert_eq!(types, ["m/c", "m/a", "m/b"]);
}

#[test]
fn cve_2021_41190_ambiguous_documents_are_refused() {
    let both =
        format!(r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}}"#, descriptor('c', ""));
    let index = index_json(&["linux/amd64"]);
    let cases = [
        (both.as_str(), ""),
        (&manifest_json(), media_type::OCI_INDEX),
        (&manifest_json(), media_type::DOCKER_MANIFEST),
        (&index, media_type::OCI_MANIFEST),
        (r#"{"schemaVersion":2}"#, ""),
        ("[]", ""),
        ("{", ""),
        (&format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_MANIFEST), ""),
    ]
    .map(|(text, media_type)| (text.to_owned(), media_type));
    for (text, media_type) in cases {
        let error = parse_manifest_or_index(text.as_bytes(), media_type).expect_err(&text);
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{text}");
    }
}

#[test]
fn cve_2023_25153_documents_over_the_limit_are_refused_unparsed() {
    let mut text = manifest_json();
    text.push_str(&" ".repeat(MANIFEST_BYTES_MAX));
    let error = parse_manifest_or_index(text.as_bytes(), "").expect_err("too large");
    assert!(error.to_string().contains("at most"), "{error}");
    assert!(parse_config(&vec![b' '; CONFIG_BYTES_MAX + 1]).is_err());
}

#[test]
fn cve_2024_3727_digests_and_sizes_are_parsed_not_trusted() {
    for (from, to) in [("sha256:aaaa", "sha256:../../"), ("\"size\":7", "\"size\":-1"), ("sha256", "sha512")]
    {
        let text = manifest_json().replace(from, to);
        let error = parse_manifest_or_index(text.as_bytes(), "").expect_err(to);
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{to}");
    }
}

#[test]
fn schema_1_is_refused_by_name() {
    for (text, media_type) in
        [("{}", media_type::DOCKER_SCHEMA1), (r#"{"schemaVersion":1,"fsLayers":[]}"#, "")]
    {
        let error = parse_manifest_or_index(text.as_bytes(), media_type).expect_err("schema 1");
        assert_eq!(error.class(), ErrorClass::NotImplemented);
    }
}

#[test]
fn more_layers_than_a_mount_takes_are_refused() {
    let layers = vec![descriptor('a', ""); LAYERS_MAX + 1].join(",");
    let text = format!(r#"{{"config":{},"layers":[{layers}]}}"#, descriptor('c', ""));
    assert!(parse_manifest_or_index(text.as_bytes(), "").expect_err("too many").to_string().contains("128"));
}

#[test]
fn plt_4_the_best_platform_wins_and_of_equals_the_first() {
    let arm = ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/amd64"];
    assert_eq!(chosen(&arm, "linux/arm/v7").unwrap(), 'b');
    assert_eq!(chosen(&arm, "linux/arm/v6").unwrap(), 'c');
    assert_eq!(chosen(&["linux/amd64", "linux/amd64"], "linux/amd64").unwrap(), 'a');
    assert_eq!(chosen(&["/", "linux/amd64"], "linux/amd64").unwrap(), 'b');
    assert_eq!(chosen(&["unknown/unknown", "/"], "linux/amd64").unwrap(), 'b');
}

#[test]
fn another_platform_is_not_found_and_what_there_is_is_named() {
    let error = chosen(&["linux/arm64/v8", "windows/amd64"], "linux/s390x").expect_err("none fits");
    assert_eq!(error.class(), ErrorClass::NotFound);
    assert_eq!(error.to_string(), "no image for platform linux/s390x; there is linux/arm64, windows/amd64");
}

#[test]
fn img_18_chain_ids_are_those_of_the_image_spec() {
    let diff_ids: Vec<Digest> = ["a", "b", "c"]
        .iter()
        .map(|letter| format!("sha256:{}", letter.repeat(64)).parse().unwrap())
        .collect();
    let chain = chain_ids(&diff_ids);
    assert_eq!(chain[0], diff_ids[0]);
    assert_eq!(chain[1], digest_of(format!("{} {}", diff_ids[0], diff_ids[1]).as_bytes()));
    assert_eq!(chain[2], digest_of(format!("{} {}", chain[1], diff_ids[2]).as_bytes()));
    assert!(chain_ids(&[]).is_empty());
}

#[test]
fn img_21_layers_and_diff_ids_must_be_as_many() {
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        "a".repeat(64)
    );
    let config = parse_config(config.as_bytes()).unwrap();
    let Parsed::Manifest(manifest) = parse_manifest_or_index(manifest_json().as_bytes(), "").unwrap() else {
        panic!("a manifest")
    };
    assert!(config.check_layers(&manifest).expect_err("2 and 1").to_string().contains("2 layers"));
    let other = Platform::parse("linux/arm64").unwrap();
    assert_eq!(check_platform(&config, &other).expect_err("other").class(), ErrorClass::NotFound);
}

#[test]
fn a_config_of_docker_with_nulls_is_read() {
    let text = r#"{"os":"linux","architecture":"x86_64","rootfs":{"type":"layers","diff_ids":null},
        "config":{"User":"1000:100","Env":["A=b"],"Entrypoint":null,"Cmd":["sh"],"Volumes":{"/data":{}},
        "Labels":null,"StopSignal":"SIGQUIT","WorkingDir":"/w"}}"#;
    let config = parse_config(text.as_bytes()).unwrap();
    assert_eq!(config.platform.to_string(), "linux/amd64");
    let process = ImageProcess {
        user: "1000:100".into(),
        env: vec!["A=b".into()],
        cmd: vec!["sh".into()],
        working_dir: "/w".into(),
        stop_signal: Some("SIGQUIT".into()),
        volumes: vec!["/data".into()],
        ..ImageProcess::default()
    };
    assert_eq!(config.process, process);
    assert!(parse_config(b"{}").expect_err("no rootfs").to_string().contains("rootfs"));
}

/// Addresses count for what may not be given on alone, and only so many.
#[test]
fn rem_8_addresses_are_read_for_layers_that_may_not_be_given_on() {
    let layer = |letter: char, media_type: &str, urls: &[String]| {
        serde_json::json!({ "mediaType": media_type, "size": 7, "urls": urls,
            "digest": format!("sha256:{}", letter.to_string().repeat(64)) })
    };
    let address = |number: usize| format!("https://files.example/{number}");
    let many: Vec<String> = (0..100).map(address).collect();
    let docker = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let oci = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": layer('a', media_type::OCI_CONFIG, &many),
        "layers": [layer('b', docker, &many), layer('c', oci, &many[..1]), layer('d', oci, &[]),
            layer('e', media_type::OCI_LAYER_GZIP, &many)] });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let Parsed::Manifest(manifest) = parse_manifest_or_index(&bytes, "").unwrap() else { panic!("an index") };
    let told: Vec<(&Digest, usize)> =
        manifest.elsewhere.iter().map(|(digest, urls)| (digest, urls.len())).collect();
    assert_eq!(told, [(&manifest.layers[0].digest, 8), (&manifest.layers[1].digest, 1)]);
    assert!(media_type::is_non_distributable(docker) && media_type::is_layer(docker));
    assert!(!media_type::is_non_distributable("application/x.foreign.tar"));
}

#[test]
fn img_7_media_types() {
    for layer in [
        media_type::DOCKER_LAYER,
        media_type::DOCKER_LAYER_GZIP,
        media_type::OCI_LAYER_ZSTD,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        assert!(media_type::is_layer(layer), "{layer}");
    }
    for other in
        [media_type::OCI_CONFIG, media_type::OCI_MANIFEST, "", "application/vnd.oci.image.layer.v1.tar+x"]
    {
        assert!(!media_type::is_layer(other), "{other}");
    }
}

#[test]
fn a_document_nested_beyond_measure_is_an_error_and_no_overflow() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        // In what is not read it is passed over, in what is read it is an error.
        let unread = manifest_json().replacen('{', &format!(r#"{{"x":{deep},"#), 1);
        assert!(parse_manifest_or_index(unread.as_bytes(), "").is_ok());
        let read = format!(r#"{{"schemaVersion":2,"config":{deep},"layers":{deep}}}"#);
        let error = parse_manifest_or_index(read.as_bytes(), "").expect_err("too deep");
        assert_eq!(error.class(), ErrorClass::InvalidArgument);
        assert!(
            parse_config(format!(r#"{{"rootfs":{{"type":"layers","diff_ids":{deep}}}}}"#).as_bytes())
                .is_err()
        );
    }
}

#[test]
fn a_key_that_comes_twice_has_no_two_meanings() {
    let other = descriptor('f', "");
    let twice = manifest_json().replacen("\"layers\":", &format!(r#""layers":[{other}],"layers":"#), 1);
    assert_ne!(twice, manifest_json());
    let error = parse_manifest_or_index(twice.as_bytes(), "").expect_err("twice");
    assert!(error.to_string().contains("duplicate"), "{error}");
}

#[test]
fn digests_have_one_form() {
    let hex = "a".repeat(64);
    for wrong in [
        hex.clone(),
        format!("sha256:{}", "A".repeat(64)),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256: {}", &hex[1..]),
        format!("sha256:{}/", &hex[1..]),
        format!("sha256:../{}", &hex[3..]),
        format!("sha512:{}", "a".repeat(128)),
        "sha256:".to_owned(),
        ":".to_owned(),
        String::new(),
        format!("sha256:{}é", &hex[2..]),
        format!("sha256:{hex}\n"),
    ] {
        wrong.parse::<Digest>().expect_err(&wrong);
    }
}

#[test]
fn sizes_are_whole_numbers_that_fit() {
    for size in ["-1", "1.5", "1e3", "\"7\"", "null", "9223372036854775808", "[7]"] {
        let text = manifest_json().replacen("\"size\":7", &format!("\"size\":{size}"), 1);
        assert_ne!(text, manifest_json());
        let error = parse_manifest_or_index(text.as_bytes(), "").expect_err(size);
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{size}");
    }
}
