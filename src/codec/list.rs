//! Lists inside messages: checked once, then read without the possibility of an error.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::error::{DecodeError, EncodeError, EncodeErrorKind};
use super::reader::Reader;
use super::writer::{Writer, write};

/// A kind of list item: how an item is read and written. Sealed; the kinds are those of the protocol.
pub trait Item: sealed::Item {}

pub(crate) mod sealed {
    use core::fmt::{self, Debug};

    use super::{DecodeError, EncodeError, Reader, Writer};

    pub trait Item {
        /// The item that the list yields.
        type Item<'a>: Clone + Debug + PartialEq;

        fn read<'a>(reader: &mut Reader<'a>) -> Result<Self::Item<'a>, DecodeError>;

        /// Checks an item without keeping it.
        #[inline]
        fn check(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
            Self::read(reader).map(drop)
        }

        fn write(item: &Self::Item<'_>, writer: &mut Writer<'_>) -> Result<(), EncodeError>;

        /// `Debug` of an item in a list.
        fn show(item: &Self::Item<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            item.fmt(f)
        }
    }
}

/// A list that borrows the bytes of its message.
///
/// The whole list was checked when the message was parsed, so iterating cannot fail. The items stay in the
/// bytes of the message: no memory is allocated, whatever count the peer claims. To make one, fill a
/// [`ListBuf`].
pub struct List<'a, T: Item> {
    count: usize,
    bytes: &'a [u8],
    kind: PhantomData<T>,
}

impl<'a, T: Item> List<'a, T> {
    /// The list without items.
    pub const EMPTY: Self = Self { count: 0, bytes: &[], kind: PhantomData };

    /// Items that were checked before, as [`as_bytes`](Self::as_bytes) gives them.
    pub(crate) const fn from_checked(count: usize, bytes: &'a [u8]) -> Self {
        Self { count, bytes, kind: PhantomData }
    }

    /// Checks `count` items.
    #[inline]
    pub(crate) fn counted(reader: &mut Reader<'a>, count: usize) -> Result<Self, DecodeError> {
        let all = reader.peek();
        reader.refuse_huge()?;
        for _ in 0..count {
            T::check(reader)?;
        }
        let used = all.len().saturating_sub(reader.peek().len());
        Ok(Self { count, bytes: all.get(..used).unwrap_or_default(), kind: PhantomData })
    }

    /// Checks `count` items, after which nothing may be left.
    #[inline]
    pub(crate) fn counted_to_end(mut reader: Reader<'a>, count: usize) -> Result<Self, DecodeError> {
        let bytes = reader.peek();
        reader.refuse_huge()?;
        for _ in 0..count {
            T::check(&mut reader)?;
        }
        reader.finish()?;
        Ok(Self { count, bytes, kind: PhantomData })
    }

    /// Checks items up to the zero byte that ends the list, and takes the zero byte too.
    #[inline]
    pub(crate) fn terminated(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        let all = reader.peek();
        let mut count: usize = 0;
        while reader.peek().first() != Some(&0) {
            if reader.peek().is_empty() {
                return Err(reader.error(field, super::DecodeErrorKind::Unterminated));
            }
            T::check(reader)?;
            count = count.saturating_add(1);
        }
        let used = all.len().saturating_sub(reader.peek().len());
        reader.u8(field)?;
        Ok(Self { count, bytes: all.get(..used).unwrap_or_default(), kind: PhantomData })
    }

    /// How many items there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no item.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items in order.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> ListIter<'a, T> {
        ListIter { left: self.count, reader: Reader::new("list", self.bytes), kind: PhantomData }
    }

    /// The item at `index`, from 0. This reads all items before it: for many items, use [`iter`](Self::iter).
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T::Item<'a>> {
        self.iter().nth(index)
    }

    /// The items as they are encoded, without count or terminator.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_buf(&self) -> ListBuf<T> {
        ListBuf { count: self.count, bytes: self.bytes.to_vec(), kind: PhantomData }
    }
}

