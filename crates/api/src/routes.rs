//! What can be asked, path by path.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequest, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use ringweave_net::{Handle, PeerRef, Topology};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Fault, Word,
    body::{
        BroadcastAnswer, BroadcastBody, DeleteBody, Delivered, EvolveBody, InviteAnswer,
        MulticastAnswer, MulticastBody, Payload, PeersAnswer, PutBody, ReceiverResult,
        RecordAnswer, RecordsAnswer, ResolveAnswer, SendBody, StatusAnswer, StoredAnswer,
        TraceAnswer, TraceBody, TreeAnswer, TreePeerAnswer, key_of,
    },
    document, guard,
    guard::Guard,
    metrics, stream, whom,
};

/// The largest request body: a payload of 64 KiB of which JSON escapes every byte to six, and the
/// longest list of receivers.
const MAX_BODY: usize = 512 * 1024;
/// Most receivers of one multicast.
const MAX_RECEIVERS: usize = 1_024;
/// Streams open at once.
const MAX_STREAMS: usize = 16;
/// Peers in a tree if the caller does not say; at most [`MAX_TREE`].
const TREE: usize = 1_000;
/// Most peers in a tree: beyond that, asking all of them is a load on the network.
const MAX_TREE: usize = 10_000;
/// The lease of a record if the caller does not say.
const LEASE: Duration = Duration::from_secs(60 * 60);
/// The longest an answer may take; every call of the peer has a shorter deadline of its own.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Shared {
    peer: Handle,
    streams: Arc<Semaphore>,
}

type Answer<T> = Result<Json<T>, Fault>;

/// All paths, behind the guard.
pub(crate) fn router(peer: Handle, guard: Arc<Guard>) -> Router {
    let shared = Shared {
        peer,
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
    };
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(healthz))
        .route("/openapi.json", get(openapi))
        .route("/metrics", get(figures))
        .route("/v1/status", get(status))
        .route("/v1/peers", get(peers))
        .route("/v1/tree", get(tree))
        .route("/v1/invite", get(invite))
        .route("/v1/resolve", get(resolve))
        .route("/v1/send", post(send))
        .route("/v1/multicast", post(multicast))
        .route("/v1/broadcast", post(broadcast))
        .route("/v1/trace", post(trace))
        .route("/v1/listen", get(listen))
        .route("/v1/events", get(events))
        .route("/v1/evolve", post(evolve))
        .route("/v1/records", get(records).post(put))
        .route("/v1/records/read", get(get_record))
        .route("/v1/records/watch", get(watch))
        .route("/v1/records/delete", post(delete))
        .route("/v1/leave", post(leave))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .with_state(shared)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(in_time))
        // The last layer is the first to see a request.
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Fault::new(Word::Timeout, "the peer did not answer within 10 s").into_response(),
    }
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn openapi() -> Response {
    Json(document::document()).into_response()
}

async fn nothing() -> Fault {
    Fault::new(
        Word::NotFound,
        "no such path; /openapi.json tells all of them",
    )
}

async fn not_so() -> Response {
    let fault = Fault::new(
        Word::Malformed,
        "this path knows no such method; /openapi.json tells which",
    );
    (StatusCode::METHOD_NOT_ALLOWED, Json(fault)).into_response()
}

