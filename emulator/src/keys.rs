//! RS256 keys of the issuers, JSON Web Keys and JSON Web Tokens (RFC 7515, 7517, 7519).

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// One issuer's key, generated when it is first used.
#[derive(Default)]
pub struct Key {
    id: &'static str,
    pair: OnceLock<KeyPair>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Key({})", self.id)
    }
}

impl Key {
    pub fn new(id: &'static str) -> Self {
        Self { id, pair: OnceLock::new() }
    }

    fn pair(&self) -> &KeyPair {
        self.pair.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    /// A signed token.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.id });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.pair().public_modulus_len()];
        self.pair().sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether the token has this key's signature.
    pub fn verifies(&self, token: &Token<'_>) -> bool {
        let public = self.pair().public_key();
        let components = RsaPublicKeyComponents {
            n: public.modulus().big_endian_without_leading_zero(),
            e: public.exponent().big_endian_without_leading_zero(),
        };
        token.header["alg"] == "RS256"
            && components
                .verify(&RSA_PKCS1_2048_8192_SHA256, token.signed.as_bytes(), &token.signature)
                .is_ok()
    }

    /// The key set that the issuer publishes.
    pub fn jwks(&self) -> Value {
        let public = self.pair().public_key();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id,
            "n": encode(public.modulus().big_endian_without_leading_zero()),
            "e": encode(public.exponent().big_endian_without_leading_zero()),
        }]})
    }
}

/// A token taken apart, not verified.
#[derive(Debug)]
pub struct Token<'a> {
    pub header: Value,
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    pub fn parse(jwt: &'a str) -> Option<Self> {
        let (signed, signature) = jwt.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: decode(header)?,
            claims: decode(claims).filter(Value::is_object)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_signature_verifies() {
        let (key, other) = (Key::new("a"), Key::new("b"));
        let jwt = key.sign(&json!({ "sub": "x" }));
        let token = Token::parse(&jwt).unwrap();
        assert!(key.verifies(&token) && !other.verifies(&token));
        let (head, signature) = jwt.rsplit_once('.').unwrap();
        let forged = format!(
            "{}.{}.{signature}",
            head.split_once('.').unwrap().0,
            URL_SAFE_NO_PAD.encode("{\"sub\":\"y\"}")
        );
        assert!(!key.verifies(&Token::parse(&forged).unwrap()));
        let unsigned =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"), URL_SAFE_NO_PAD.encode("{}"));
        assert!(!key.verifies(&Token::parse(&unsigned).unwrap()));
    }
}
