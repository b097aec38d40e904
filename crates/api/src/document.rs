//! The OpenAPI document of the interface.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, SecurityRequirement,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ringweave",
        description = "The local interface of one running peer. Every path but `/` and `/healthz` needs the \
                       token in the file `api.token` of the data directory."
    ),
    paths(
        routes::status,
        routes::peers,
        routes::tree,
        routes::invite,
        routes::resolve,
        routes::send,
        routes::multicast,
        routes::broadcast,
        routes::trace,
        routes::listen,
        routes::events,
        routes::evolve,
        routes::leave,
        routes::put,
        routes::get_record,
        routes::delete,
        routes::watch,
        routes::records,
    ),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme =
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
        document.security = Some(vec![SecurityRequirement::new(
            "token",
            Vec::<String>::new(),
        )]);
    }
}

/// The document.
pub(crate) fn document() -> openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_tells_every_path_and_resolves_every_reference() {
        let text = document().to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["paths"].as_object().unwrap().len(), 17);
        let schemas = value["components"]["schemas"].as_object().unwrap();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                schemas.contains_key(name),
                "{name} is referred to, but not told"
            );
        }
        assert_eq!(
            value["components"]["securitySchemes"]["token"]["scheme"],
            "bearer"
        );
    }
}