async fn figures(State(shared): State<Shared>) -> Result<Response, Fault> {
    let status = shared.peer.status().await?;
    let peers = shared.peer.peers().await?;
    let text = metrics::render(&status, &peers);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// The peer's state at a glance.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = StatusAnswer)))]
pub(crate) async fn status(State(shared): State<Shared>) -> Answer<StatusAnswer> {
    Ok(Json(shared.peer.status().await?.into()))
}

/// The peer's neighbours.
#[utoipa::path(get, path = "/v1/peers", responses((status = 200, body = PeersAnswer)))]
pub(crate) async fn peers(State(shared): State<Shared>) -> Answer<PeersAnswer> {
    let peers = shared
        .peer
        .peers()
        .await?
        .into_iter()
        .map(Into::into)
        .collect();
    Ok(Json(PeersAnswer { peers }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TreeQuery {
    limit: Option<usize>,
}

/// The rings of the network, from the center outward.
#[utoipa::path(get, path = "/v1/tree",
    params(("limit" = Option<usize>, Query, description = "most peers to ask for, 1000 if absent, at most 10000")),
    responses((status = 200, body = TreeAnswer), (status = 504, body = Fault)))]
pub(crate) async fn tree(
    State(shared): State<Shared>,
    Arguments(query): Arguments<TreeQuery>,
) -> Answer<TreeAnswer> {
    let limit = query.limit.unwrap_or(TREE);
    if limit == 0 || limit > MAX_TREE {
        return Err(Fault::new(
            Word::Malformed,
            format!("limit is {limit}, but must be from 1 to {MAX_TREE}"),
        ));
    }
    let tree = shared.peer.tree(limit).await?;
    let peers = tree.peers.into_iter();
    let peers = peers.map(|peer| TreePeerAnswer {
        guid: peer.guid,
        peer_id: peer.peer_id,
        name: peer.name,
    });
    Ok(Json(TreeAnswer {
        peers: peers.collect(),
        truncated: tree.truncated,
    }))
}

/// An invite into the peer's network.
#[utoipa::path(get, path = "/v1/invite", responses((status = 200, body = InviteAnswer)))]
pub(crate) async fn invite(State(shared): State<Shared>) -> Answer<InviteAnswer> {
    let invite = shared.peer.invite().await?;
    Ok(Json(InviteAnswer {
        invite: invite.to_string(),
        carries_secret: invite.carries_secret(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveQuery {
    peer: String,
}

/// Who is meant by a text.
#[utoipa::path(get, path = "/v1/resolve",
    params(("peer" = String, Query, description = "a PeerId, its first characters, a name, or a GUID")),
    responses((status = 200, body = ResolveAnswer), (status = 400, body = Fault), (status = 404, body = Fault)))]
pub(crate) async fn resolve(
    State(shared): State<Shared>,
    Arguments(query): Arguments<ResolveQuery>,
) -> Answer<ResolveAnswer> {
    let peer_id = shared.peer.resolve(whom(&query.peer)?).await?;
    Ok(Json(ResolveAnswer { peer_id }))
}

/// Sends to one peer and waits until it is delivered.
#[utoipa::path(post, path = "/v1/send", request_body = SendBody,
    responses((status = 200, body = Delivered), (status = 400, body = Fault), (status = 404, body = Fault),
        (status = 409, body = Fault), (status = 413, body = Fault), (status = 503, body = Fault),
        (status = 504, body = Fault)))]
pub(crate) async fn send(
    State(shared): State<Shared>,
    Body(body): Body<SendBody>,
) -> Answer<Delivered> {
    let to = whom(&body.to)?;
    let delivery = shared.peer.send(to, payload(body.payload)?).await?;
    Ok(Json(delivery.into()))
}

/// Sends to several peers along one tree; the results stand in the order of the receivers.
#[utoipa::path(post, path = "/v1/multicast", request_body = MulticastBody,
    responses((status = 200, body = MulticastAnswer), (status = 400, body = Fault), (status = 413, body = Fault)))]
pub(crate) async fn multicast(
    State(shared): State<Shared>,
    Body(body): Body<MulticastBody>,
) -> Answer<MulticastAnswer> {
    if body.to.is_empty() || body.to.len() > MAX_RECEIVERS {
        let message = format!(
            "{} receivers, but a multicast has 1 to {MAX_RECEIVERS}",
            body.to.len()
        );
        return Err(Fault::new(Word::Malformed, message));
    }
    let to = body
        .to
        .iter()
        .map(|text| whom(text))
        .collect::<Result<Vec<PeerRef>, _>>()?;
    let results = shared.peer.multicast(to, payload(body.payload)?).await?;
    let results = body.to.into_iter().zip(results);
    let results = results
        .map(|(to, result)| ReceiverResult {
            to,
            outcome: result.into(),
        })
        .collect();
    Ok(Json(MulticastAnswer { results }))
}

/// Sends to everyone, or to everyone at or below a GUID, and waits for how far it got.
#[utoipa::path(post, path = "/v1/broadcast", request_body = BroadcastBody,
    responses((status = 200, body = BroadcastAnswer), (status = 404, body = Fault), (status = 413, body = Fault)))]
