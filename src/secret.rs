//! The only type that may hold a credential.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// An assertion, an access token or a request token.
///
/// It has no `Display`, `Serialize`, `Clone`, `Deref` or `PartialEq`, its `Debug` shows nothing, and its memory is
/// overwritten when it is dropped. [`Secret::expose`] is the only way to the value: `grep -rn 'expose()' src` is the
/// audit of every place that uses one.
pub struct Secret(SecretString);

impl Secret {
    /// Takes ownership of a credential.
    pub fn new(value: String) -> Self {
        Self(SecretString::from(value))
    }

    /// The credential itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("sentinel-value".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(***))");
        assert_eq!(secret.expose(), "sentinel-value");
    }
}
