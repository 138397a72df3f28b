//! Registries that want to know who asks, with certificates of their own, behind mirrors: real docker-registries and a token service.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bosun_client::{Client, Transfers};
use bosun_registry::Access;
use bosun_tests::certificates::Certificates;
use bosun_tests::client::{import, namespace};
use bosun_tests::fixture;
use bosun_tests::registry::{Guards, Registry, SECRET, USER};
use bosun_tests::token_service::{IDENTITY, Manners, TokenService};
use bosun_tests::world::{Daemon, World, eventually, wait_until};
use bosun_types::reference::Reference;
use bosun_types::transfer::Credential;
use bosun_types::{ErrorClass, ImageName, Result};

use super::distribution::{pull, push};

fn user() -> Option<Credential> {
    Some(Credential { user: USER.to_owned(), secret: SECRET.to_owned() })
}

fn as_user(client: &Client, credential: Option<Credential>) -> Transfers {
    namespace(client).transfers().with_credential(credential)
}

async fn pulled(client: &Client, reference: &Reference, credential: Option<Credential>) -> Result<()> {
    let transfer = as_user(client, credential).pull(pull(reference.clone())).await?;
    transfer.wait().await.map(drop)
}

async fn pushed(
    client: &Client,
    reference: &Reference,
    name: &ImageName,
    credential: Option<Credential>,
) -> Result<()> {
    let transfer = as_user(client, credential).push(push(reference.clone(), name)).await?;
    transfer.wait().await.map(drop)
}

