use std::vec::Vec;

use rustls::pki_types::{SubjectPublicKeyInfoDer, UnixTime};

use super::der::{
    BIT_STRING, BOOLEAN, BadDer, Der, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, UTC_TIME,
    explicit,
};

/// The fields of an X.509 certificate (RFC 5280) that tapster itself needs, borrowed from its bytes.
///
/// webpki checks chains. This type is for the fields that webpki does not check, or does not check in
/// certificates of version 1.
pub(super) struct Certificate<'a> {
    /// The part that is signed.
    pub(super) signed: &'a [u8],
    /// 1 to 3.
    pub(super) version: u8,
    /// The contents of the issuer's name.
    pub(super) issuer: &'a [u8],
    /// Seconds since 1970 between which the certificate is valid, both included.
    pub(super) validity: (i64, i64),
    /// The contents of the subject's name.
    pub(super) subject: &'a [u8],
    /// The public key, as a whole element.
    pub(super) public_key: &'a [u8],
    /// The contents of the list of extensions.
    extensions: &'a [u8],
    /// The contents of the identifier of the signature's algorithm.
    pub(super) signature_algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// `commonName`
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
// Extensions (RFC 5280, 4.2.1).
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 29, 30];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, BadDer> {
        let mut outer = Der::new(der).enter(SEQUENCE)?;
        let signed = outer.element(SEQUENCE)?;
        let mut fields = Der::new(signed.contents);
        let version = match fields.take_if(explicit(0))? {
            None => 1,
            Some(version) => match Der::new(version).take(INTEGER)? {
                [number @ 0..=2] => number + 1,
                _ => return Err(BadDer),
            },
        };
        fields.take(INTEGER)?;
        let signed_algorithm = fields.take(SEQUENCE)?;
        let issuer = fields.take(SEQUENCE)?;
        let mut validity = fields.enter(SEQUENCE)?;
        let validity = (time(&mut validity)?, time(&mut validity)?);
        let subject = fields.take(SEQUENCE)?;
        let public_key = fields.element(SEQUENCE)?.whole;
        let mut extensions = &[][..];
        while !fields.is_empty() {
            let field = fields.any()?;
            if field.tag == explicit(3) {
                extensions = Der::new(field.contents).take(SEQUENCE)?;
            }
        }
        if version != 3 && !extensions.is_empty() {
            return Err(BadDer);
        }
        let signature_algorithm = outer.take(SEQUENCE)?;
        // The algorithm is given twice, but only once in the signed part.
        if signature_algorithm != signed_algorithm {
            return Err(BadDer);
        }
        let signature = outer.bits()?;
        Ok(Self {
            signed: signed.whole,
            version,
            issuer,
            validity,
            subject,
            public_key,
            extensions,
            signature_algorithm,
            signature,
        })
    }

    pub(super) fn public_key(&self) -> SubjectPublicKeyInfoDer<'a> {
        SubjectPublicKeyInfoDer::from(self.public_key)
    }

    /// The subject's first `commonName`, in any encoding.
    pub(super) fn common_name(&self) -> Result<Option<&'a [u8]>, BadDer> {
        let mut name = Der::new(self.subject);
        while !name.is_empty() {
            let mut parts = name.enter(SET)?;
            while !parts.is_empty() {
                let mut part = parts.enter(SEQUENCE)?;
                if part.take(OID)? == COMMON_NAME {
                    return part.any().map(|value| Some(value.contents));
                }
            }
        }
        Ok(None)
    }

    /// The tags and contents of the subject's alternative names.
    pub(super) fn alternative_names(&self) -> Result<Vec<(u8, &'a [u8])>, BadDer> {
        let mut found = Vec::new();
        for extension in self.extensions()? {
            if extension.id == SUBJECT_ALT_NAME {
                let mut names = Der::new(extension.value).enter(SEQUENCE)?;
                while !names.is_empty() {
                    let name = names.any()?;
                    found.push((name.tag, name.contents));
                }
            }
        }
        Ok(found)
    }

    /// The contents of the constraints on the names for which this authority may issue certificates.
    pub(super) fn name_constraints(&self) -> Result<Option<&'a [u8]>, BadDer> {
        let extensions = self.extensions()?;
        let constraints = extensions.iter().find(|extension| extension.id == NAME_CONSTRAINTS);
        constraints.map(|extension| Der::new(extension.value).take(SEQUENCE)).transpose()
    }

    /// Whether this is the certificate of an authority that may issue any server's certificate. False if it
    /// restricts the names or purposes of the certificates that it issues.
    pub(super) fn is_plain_authority(&self) -> bool {
        let Ok(extensions) = self.extensions() else { return false };
        let is = |extension: &Extension<'_>| match extension.id {
            // SEQUENCE { cA BOOLEAN, pathLenConstraint INTEGER }: any length allows certificates for servers.
            BASIC_CONSTRAINTS => Der::new(extension.value)
                .enter(SEQUENCE)
                .and_then(|mut constraints| constraints.take_if(BOOLEAN))
                .is_ok_and(|is_ca| is_ca == Some(&[0xff])),
            // A bit string: the number of unused bits, then keyCertSign as the sixth bit.
            KEY_USAGE => Der::new(extension.value)
                .take(BIT_STRING)
                .is_ok_and(|bits| bits.get(1).is_some_and(|usage| usage & 0x04 != 0)),
            NAME_CONSTRAINTS | EXTENDED_KEY_USAGE => false,
            _ => !extension.is_critical,
        };
        let is_authority = extensions.iter().any(|extension| extension.id == BASIC_CONSTRAINTS);
        is_authority && extensions.iter().all(is)
    }

    /// Checks that the certificate is valid now; the error says why it is not, in OpenSSL's words.
    pub(super) fn check_validity(&self, now: UnixTime) -> Result<(), &'static str> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (first, last) = self.validity;
        match now {
            _ if now < first => Err("certificate is not yet valid"),
            _ if now > last => Err("certificate has expired"),
            _ => Ok(()),
        }
    }

    fn extensions(&self) -> Result<Vec<Extension<'a>>, BadDer> {
        let mut found = Vec::new();
        let mut extensions = Der::new(self.extensions);
        while !extensions.is_empty() {
            let mut extension = extensions.enter(SEQUENCE)?;
            let id = extension.take(OID)?;
            let is_critical = extension.take_if(BOOLEAN)?.is_some_and(|value| value != [0]);
            found.push(Extension { id, is_critical, value: extension.take(OCTET_STRING)? });
        }
        Ok(found)
    }
}