pub(crate) async fn broadcast(
    State(shared): State<Shared>,
    Body(body): Body<BroadcastBody>,
) -> Answer<BroadcastAnswer> {
    let spread = shared
        .peer
        .broadcast(body.below, payload(body.payload)?)
        .await?;
    Ok(Json(spread.into()))
}

/// The way to a peer, this one first.
#[utoipa::path(post, path = "/v1/trace", request_body = TraceBody,
    responses((status = 200, body = TraceAnswer), (status = 400, body = Fault), (status = 404, body = Fault),
        (status = 503, body = Fault), (status = 504, body = Fault)))]
pub(crate) async fn trace(
    State(shared): State<Shared>,
    Body(body): Body<TraceBody>,
) -> Answer<TraceAnswer> {
    let hops = shared.peer.trace(whom(&body.to)?).await?;
    Ok(Json(TraceAnswer {
        hops: hops.into_iter().map(Into::into).collect(),
    }))
}

/// The messages for the application as server-sent events, the waiting ones first. The last caller
/// has them; an earlier stream ends.
#[utoipa::path(get, path = "/v1/listen",
    responses((status = 200, body = crate::body::MessageEvent, content_type = "text/event-stream"),
        (status = 429, body = Fault)))]
pub(crate) async fn listen(State(shared): State<Shared>) -> Result<Response, Fault> {
    let place = place(&shared)?;
    let inbox = shared.peer.listen().await?;
    Ok(stream::messages(inbox, place).into_response())
}

/// What happens at the peer from now on, as server-sent events.
#[utoipa::path(get, path = "/v1/events",
    responses((status = 200, description = "one JSON object an event, told apart by its field `event`",
        content_type = "text/event-stream"), (status = 429, body = Fault)))]
pub(crate) async fn events(State(shared): State<Shared>) -> Result<Response, Fault> {
    let place = place(&shared)?;
    Ok(stream::events(shared.peer.events(), place).into_response())
}

/// Begins to move the network to another topology; the state tells how far it is.
#[utoipa::path(post, path = "/v1/evolve", request_body = EvolveBody, responses(
    (status = 202, body = StatusAnswer), (status = "4XX", body = Fault)
))]
pub(crate) async fn evolve(
    State(shared): State<Shared>,
    Body(body): Body<EvolveBody>,
) -> Result<(StatusCode, Json<StatusAnswer>), Fault> {
    let to = body.to.parse::<Topology>();
    let to = to.map_err(|error| Fault::new(Word::Malformed, error.to_string()))?;
    shared.peer.evolve(to).await?;
    let status = shared.peer.status().await?;
    Ok((StatusCode::ACCEPTED, Json(status.into())))
}

/// Keeps a record in the network, and renews it as long as the peer runs.
#[utoipa::path(post, path = "/v1/records", request_body = PutBody, responses(
    (status = 200, body = StoredAnswer), (status = "4XX", body = Fault), (status = "5XX", body = Fault)
))]
pub(crate) async fn put(
    State(shared): State<Shared>,
    Body(body): Body<PutBody>,
) -> Answer<StoredAnswer> {
    let lease = Duration::from_secs(body.lease_s.unwrap_or(LEASE.as_secs()));
    let value = payload(body.payload)?;
    let stored = match body.name {
        Some(name) => shared.peer.put(name, value, lease).await?,
        None => shared.peer.put_immutable(value, lease).await?,
    };
    Ok(Json(stored.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordQuery {
    key: String,
}

/// What is kept under a key.
#[utoipa::path(get, path = "/v1/records/read",
    params(("key" = String, Query, description = "64 hexadecimal digits, or the name of a record of the peer itself")),
    responses((status = 200, body = RecordAnswer), (status = 404, body = Fault), (status = 503, body = Fault),
        (status = 504, body = Fault)))]
pub(crate) async fn get_record(
    State(shared): State<Shared>,
    Arguments(query): Arguments<RecordQuery>,
) -> Answer<RecordAnswer> {
    let key = key_of(&query.key, &shared.peer.id());
    let found = shared.peer.get(key).await?;
    let nothing = || Fault::new(Word::NotFound, format!("nobody keeps anything under {key}"));
    Ok(Json(found.ok_or_else(nothing)?.into()))
}

/// What is kept under a key, now and whenever it changes, as server-sent events.
#[utoipa::path(get, path = "/v1/records/watch",
    params(("key" = String, Query, description = "as for reading")),
    responses((status = 200, body = crate::body::WatchEvent, content_type = "text/event-stream"), (status = 429, body = Fault)))]
