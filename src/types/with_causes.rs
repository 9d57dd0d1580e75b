use core::error::Error;
use core::fmt;

/// An error and all its causes, in one sentence: `opening "x" failed: permission denied`.
///
/// `Display` of an error describes only its own layer; [`source`](Error::source) returns the next one. The alternate form
/// (`{:#}`) is passed on to every layer: it shows a server's text exactly as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct WithCauses<'a>(pub &'a dyn Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            f.write_str(": ")?;
            fmt::Display::fmt(cause, f)?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<&'static Self>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.map(|layer| layer as &dyn Error)
        }
    }

    #[test]
    fn every_layer_is_shown_once() {
        static DISK: Layer = Layer("the disk is full", None);
        static WRITE: Layer = Layer("writing failed", Some(&DISK));
        assert_eq!(WithCauses(&WRITE).to_string(), "writing failed: the disk is full");
        assert_eq!(WithCauses(&DISK).to_string(), "the disk is full");
    }
}