struct Extension<'a> {
    id: &'a [u8],
    is_critical: bool,
    value: &'a [u8],
}

/// Reads a time as seconds since 1970. The time is in UTC and has seconds: RFC 5280 allows nothing else.
fn time(der: &mut Der<'_>) -> Result<i64, BadDer> {
    let element = der.any()?;
    let (year, rest) = match (element.tag, element.contents) {
        (UTC_TIME, [y1, y2, rest @ ..]) => {
            let year = two_digits(*y1, *y2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, [y1, y2, y3, y4, rest @ ..]) => {
            (100 * two_digits(*y1, *y2)? + two_digits(*y3, *y4)?, rest)
        }
        _ => return Err(BadDer),
    };
    let &[m1, m2, d1, d2, h1, h2, min1, min2, s1, s2, b'Z'] = rest else { return Err(BadDer) };
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let (hour, minute, second) = (two_digits(h1, h2)?, two_digits(min1, min2)?, two_digits(s1, s2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(BadDer);
    }
    // Days since 1970-01-01, with years that begin in March so that a leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn two_digits(tens: u8, ones: u8) -> Result<i64, BadDer> {
    match (tens, ones) {
        (b'0'..=b'9', b'0'..=b'9') => Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => Err(BadDer),
    }
}

/// A certificate with these names, and with meaningless other fields.
#[cfg(test)]
pub(super) fn with_names(common_name: Option<&[u8]>, alternative_names: &[(u8, &[u8])]) -> Vec<u8> {
    let element = |tag: u8, contents: &[u8]| {
        let mut whole = super::der::sequence(contents);
        whole[0] = tag;
        whole
    };
    let sequence = |parts: &[&[u8]]| element(SEQUENCE, &parts.concat());
    let names: Vec<u8> =
        alternative_names.iter().flat_map(|&(tag, contents)| element(tag, contents)).collect();
    let extension =
        sequence(&[&element(OID, SUBJECT_ALT_NAME), &element(OCTET_STRING, &sequence(&[&names]))]);
    let subject = common_name.map_or_else(Vec::new, |name| {
        element(SET, &sequence(&[&element(OID, COMMON_NAME), &element(0x0c, name)]))
    });
    let time = element(UTC_TIME, b"260101000000Z");
    let signed = sequence(&[
        &element(explicit(0), &element(INTEGER, &[2])),
        &element(INTEGER, &[1]),
        &sequence(&[]),
        &sequence(&[]),
        &sequence(&[&time, &time]),
        &sequence(&[&subject]),
        &sequence(&[]),
        &element(explicit(3), &sequence(&[&extension])),
    ]);
    sequence(&[&signed, &sequence(&[]), &element(BIT_STRING, &[0])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_is_an_error() {
        let certificate = with_names(Some(b"db1"), &[(0x82, b"db1")]);
        assert!(Certificate::parse(&certificate).is_ok());
        for len in 0..certificate.len() {
            assert!(Certificate::parse(&certificate[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn times_are_seconds_since_1970() {
        let read = |tag: u8, text: &str| {
            time(&mut Der::new(&[&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()))
        };
        for (text, seconds) in [
            ("700101000000Z", 0),
            ("000229120000Z", 951_825_600),
            ("991231235959Z", 946_684_799),
            ("260301000000Z", 1_772_323_200),
            ("491231235959Z", 2_524_607_999),
            ("500101000000Z", -631_152_000),
        ] {
            assert_eq!(read(UTC_TIME, text), Ok(seconds), "{text}");
        }
        assert_eq!(read(GENERALIZED_TIME, "20500101000000Z"), Ok(2_524_608_000));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Ok(253_402_300_799));
        for text in ["7001010000Z", "700101000000", "700101000000+0100", "701301000000Z", "70010100000 Z", ""]
        {
            assert_eq!(read(UTC_TIME, text), Err(BadDer), "{text}");
        }
    }
}