impl<T: Item> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Item> Copy for List<'_, T> {}

impl<T: Item> Default for List<'_, T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Item> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        // Each item has one encoding, so equal bytes are equal items.
        self.count == other.count && self.bytes == other.bytes
    }
}

impl<T: Item> Eq for List<'_, T> {}

impl<T: Item> fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Shown::<T>)).finish()
    }
}

/// An item as a list shows it.
struct Shown<'a, T: Item>(T::Item<'a>);

impl<T: Item> fmt::Debug for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::show(&self.0, f)
    }
}

impl<'a, T: Item> IntoIterator for &List<'a, T> {
    type Item = T::Item<'a>;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Item> IntoIterator for List<'a, T> {
    type Item = T::Item<'a>;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

/// The items of a [`List`] in order.
pub struct ListIter<'a, T: Item> {
    left: usize,
    reader: Reader<'a>,
    kind: PhantomData<T>,
}

impl<'a, T: Item> Iterator for ListIter<'a, T> {
    type Item = T::Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<T::Item<'a>> {
        // No item is empty and the list was checked when it was parsed, so this fails where the list ends.
        let item = T::read(&mut self.reader).ok()?;
        self.left = self.left.saturating_sub(1);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Item> ExactSizeIterator for ListIter<'_, T> {}

impl<T: Item> fmt::Debug for ListIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListIter").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A list that owns its bytes, to build messages with.
///
/// ```
/// use tapster::codec::{DataRow, ValuesBuf};
///
/// let mut values = ValuesBuf::new();
/// values.push(Some(b"a value"))?;
/// values.push(None)?;
/// let mut out = Vec::new();
/// DataRow { values: values.as_list() }.encode(&mut out)?;
/// # Ok::<(), tapster::codec::EncodeError>(())
/// ```
pub struct ListBuf<T: Item> {
    count: usize,
    bytes: Vec<u8>,
    kind: PhantomData<T>,
}

impl<T: Item> ListBuf<T> {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, bytes: Vec::new(), kind: PhantomData }
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    /// If the item cannot be encoded (a NUL in a string, a value of 2 GiB) or the list has 65535 items
    /// already; the list then stays as it was.
    pub fn push(&mut self, item: T::Item<'_>) -> Result<(), EncodeError> {
        let Some(count) = self.count.checked_add(1).filter(|&n| n <= usize::from(u16::MAX)) else {
            return Err(EncodeError::new("list", "count", EncodeErrorKind::TooMany));
        };
        write("list", &mut self.bytes, |w| T::write(&item, w))?;
        self.count = count;
        Ok(())
    }

    /// The list as messages hold it.
    #[must_use]
    pub fn as_list(&self) -> List<'_, T> {
        List { count: self.count, bytes: &self.bytes, kind: PhantomData }
    }

    /// Removes all items and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }
}

impl<T: Item> Clone for ListBuf<T> {
    fn clone(&self) -> Self {
        self.as_list().to_buf()
    }
}

impl<T: Item> Default for ListBuf<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Item> PartialEq for ListBuf<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_list() == other.as_list()
    }
}

impl<T: Item> Eq for ListBuf<T> {}

