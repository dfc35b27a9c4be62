//! What is read out of certificates: a client's name, and what SCRAM binds to of ours.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// The common name; `None` if there is none, or several, or one that would be cut short at a zero byte.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    let is_plain = names.next().is_none() && !name.is_empty() && !name.contains('\0');
    is_plain.then(|| name.to_string())
}

/// The hash of a server's certificate that both ends of SCRAM-SHA-256-PLUS prove to see (`tls-server-end-point`,
/// RFC 5929): by the hash function of its signature, or SHA-256 where that is a weak one. `None` where a signature
/// has no such function (Ed25519, RSA-PSS); PostgreSQL can't bind to those either.
#[must_use]
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // MD5 and SHA-1 with RSA, SHA-1 with ECDSA, SHA-256 with either.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn names_and_hashes_are_read() {
        let authority = peers::certs::Authority::create("shop").expect("an authority");
        let issued =
            authority.issue_to_proxy(&cluster::NodeId::new("clerk").expect("a name")).expect("a certificate");
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("it is one");
        assert_eq!(common_name(&certificate).as_deref(), Some("clerk"));
        // Signed with ECDSA and SHA-256.
        assert_eq!(end_point(&certificate), Some(Sha256::digest(&certificate).to_vec()));
        assert_eq!(common_name(&CertificateDer::from(vec![0x30, 0x82])), None);
        assert_eq!(end_point(&CertificateDer::from(vec![])), None);
    }
}