/// Whether a secret is in any file below a directory.
fn is_written(directory: &Path, secret: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("has a type"));
        if kind.is_dir() {
            found.extend(is_written(&path, secret));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_5_basic_authentication_by_config_helper_and_flag() {
    let world = World::new();
    let registry = Registry::guarded(&world.path("r"), &Guards { users: true, ..Guards::default() });
    let _daemon = world.start();
    let client = world.client().await;
    let name = import(&client).await;
    let reference = registry.reference("team/app:1");
    let refused = pushed(&client, &reference, &name, None).await.expect_err("nobody");
    assert_eq!(refused.class, ErrorClass::Unauthenticated);
    let wrong = Some(Credential { user: USER.to_owned(), secret: "wrong".to_owned() });
    let refused = pushed(&client, &reference, &name, wrong).await.expect_err("somebody else");
    assert_eq!(refused.class, ErrorClass::Unauthenticated);
    assert!(!refused.to_string().contains("wrong"), "{refused}");
    pushed(&client, &reference, &name, user()).await.expect("pushes");

    let (reference, docker) = (reference.to_string(), world.path("docker"));
    std::fs::create_dir_all(&docker).expect("makes");
    let pull_with = |config: &str| {
        std::fs::write(docker.join("config.json"), config).expect("writes");
        let path = format!("{}:{}", docker.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = world.bosun(&["pull", &reference]);
        command.env("DOCKER_CONFIG", &docker).env("PATH", path).output().expect("runs")
    };
    let anonymous = pull_with("{}");
    let said = String::from_utf8_lossy(&anonymous.stderr).into_owned();
    assert!(!anonymous.status.success() && said.contains("--user"), "{said}");
    let stored =
        format!(r#"{{"auths":{{"{}":{{"username":"{USER}","password":"{SECRET}"}}}}}}"#, registry.host());
    assert!(pull_with(&stored).status.success());
    let helper = docker.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get {}' ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\necho '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{SECRET}\"}}'\n",
        registry.host()
    );
    std::fs::write(&helper, script).expect("writes");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("sets");
    assert!(pull_with(r#"{"credsStore":"test"}"#).status.success());
    assert!(pull_with(&format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, registry.host())).status.success());
    assert!(!pull_with(r#"{"credsStore":"missing"}"#).status.success());
    let flagged = world.bosun(&["pull", "--user", &format!("{USER}:{SECRET}"), &reference]).output();
    assert!(flagged.expect("runs").status.success());

    std::fs::remove_dir_all(&docker).expect("removes");
    assert_eq!(is_written(&world.path("root"), SECRET), Vec::<PathBuf>::new(), "no disk sees the secret");
    assert_eq!(is_written(&world.path("run"), SECRET), Vec::<PathBuf>::new(), "nor does it stay");
    assert!(!world.log().contains(SECRET));
    world.check(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rem_6_tokens_anonymous_by_password_by_identity_and_where_there_is_only_get() {
    let world = World::new();
    let certificates = Certificates::make(&world.path("c"));
    let certificate = certificates.certificate("token");
    for manners in [Manners { only_get: false }, Manners { only_get: true }] {
        let service = TokenService::start(&certificates, manners);
        let tokens = Some((service.realm(), certificate.as_path()));
        let directory = world.path(&format!("r{}", u8::from(manners.only_get)));
        let registry = Registry::guarded(&directory, &Guards { tokens, ..Guards::default() });
        let daemon = world.start();
        let client = world.client().await;
        let name = import(&client).await;
        let (public, private) = (registry.reference("public/app:1"), registry.reference("team/app:1"));
        for reference in [&public, &private] {
            let refused = pushed(&client, reference, &name, None).await.expect_err("nobody");
            assert!(
                matches!(refused.class, ErrorClass::Unauthenticated | ErrorClass::PermissionDenied),
                "{refused}"
            );
            pushed(&client, reference, &name, user()).await.expect("pushes");
        }
        pulled(&client, &public, None).await.expect("anyone may");
        let refused = pulled(&client, &private, None).await.expect_err("nobody");
        assert_eq!(refused.class, ErrorClass::PermissionDenied);
        assert!(refused.hint.is_some_and(|hint| hint.contains("may require authorization")));
        pulled(&client, &private, user()).await.expect("pulls");
        let identity = Some(Credential { user: String::new(), secret: IDENTITY.to_owned() });
        let by_identity = pulled(&client, &private, identity).await;
        assert_eq!(by_identity.is_ok(), !manners.only_get, "{by_identity:?}");

        let asked = service.asked();
        let granted = |method: &str| asked.iter().any(|it| it.method == method && it.authorized);
        assert!(granted(if manners.only_get { "GET" } else { "POST" }), "{asked:?}");
        // REM-7, and a mount from another repository asks for that one too.
        let scopes = |wanted: &[&str]| {
            let scopes = asked.iter().filter_map(|it| it.words.get("scope"));
            let mut scopes = scopes.map(|it| it.split(' ').collect::<Vec<_>>());
            scopes.any(|it| wanted.iter().all(|scope| it.contains(scope)))
        };
        assert!(scopes(&["repository:team/app:pull"]), "{asked:?}");
        assert!(scopes(&["repository:team/app:pull,push"]), "{asked:?}");
        assert!(scopes(&["repository:public/app:pull", "repository:team/app:pull,push"]), "{asked:?}");
        if !manners.only_get {
            let refreshed =
                asked.iter().any(|it| it.words.get("refresh_token").is_some_and(|it| it == "refresh-1"));
            assert!(refreshed, "the second token costs no password: {asked:?}");
        }
        assert_eq!(is_written(&world.path("root"), SECRET), Vec::<PathBuf>::new());
        daemon.kill();
    }
}

/// A daemon whose registries are set up in this directory.
fn start_with_hosts(world: &World, hosts: &Path) -> Daemon {
    let config = world.path("config.toml");
    std::fs::write(&config, format!("[registry]\nconfig_path = \"{}\"\n", hosts.display())).expect("writes");
    world.start_with_words(&["--config", &config.to_string_lossy()])
}

/// Settings of a host.
fn settle(hosts: &Path, host: &str, text: &str) {
    let directory = hosts.join(host);
    std::fs::create_dir_all(&directory).expect("makes");
    std::fs::write(directory.join("hosts.toml"), text).expect("writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_authority_of_ones_own_and_with_clients_certificates() {
    let world = World::new();
    let (certificates, hosts) = (Certificates::make(&world.path("c")), world.path("certs.d"));
    let (server, key, authority) =
        (certificates.certificate("server"), certificates.key("server"), certificates.certificate("ca"));
    let tls = Some((server.as_path(), key.as_path()));
    let plain = Registry::guarded(&world.path("plain"), &Guards { tls, ..Guards::default() });
    let strict = Guards { tls, clients: Some(&authority), users: true, ..Guards::default() };
    let strict = Registry::guarded(&world.path("strict"), &strict);
    let _daemon = start_with_hosts(&world, &hosts);
    let client = world.client().await;
    let name = import(&client).await;
    let reference = plain.reference("team/app:1");
    // Loopback is plain http unless the settings say otherwise; then the authority is unknown.
    pushed(&client, &reference, &name, None).await.expect_err("TLS is spoken there");
    let address = format!("server = \"https://{}\"\n", plain.host());
    settle(&hosts, plain.host(), &address);
    let error = pushed(&client, &reference, &name, None).await.expect_err("nobody knows the authority");
    assert_eq!(error.class, ErrorClass::Unavailable, "{error}");
    settle(&hosts, plain.host(), &format!("{address}ca = \"{}\"\n", authority.display()));
    pushed(&client, &reference, &name, None).await.expect("without a restart");
    settle(&hosts, plain.host(), &format!("{address}skip_verify = true\n"));
    pulled(&client, &reference, None).await.expect("believes anyone");

    let reference = strict.reference("team/app:1");
    let address = format!("server = \"https://{}\"\nca = \"{}\"\n", strict.host(), authority.display());
    settle(&hosts, strict.host(), &address);
    pushed(&client, &reference, &name, user()).await.expect_err("it wants a certificate");
    let (ours, key) = (certificates.certificate("client"), certificates.key("client"));
    let address = format!("{address}client = [[\"{}\", \"{}\"]]\n", ours.display(), key.display());
    settle(&hosts, strict.host(), &address);
    pushed(&client, &reference, &name, user()).await.expect("knows us");
    let error = pushed(&client, &reference, &name, None).await.expect_err("and wants a password too");
    assert_eq!(error.class, ErrorClass::Unauthenticated);
    settle(&hosts, strict.host(), "server = [broken");
    let error = pulled(&client, &reference, user()).await.expect_err("unreadable settings");
    assert_eq!(error.class, ErrorClass::FailedPrecondition);
    assert!(error.message.contains("hosts.toml"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_never_as_the_user() {
    let world = World::new();
    let (registry, hosts) = (Registry::start(&world.path("mirror")), world.path("certs.d"));
    let guarded = Registry::guarded(&world.path("up"), &Guards { users: true, ..Guards::default() });
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let image = fixture::layered_image(1, 100_000).expect("an image");
    let name = guarded.reference("team/app:1");
    fixture::push(&image, &registry.reference("team/app:1")).await.expect("pushes");
    let _daemon = start_with_hosts(&world, &hosts);
    let client = world.client().await;
    let mirrors = format!(
        "[host.\"http://{nobody}\"]\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        registry.host()
    );
    settle(&hosts, guarded.host(), &mirrors);
    // The registry itself has nothing and wants a user; the second mirror has it all.
    pulled(&client, &name, None).await.expect("from the mirror");
    // A push goes past the mirrors.
    let image = name.image_name().expect("good");
    let error = pushed(&client, &name, &image, None).await.expect_err("to the registry itself");
    assert_eq!(error.class, ErrorClass::Unauthenticated);
    pushed(&client, &name, &image, user()).await.expect("pushes");
    let other = guarded.reference("only/here:1");
    let access = Access { plain_http: false, credential: user() };
    let built = fixture::busybox_image().expect("an image");
    fixture::push_as(&built, &other, None, &access).await.expect("pushes");
    pulled(&client, &other, user()).await.expect("what mirrors lack comes from the registry");
    world.check(&client).await;
}

/// ADR 0018. The daemon dies when the blobs are there and the manifest is not; nobody comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_outlives_the_daemon_still_knows_its_user_and_then_forgets() {
    let world = World::new();
    let registry = Registry::guarded(&world.path("r"), &Guards { users: true, ..Guards::default() });
    let daemon = world.start_with(&[("BOSUN_FAULTS", "push.push_manifests.before=abort")]);
    let reference = registry.reference("team/app:1");
    {
        let client = world.client().await;
        let name = import(&client).await;
        as_user(&client, user()).push(push(reference.clone(), &name)).await.expect("starts");
    }
    assert!(!daemon.ended().success());
    let kept = is_written(&world.path("run"), SECRET);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let mode = std::fs::metadata(&kept[0]).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(is_written(&world.path("root"), SECRET), Vec::<PathBuf>::new(), "not in the operation log");
    let _daemon = world.start();
    let client = world.client().await;
    eventually("the push to end", || async { client.operations().await.is_ok_and(|open| open.is_empty()) })
        .await;
    pulled(&client, &reference, user()).await.expect("it is there");
    wait_until("the secret to go", || is_written(&world.path("run"), SECRET).is_empty());
    assert!(!world.log().contains(SECRET));
}
