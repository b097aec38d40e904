//! Who may call: one check in front of everything, unknown paths included.
//!
//! ```text
//! foreign Host or Origin ──> 403      (a page of another site, DNS rebinding)
//! GET / and /healthz     ──> pass     (they hold no data)
//! no token, wrong token  ──> 401
//! ```

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq as _;

use crate::{Fault, Word};

/// What a caller has to show.
#[derive(Debug)]
pub(crate) struct Guard {
    token: String,
    /// The `host:port` forms of this server.
    hosts: [String; 3],
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Foreign,
    Unknown,
}

impl Guard {
    /// A guard for a server that listens at `address`.
    pub(crate) fn new(token: String, address: SocketAddr) -> Self {
        let port = address.port();
        let hosts = ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("{host}:{port}"));
        Self { token, hosts }
    }

    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Verdict {
        if !self.is_own_host(uri, headers) || !self.is_own_origin(headers) {
            return Verdict::Foreign;
        }
        let is_open =
            matches!(uri.path(), "/" | "/healthz") && matches!(*method, Method::GET | Method::HEAD);
        if is_open || self.has_token(headers) {
            Verdict::Pass
        } else {
            Verdict::Unknown
        }
    }

    fn is_own_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        // A request may name its host a second time, in the request line.
        let line = uri.authority().map(|authority| authority.as_str());
        self.is_own(host.as_bytes()) && line.is_none_or(|host| self.is_own(host.as_bytes()))
    }

    fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::ORIGIN).iter().all(|origin| {
            origin
                .as_bytes()
                .strip_prefix(b"http://")
                .is_some_and(|host| self.is_own(host))
        })
    }

    fn is_own(&self, host: &[u8]) -> bool {
        self.hosts
            .iter()
            .any(|own| own.as_bytes().eq_ignore_ascii_case(host))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' '))
        else {
            return false;
        };
        // In constant time, so that answers do not tell how much of a guess is right.
        scheme.eq_ignore_ascii_case("bearer")
            && bool::from(token.as_bytes().ct_eq(self.token.as_bytes()))
    }
}

/// Lets a request pass, or answers it.
pub(crate) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    match guard.judge(request.method(), request.uri(), request.headers()) {
        Verdict::Pass => next.run(request).await,
        Verdict::Foreign => Fault::new(
            Word::Denied,
            "requests from other hosts or sites are not answered",
        )
        .into_response(),
        Verdict::Unknown => Fault::unauthorised(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: (&str, &str) = ("host", "127.0.0.1:4000");
    const TOKEN: (&str, &str) = ("authorization", "Bearer secret");

    fn judge(path: &str, pairs: &[(&str, &str)]) -> Verdict {
        let guard = Guard::new("secret".into(), ([127, 0, 0, 1], 4000).into());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                name.parse::<header::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        guard.judge(&Method::GET, &path.parse().unwrap(), &headers)
    }

    #[test]
    fn with_the_token_from_here_everything_passes() {
        for host in [
            "127.0.0.1:4000",
            "localhost:4000",
            "LOCALHOST:4000",
            "[::1]:4000",
        ] {
            assert_eq!(
                judge("/v1/status", &[("host", host), TOKEN]),
                Verdict::Pass,
                "{host}"
            );
        }
        let origin = ("origin", "http://localhost:4000");
        assert_eq!(judge("/v1/status", &[OWN, TOKEN, origin]), Verdict::Pass);
    }

    #[test]
    fn without_the_token_only_the_open_paths_pass() {
        for path in ["/", "/healthz", "/?x"] {
            assert_eq!(judge(path, &[OWN]), Verdict::Pass, "{path}");
        }
        for path in [
            "/v1/status",
            "/openapi.json",
            "/metrics",
            "/nothing",
            "//",
            "/healthz/",
            "/v1/../healthz",
        ] {
            assert_eq!(judge(path, &[OWN]), Verdict::Unknown, "{path}");
        }
    }

    #[test]
    fn a_wrong_token_is_none() {
        for value in [
            "Bearer wrong",
            "Bearer secre",
            "Bearer secrets",
            "Bearer",
            "secret",
            "Basic secret",
            "Bearer  secret",
        ] {
            assert_eq!(
                judge("/v1/status", &[OWN, ("authorization", value)]),
                Verdict::Unknown,
                "{value}"
            );
        }
        assert_eq!(judge("/v1/status", &[OWN, TOKEN, TOKEN]), Verdict::Unknown);
    }

    #[test]
    fn a_foreign_host_is_refused_even_on_open_paths_and_with_the_token() {
        for path in ["/", "/healthz", "/v1/status"] {
            for host in [
                "evil.example",
                "127.0.0.1",
                "127.0.0.1:4001",
                "localhost.evil.example:4000",
                "",
            ] {
                assert_eq!(
                    judge(path, &[("host", host), TOKEN]),
                    Verdict::Foreign,
                    "{path} {host}"
                );
            }
            assert_eq!(judge(path, &[TOKEN]), Verdict::Foreign, "no host");
            assert_eq!(
                judge(path, &[OWN, OWN, TOKEN]),
                Verdict::Foreign,
                "two hosts"
            );
        }
        assert_eq!(
            judge("http://evil.example/", &[OWN, TOKEN]),
            Verdict::Foreign
        );
    }

    #[test]
    fn a_foreign_origin_is_refused() {
        for origin in [
            "http://evil.example",
            "https://127.0.0.1:4000",
            "null",
            "http://127.0.0.1:80",
        ] {
            assert_eq!(
                judge("/", &[OWN, TOKEN, ("origin", origin)]),
                Verdict::Foreign,
                "{origin}"
            );
        }
    }

    #[test]
    fn the_open_paths_are_open_for_reading_only() {
        let guard = Guard::new("secret".into(), ([127, 0, 0, 1], 4000).into());
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(
            guard.judge(&Method::POST, &"/".parse().unwrap(), &headers),
            Verdict::Unknown
        );
    }
}
