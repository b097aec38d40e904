//! The local HTTP interface of one running peer, and a client for it.
//!
//! ```text
//! program, scripts, curl ──HTTP on 127.0.0.1, bearer token──> Server ──> net's Handle
//! ```
//!
//! Who may call is decided in one place, in front of everything (module `guard`): the Host must be this
//! server's own, the Origin absent or the same, the token right. The interface is for processes of
//! the same user on the same machine; it never listens on other than loopback addresses.

pub mod body;
mod client;
mod document;
mod fault;
mod files;
mod guard;
mod metrics;
mod routes;
mod server;
mod stream;
mod whom;

pub use client::{Client, ClientError, Lines};
pub use fault::{Fault, Word};
pub use files::{ADDRESS_FILE, TOKEN_FILE};
pub use server::{Door, DoorError, Server};
pub use whom::{MAX_NAME, WhomError, check_name, whom};