impl<T: Item> fmt::Debug for ListBuf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_list().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::list;
    use crate::codec::{
        Authentication, Backend, BackendMessage, Bind, Column, ColumnsBuf, CopyResponse, DataRow,
        ErrorFields, Field, FieldsBuf, Format, FormatsBuf, Frontend, FrontendMessage, FunctionCall, NamesBuf,
        NegotiateProtocolVersion, OidsBuf, OwnedMessage, ParameterDescription, ParametersBuf, Parse,
        ProtocolVersion, RowDescription, Startup, StartupMessage, StartupPacket, ValuesBuf,
    };
    use alloc::format;
    use core::iter;

    #[test]
    fn a_list_is_read_as_it_was_filled() {
        let values = [Some(&b"a"[..]), None, Some(b"")];
        let list: ValuesBuf = list(values);
        assert_eq!(list.as_list().iter().collect::<Vec<_>>(), values);
        assert_eq!(list.as_list().iter().len(), 3);
        assert_eq!((list.as_list().get(2), list.as_list().get(3)), (Some(Some(&b""[..])), None));
        assert_eq!(list.as_list().to_buf(), list);
        assert_ne!(list, ValuesBuf::new());
        assert_eq!(format!("{list:?}"), r#"[Some("a"), None, Some("")]"#);
    }

    #[test]
    fn a_refused_item_leaves_the_list_alone() {
        let mut names: NamesBuf = list([&b"one"[..]]);
        for name in [&b""[..], b"a\0b"] {
            assert!(names.push(name).is_err());
            assert_eq!(names.as_list().iter().collect::<Vec<_>>(), [b"one"]);
        }
        names.clear();
        assert!(names.as_list().is_empty());
    }

    /// With no item, one, and as many as a count can express.
    #[test]
    fn every_message_with_a_list_holds_from_none_to_the_most_items() {
        for count in [0, 1, 65_535] {
            let formats: FormatsBuf = list(iter::repeat_n(Format::Binary, count));
            let oids: OidsBuf = list(iter::repeat_n(23, count));
            let values: ValuesBuf = list(iter::repeat_n(Some(&b"a"[..]), count));
            let names: NamesBuf = list(iter::repeat_n(&b"a"[..], count));
            let columns: ColumnsBuf = list(iter::repeat_n(Column::default(), count));
            let fields: FieldsBuf = list(iter::repeat_n(Field { code: b'M', value: b"a" }, count));
            let parameters: ParametersBuf = list(iter::repeat_n((&b"a"[..], &b""[..]), count));
            let (formats, values) = (formats.as_list(), values.as_list());
            let copy = CopyResponse { format: Format::Text, columns: formats };
            let offer =
                NegotiateProtocolVersion { version: ProtocolVersion::V3_0, unknown_options: names.as_list() };
            for message in [
                BackendMessage::Authentication(Authentication::Sasl { mechanisms: names.as_list() }),
                BackendMessage::CopyBothResponse(copy),
                BackendMessage::CopyInResponse(copy),
                BackendMessage::CopyOutResponse(copy),
                BackendMessage::DataRow(DataRow { values }),
                BackendMessage::ErrorResponse(ErrorFields { fields: fields.as_list() }),
                BackendMessage::NegotiateProtocolVersion(offer),
                BackendMessage::NoticeResponse(ErrorFields { fields: fields.as_list() }),
                BackendMessage::ParameterDescription(ParameterDescription { types: oids.as_list() }),
                BackendMessage::RowDescription(RowDescription { columns: columns.as_list() }),
            ] {
                assert_eq!(OwnedMessage::<Backend>::new(&message).unwrap().parse(), Ok(message));
            }
            for message in [
                FrontendMessage::Parse(Parse { statement: b"", query: b"", parameter_types: oids.as_list() }),
                FrontendMessage::Bind(Bind {
                    portal: b"",
                    statement: b"",
                    parameter_formats: formats,
                    parameters: values,
                    result_formats: formats,
                }),
                FrontendMessage::FunctionCall(FunctionCall {
                    function: 1,
                    argument_formats: formats,
                    arguments: values,
                    result_format: Format::Text,
                }),
            ] {
                assert_eq!(OwnedMessage::<Frontend>::new(&message).unwrap().parse(), Ok(message));
            }
            let message = StartupPacket::Startup(StartupMessage {
                version: ProtocolVersion::V3_0,
                parameters: parameters.as_list(),
            });
            assert_eq!(OwnedMessage::<Startup>::new(&message).unwrap().parse(), Ok(message));
        }
    }

    #[test]
    fn a_list_holds_65535_items_and_no_more() {
        let mut formats: FormatsBuf = list(core::iter::repeat_n(Default::default(), 65_535));
        assert!(formats.push(Default::default()).is_err());
        assert_eq!(formats.as_list().len(), 65_535);
    }
}
