//! Contexts of block status: what can be asked about extents.

/// A context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Data, zeroes or nothing.
    Allocation,
    /// How far up in the tree of clones it was written.
    Depth,
}

impl Context {
    /// All of them, in the order in which they are answered.
    pub const ALL: [Self; 2] = [Self::Allocation, Self::Depth];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocation => "base:allocation",
            Self::Depth => "qemu:allocation-depth",
        }
    }

    /// The number that stands for it in replies.
    pub fn id(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::Depth => 2,
        }
    }
}

/// Contexts that a client has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    allocation: bool,
    depth: bool,
}

impl Contexts {
    /// Those that any of the queries names; a name space with its colon names all that are in it.
    pub fn listed(queries: &[&[u8]]) -> Self {
        let named = |context: Context| {
            let name = context.name().as_bytes();
            let space = name.split_inclusive(|byte| *byte == b':').next();
            let names = |query: &&[u8]| *query == name || Some(*query) == space;
            queries.is_empty() || queries.iter().any(names)
        };
        Self::of(named)
    }

    /// Those that the queries name in full: to choose one takes its name.
    pub fn chosen(queries: &[&[u8]]) -> Self {
        Self::of(|context| queries.contains(&context.name().as_bytes()))
    }

    fn of(has: impl Fn(Context) -> bool) -> Self {
        Self {
            allocation: has(Context::Allocation),
            depth: has(Context::Depth),
        }
    }

    /// The contexts, in the order in which they are answered.
    pub fn iter(self) -> impl Iterator<Item = Context> {
        let has = move |context: &Context| match context {
            Context::Allocation => self.allocation,
            Context::Depth => self.depth,
        };
        Context::ALL.into_iter().filter(has)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}
