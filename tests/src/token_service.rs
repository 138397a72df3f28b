//! A token service as registries name it in their challenges: anyone may pull what is below `public/`; [`USER`] may do everything.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::certificates::{Certificates, sign};
use crate::registry::{SECRET, USER};

/// A token that stands for the user, as credential stores keep it.
pub const IDENTITY: &str = "identity-5d07e1";

/// How it behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// It knows no POST, as old ones do.
    pub only_get: bool,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// GET or POST.
    pub method: String,
    /// Query or form; scopes joined by spaces.
    pub words: HashMap<String, String>,
    /// Whether a user's secret, or what stands for it, came along.
    pub authorized: bool,
}

struct Service {
    key: PathBuf,
    certificate: String,
    manners: Manners,
    asked: Mutex<Vec<Asked>>,
}

/// A running service; its thread ends with the process.
pub struct TokenService {
    realm: String,
    service: Arc<Service>,
}

impl TokenService {
    /// Listens on a free port of loopback.
    pub fn start(certificates: &Certificates, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let realm = format!("http://{}/token", listener.local_addr().expect("bound"));
        let pem = std::fs::read_to_string(certificates.certificate("token")).expect("reads");
        let certificate = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let service = Arc::new(Service {
            key: certificates.key("token"),
            certificate,
            manners,
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&service);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // A peer that goes away is no failure of ours.
                let _ = serving.serve(socket);
            }
        });
        Self { realm, service }
    }

    /// For the registry's challenge.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// What came so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.service.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Service {
    fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte)? == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        socket.read_exact(&mut body)?;
        let mut line = head.split(' ');
        let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let text = match method {
            "GET" => path.split_once('?').map_or("", |(_, query)| query).as_bytes().to_vec(),
            _ => body,
        };
        let (status, answer) = self.answer(method, &text, header("authorization").as_deref());
        let answer = answer.to_string();
        write!(
            socket,
            "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )
    }

    fn answer(&self, method: &str, text: &[u8], authorization: Option<&str>) -> (u16, Value) {
        let mut words: HashMap<String, String> = HashMap::new();
        for (key, value) in form_urlencoded::parse(text) {
            let word = words.entry(key.into_owned()).or_default();
            if !word.is_empty() {
                word.push(' ');
            }
            word.push_str(&value);
        }
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{SECRET}")));
        let word = |key: &str| words.get(key).map(String::as_str).unwrap_or_default();
        let authorized = match word("grant_type") {
            "password" => word("username") == USER && word("password") == SECRET,
            "refresh_token" => [IDENTITY, "refresh-1"].contains(&word("refresh_token")),
            _ => authorization == Some(&basic),
        };
        let asked = Asked { method: method.to_owned(), words: words.clone(), authorized };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        if method == "POST" && self.manners.only_get {
            return (404, json!({}));
        }
        if !authorized && (authorization.is_some() || method == "POST") {
            return (401, json!({}));
        }
        let token = self.token(word("scope"), authorized);
        (
            200,
            json!({ "token": token, "expires_in": 60, "refresh_token": if method == "POST" { "refresh-1" } else { "" } }),
        )
    }

    /// A signed token for what may be had of the scopes.
    fn token(&self, scopes: &str, authorized: bool) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let access: Vec<Value> = scopes
            .split(' ')
            .filter_map(|scope| {
                let mut parts = scope.split(':');
                let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
                let public = name.starts_with("public/");
                let granted: Vec<&str> =
                    actions.split(',').filter(|action| authorized || (public && *action == "pull")).collect();
                Some(json!({ "type": kind, "name": name, "actions": granted }))
            })
            .collect();
        let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.certificate] });
        let claims = json!({
            "iss": "test", "sub": USER, "aud": "registry.test", "jti": now.to_string(),
            "nbf": now - 60, "iat": now - 60, "exp": now + 300, "access": access,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = URL_SAFE_NO_PAD.encode(sign(&self.key, signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