pub(crate) async fn watch(
    State(shared): State<Shared>,
    Arguments(query): Arguments<RecordQuery>,
) -> Result<Response, Fault> {
    let key = key_of(&query.key, &shared.peer.id());
    let place = place(&shared)?;
    let watch = shared.peer.watch(key).await?;
    Ok(stream::watched(watch, key, place).into_response())
}

/// Deletes a record of this peer: nobody reads it from then on.
#[utoipa::path(post, path = "/v1/records/delete", request_body = DeleteBody, responses(
    (status = 200, body = StoredAnswer), (status = "4XX", body = Fault), (status = "5XX", body = Fault)
))]
pub(crate) async fn delete(
    State(shared): State<Shared>,
    Body(body): Body<DeleteBody>,
) -> Answer<StoredAnswer> {
    Ok(Json(shared.peer.delete(body.name).await?.into()))
}

/// What this peer keeps alive in the network.
#[utoipa::path(get, path = "/v1/records", responses((status = 200, body = RecordsAnswer)))]
pub(crate) async fn records(State(shared): State<Shared>) -> Answer<RecordsAnswer> {
    let records = shared.peer.records().await?;
    let records = records.into_iter().map(Into::into).collect();
    Ok(Json(RecordsAnswer { records }))
}

/// Leaves the network in an orderly way and ends the peer.
#[utoipa::path(post, path = "/v1/leave", responses((status = 204, description = "the peer has left")))]
pub(crate) async fn leave(State(shared): State<Shared>) -> StatusCode {
    shared.peer.leave().await;
    StatusCode::NO_CONTENT
}

fn place(shared: &Shared) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(&shared.streams)
        .try_acquire_owned()
        .map_err(|_| {
            Fault::new(
                Word::Busy,
                format!("{MAX_STREAMS} streams are open; close one first"),
            )
        })
}

fn payload(payload: Payload) -> Result<Bytes, Fault> {
    let bytes = payload
        .into_bytes()
        .ok_or_else(|| Fault::new(Word::Malformed, "payload_base64 is no base64"))?;
    if bytes.len() > ringweave_node::MAX_PAYLOAD {
        let limit = ringweave_node::MAX_PAYLOAD;
        let message = format!(
            "the payload has {} bytes, over the limit of {limit}",
            bytes.len()
        );
        return Err(Fault::new(Word::TooLarge, message));
    }
    Ok(bytes.into())
}

/// A body of JSON, whatever content type it claims.
pub(crate) struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| {
                let is_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
                let word = if is_large {
                    Word::TooLarge
                } else {
                    Word::Malformed
                };
                Fault::new(word, rejection.body_text())
            })?;
        let value = serde_json::from_slice(&bytes);
        value
            .map(Self)
            .map_err(|error| Fault::new(Word::Malformed, format!("the body: {error}")))
    }
}

/// The arguments of the path.
pub(crate) struct Arguments<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> axum::extract::FromRequestParts<S> for Arguments<T> {
    type Rejection = Fault;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Fault> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|error| Fault::new(Word::Malformed, error.body_text()))
    }
}
