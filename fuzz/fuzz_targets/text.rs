//! Any text as an invite, a GUID, a PeerId: what parses prints as something that parses alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringweave_ids::{Guid, PeerId};
use ringweave_net::Invite;

fuzz_target!(|text: &str| {
    if let Ok(guid) = text.parse::<Guid>() {
        assert_eq!(guid.to_string().parse(), Ok(guid));
    }
    if let Ok(peer) = text.parse::<PeerId>() {
        assert_eq!(peer.to_string().parse(), Ok(peer));
    }
    if let Ok(invite) = text.parse::<Invite>() {
        assert_eq!(invite.to_string().parse::<Invite>().expect("its own text"), invite);
    }
});
