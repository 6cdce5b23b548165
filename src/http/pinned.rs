//! A server that is known by its certificate alone: Service Fabric's managed identity endpoint has a self-signed one.
//!
//! Source: Microsoft Learn "How to leverage a Service Fabric application's managed identity to access Azure services".

use std::str::FromStr;

use aws_lc_rs::digest;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use subtle::ConstantTimeEq;

use crate::identifiers::Invalid;

/// The SHA-1 of a certificate (DER), as Windows and Service Fabric name certificates. To pass for one takes a second
/// preimage, which nobody knows how to make; collisions, which are known, do not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbprint([u8; 20]);

impl FromStr for Thumbprint {
    type Err = Invalid;

    /// 40 hexadecimal digits; colons and spaces do not count.
    fn from_str(value: &str) -> Result<Self, Invalid> {
        let digits: Option<Vec<u8>> = value
            .chars()
            .filter(|character| !matches!(character, ':' | ' '))
            .map(|character| character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits: [u8; 40] =
            digits.and_then(|digits| digits.try_into().ok()).ok_or(Invalid::NotAThumbprint)?;
        let (pairs, _) = digits.as_chunks::<2>();
        let mut bytes = [0; 20];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl Thumbprint {
    fn is_of(&self, certificate: &[u8]) -> bool {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
        digest.as_ref().ct_eq(&self.0).into()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

impl ServerCertVerifier for Thumbprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_of(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let plain = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let thumbprint: Thumbprint = plain.parse().unwrap();
        assert!(thumbprint.is_of(b"abc") && !thumbprint.is_of(b"abd"));
        let pairs: Vec<String> =
            plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
        for same in [pairs.join(":"), pairs.join(" ")] {
            assert_eq!(same.parse::<Thumbprint>().unwrap(), thumbprint);
        }
        for wrong in ["", &plain[1..], &format!("{plain}00"), "x9993e364706816aba3e25717850c26c9cd0d89d"] {
            assert!(wrong.parse::<Thumbprint>().is_err(), "{wrong}");
        }
    }
}
