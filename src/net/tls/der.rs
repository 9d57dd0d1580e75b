use std::vec::Vec;

/// A reader for DER, the encoding of certificates and keys, one element after the other.
///
/// It supports what certificates use: tags of one byte, and definite lengths below 4 GiB. It never reads
/// beyond the bytes that the caller gives.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

/// The bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadDer;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// The bytes without tag and length.
    pub(super) contents: &'a [u8],
    /// The bytes with tag and length.
    pub(super) whole: &'a [u8],
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const BOOLEAN: u8 = 0x01;

/// A context-specific tag around a whole element; its meaning depends on its place.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// A context-specific tag that replaces the tag of a simple type; its meaning depends on its place.
pub(super) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// A sequence with these contents, as a whole element.
pub(super) fn sequence(contents: &[u8]) -> Vec<u8> {
    let len = contents.len().to_be_bytes();
    let first = len.iter().position(|&byte| byte != 0).unwrap_or(len.len() - 1);
    let len = len.get(first..).unwrap_or_default();
    let count = u8::try_from(len.len()).unwrap_or(u8::MAX);
    let is_short = matches!(len, [0..0x80]);
    let prefix: &[u8] = if is_short { &[SEQUENCE] } else { &[SEQUENCE, 0x80 | count] };
    [prefix, len, contents].concat()
}

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Result<Element<'a>, BadDer> {
        let whole = self.0;
        let (&[tag, first], rest) = whole.split_first_chunk().ok_or(BadDer)?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(BadDer)?;
                let len = bytes.iter().fold(0_u64, |len, &byte| len << 8 | u64::from(byte));
                (usize::try_from(len).map_err(|_| BadDer)?, rest)
            }
            _ => return Err(BadDer),
        };
        let (contents, rest) = rest.split_at_checked(len).ok_or(BadDer)?;
        self.0 = rest;
        Ok(Element { tag, contents, whole: whole.strip_suffix(rest).unwrap_or(whole) })
    }

    /// The next element, which has to have this tag.
    pub(super) fn element(&mut self, tag: u8) -> Result<Element<'a>, BadDer> {
        self.any().and_then(|element| if element.tag == tag { Ok(element) } else { Err(BadDer) })
    }

    /// The contents of the next element, which has to have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], BadDer> {
        self.element(tag).map(|element| element.contents)
    }

    /// The contents of the next element if it has this tag.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<&'a [u8]>, BadDer> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Ok(None) }
    }

    /// A reader for the contents of the next element, which has to have this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Result<Self, BadDer> {
        self.take(tag).map(Self)
    }

    /// The bytes of the next element, which has to be a bit string of whole bytes.
    pub(super) fn bits(&mut self) -> Result<&'a [u8], BadDer> {
        match self.take(BIT_STRING)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(BadDer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn elements_follow_one_another() {
        let mut der = Der::new(&[0x30, 3, 2, 1, 5, 4, 0]);
        let mut inner = der.enter(SEQUENCE).unwrap();
        assert_eq!(inner.take_if(OID), Ok(None));
        assert_eq!(inner.take(INTEGER), Ok(&[5][..]));
        assert!(inner.is_empty());
        assert_eq!(der.any(), Ok(Element { tag: OCTET_STRING, contents: &[], whole: &[4, 0] }));
        assert!(der.is_empty());
    }

    #[test]
    fn long_lengths_have_one_to_four_bytes() {
        for prefix in [&[4, 0x81, 200][..], &[4, 0x82, 0, 200], &[4, 0x84, 0, 0, 0, 200]] {
            let bytes = [prefix, &[7; 200]].concat();
            assert_eq!(Der::new(&bytes).take(OCTET_STRING), Ok(&[7; 200][..]));
            assert_eq!(Der::new(&bytes[..bytes.len() - 1]).take(OCTET_STRING), Err(BadDer));
        }
        for prefix in [&[4, 0x80][..], &[4, 0x85, 0, 0, 0, 0, 1], &[4, 0xff]] {
            assert_eq!(Der::new(&[prefix, &[7; 200]].concat()).any(), Err(BadDer), "{prefix:?}");
        }
    }

    #[test]
    fn a_sequence_has_the_shortest_length() {
        for (len, prefix) in
            [(0, &[0x30, 0][..]), (127, &[0x30, 127]), (128, &[0x30, 0x81, 128]), (256, &[0x30, 0x82, 1, 0])]
        {
            let whole = sequence(&vec![7; len]);
            assert!(whole.starts_with(prefix), "{len}");
            assert_eq!(Der::new(&whole).take(SEQUENCE), Ok(&vec![7; len][..]));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes: Vec<u8> = vec![0x30, 0x81, 4, 2, 2, 1, 2];
        for len in 0..bytes.len() {
            assert_eq!(Der::new(&bytes[..len]).any(), Err(BadDer), "{len}");
        }
    }

    #[test]
    fn a_bit_string_has_whole_bytes() {
        assert_eq!(Der::new(&[3, 2, 0, 9]).bits(), Ok(&[9][..]));
        assert_eq!(Der::new(&[3, 2, 1, 8]).bits(), Err(BadDer));
        assert_eq!(Der::new(&[3, 0]).bits(), Err(BadDer));
    }
}
