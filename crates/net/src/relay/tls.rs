//! TLS with keys for certificates (RFC 7250): a relay shows its host's PeerId, which is in its name.

use std::sync::Arc;

use iroh::SecretKey;
use iroh_relay::tls::{CaTlsConfig, default_provider};
use ringweave_ids::PeerId;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig,
    SignatureAlgorithm, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id},
    server::AlwaysResolvesServerRawPublicKeys,
    sign::{CertifiedKey, Signer, SigningKey, public_key_to_spki},
    version::TLS13,
};

use super::read_name;

/// Whom an endpoint takes for a relay: the peer that the relay's name says, and no authority.
pub(crate) fn trust() -> CaTlsConfig {
    CaTlsConfig::custom_server_cert_verifier(Arc::new(|provider| Ok(Arc::new(Named(provider)))))
}

/// How a relay shows whose it is.
pub(super) fn show(key: &SecretKey) -> ServerConfig {
    let key = Key(key.clone());
    let shown = CertificateDer::from(spki(&key.id()).to_vec());
    let certified = Arc::new(CertifiedKey::new(vec![shown], Arc::new(key)));
    ServerConfig::builder_with_provider(default_provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3, which QUIC needs too")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)))
}

fn spki(id: &PeerId) -> SubjectPublicKeyInfoDer<'static> {
    public_key_to_spki(&alg_id::ED25519, id.as_bytes())
}

/// Checks that the key shown is the one in the name.
#[derive(Debug)]
struct Named(Arc<CryptoProvider>);

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ServerName::DnsName(name) = server_name else {
            return Err(Error::UnsupportedNameType);
        };
        let (host, ..) = read_name(name.as_ref()).ok_or(Error::UnsupportedNameType)?;
        if end_entity.as_ref() == spki(&host).as_ref() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let shown = SubjectPublicKeyInfoDer::from(cert.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &shown, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A peer's key, as TLS uses it.
#[derive(Clone, Debug)]
struct Key(SecretKey);

impl Key {
    fn id(&self) -> PeerId {
        PeerId::from_bytes(*self.0.public().as_bytes())
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(spki(&self.id()))
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
