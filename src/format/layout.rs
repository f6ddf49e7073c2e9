//! The macro that declares a struct of the disk format together with its row of the layout table.

/// One struct of the disk format.
#[derive(Clone, Copy, Debug)]
pub struct Struct {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// Its length in bytes.
    pub len: usize,
    /// Its fields in order, without gaps.
    pub fields: &'static [Field],
}

/// One field of a struct of the disk format.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it starts in the struct, in bytes.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// What it holds.
    pub meaning: &'static str,
}

/// Declares a persisted struct: little-endian, without padding, of a stated length.
macro_rules! disk_struct {
    (
        #[doc = $meaning:literal]
        pub struct $name:ident = $len:literal {
            $( #[doc = $doc:literal] $field:ident: $type:ty, )*
        }
    ) => {
        #[doc = $meaning]
        #[derive(
            Clone, Copy,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout,
            zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $( #[doc = $doc] pub $field: $type, )*
        }

        const _: () = assert!(size_of::<$name>() == $len);

        impl $name {
            /// The struct's row of the layout table.
            pub const LAYOUT: $crate::format::layout::Struct = $crate::format::layout::Struct {
                name: stringify!($name),
                meaning: $meaning.trim_ascii(),
                len: $len,
                fields: &[ $( $crate::format::layout::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($name, $field),
                    len: size_of::<$type>(),
                    meaning: $doc.trim_ascii(),
                }, )* ],
            };
        }
    };
}

pub(crate) use disk_struct;
