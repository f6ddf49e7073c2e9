//! Every complaint the check can make. A code is permanent: its number is never given to another
//! meaning, and one that is no longer made stays in the table.

use crate::check::finding::Class;

/// One kind of complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its number and name, for example `OF-0102 superblock-mirror-lost`.
    pub code: &'static str,
    /// How bad it is.
    pub class: Class,
    /// What a repair does about it.
    pub repair: Repair,
    /// What it says.
    pub meaning: &'static str,
}

/// What a repair does about a finding. Nothing is invented: only what follows from the rest of
/// the store is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repair {
    /// Nothing: it does not follow from what is left.
    Nothing,
    /// Two checkpoints write all superblocks and tables anew.
    Checkpoints,
    /// The live slots are counted again by a walk, and a checkpoint writes them.
    LiveSlots,
    /// The page becomes a lost one, in all that share it: reading it is an error until all of it is
    /// written, or discarded.
    LostPages,
}

impl Repair {
    /// The repair as output names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Checkpoints => "checkpoints",
            Self::LiveSlots => "live_slots",
            Self::LostPages => "lost_pages",
        }
    }
}

macro_rules! repair {
    () => {
        Repair::Nothing
    };
    ($repair:ident) => {
        Repair::$repair
    };
}

macro_rules! codes {
    ($( $name:ident $class:ident $(=> $repair:ident)? $code:literal $meaning:literal )*) => {
        $(
            pub(super) const $name: Code =
                Code { code: $code, class: Class::$class, repair: repair!($($repair)?), meaning: $meaning };
        )*
        /// All codes, in order.
        pub const CODES: &[Code] = &[ $($name),* ];
    };
}

codes! {
    SUPERBLOCK_NONE CorruptMetadata "OF-0101 superblock-none"
        "No copy of any superblock can be read: nothing else was checked."
    SUPERBLOCK_MIRROR_LOST RedundancyLost => Checkpoints "OF-0102 superblock-mirror-lost"
        "One of the two copies of the newest superblock is missing or damaged."
    SUPERBLOCK_OLDER_LOST RedundancyLost => Checkpoints "OF-0103 superblock-older-lost"
        "A copy of the superblock before the newest is missing or damaged."
    SUPERBLOCK_MIRRORS_DIFFER CorruptMetadata "OF-0104 superblock-mirrors-differ"
        "The two copies of a superblock are both whole and say different things."
    SUPERBLOCK_WRONG_SLOT CorruptMetadata => Checkpoints "OF-0105 superblock-wrong-slot"
        "A superblock lies in the slot of the other generation."
    SUPERBLOCK_NOT_AUTHENTIC AuthFailure "OF-0106 superblock-not-authentic"
        "A whole superblock was not written by a holder of the store key."
    SUPERBLOCK_INCONSISTENT CorruptMetadata "OF-0107 superblock-inconsistent"
        "A field of the newest superblock contradicts another one or the superblock before."
    SUPERBLOCK_FILE_LENGTH CorruptMetadata => Checkpoints "OF-0108 superblock-file-length"
        "A superblock file does not hold exactly two slots."
    STORE_KEY_NOT_OPENED AuthFailure "OF-0109 store-key-not-opened"
        "The KMS refuses the wrapped store key, or what it holds is another key."
    NEXT_ID_USED CorruptMetadata "OF-0110 next-id-used"
        "An id in the tables is not below the superblock's next unused one."
    FALLBACK_LOST RedundancyLost => Checkpoints "OF-0111 fallback-lost"
        "The older superblock does not lead to the newest any more, by its tables and the log."

    FOREIGN_FILE Leak "OF-0201 foreign-file"
        "A file in the store's directory is none of the store's."
    SEGMENT_MISSING CorruptData "OF-0202 segment-missing"
        "The file of a segment is not there, and something in it is still in use."
    SEGMENT_LENGTH CorruptData "OF-0203 segment-length"
        "A segment file is not as long as all segments of the store are."
    SEGMENT_HEADER CorruptMetadata "OF-0204 segment-header"
        "The header of a segment file is damaged."
    SEGMENT_IDENTITY CorruptMetadata "OF-0205 segment-identity"
        "A segment file belongs to another store, segment or segment length."
    SEGMENT_RECORD CorruptMetadata "OF-0206 segment-record"
        "The record of a segment says what no segment of this store can be."
    PACK_MISSING CorruptData "OF-0207 pack-missing"
        "A packed file is not there, and something in it is still in use."
    PACK_INDEX CorruptMetadata "OF-0208 pack-index"
        "The index of a packed file is damaged, or is not the one that its record names."
    PACK_LENGTH CorruptData "OF-0209 pack-length"
        "A packed file is shorter than its record says, or longer than a segment."
    PACK_RECORD CorruptMetadata "OF-0210 pack-record"
        "The record of a packed file says what no pack of this store can be."
    PACK_IDENTITY CorruptMetadata "OF-0211 pack-identity"
        "A packed file belongs to another store or segment length."
    SPARE_LENGTH RedundancyLost => Checkpoints "OF-0212 spare-length"
        "A spare is not as long as a segment, or cannot be opened: the next open for writing removes it."
    SCRUB_RECORD RedundancyLost "OF-0213 scrub-record"
        "The record of scrubs is damaged: what it said is lost, and the next scrub begins anew and writes another."

    BATCH_LOST CorruptMetadata "OF-0301 batch-lost"
        "The log ends before a batch that was durable: what follows is lost, not torn."
    BATCH_PAGE_DAMAGED CorruptData => LostPages "OF-0302 batch-page-damaged"
        "A page in a durable batch does not match its checksum."
    BATCH_NODE_DAMAGED CorruptMetadata "OF-0303 batch-node-damaged"
        "A node in a durable batch does not match its checksum."
    BATCH_NOT_AUTHENTIC AuthFailure "OF-0304 batch-not-authentic"
        "A whole batch in the log was not written by a holder of the store key."
    BATCH_MALFORMED CorruptMetadata "OF-0305 batch-malformed"
        "A whole batch has records that cannot be, or that do not account for its body."
    BATCH_DURABLE_THROUGH CorruptMetadata "OF-0306 batch-durable-through"
        "A batch says that it was durable before it was appended, or that less was than an earlier one said."
    LOG_HEAD_UNKNOWN CorruptMetadata "OF-0307 log-head-unknown"
        "A record in the log changes or copies a head that does not exist."
    LOG_RECORD_MISPLACED CorruptMetadata "OF-0308 log-record-misplaced"
        "The log holds a record that only tables have."
    LOG_OLD_ENTRY CorruptMetadata "OF-0309 log-old-entry"
        "A change of pages says that it took the place of something that was not there, or leaves out what was."
    LOG_SCAN_ABANDONED CorruptMetadata "OF-0310 log-scan-abandoned"
        "Behind the end of the log lie too many things that look like batches and are none."
    LOG_SUMMARY CorruptMetadata "OF-0311 log-summary"
        "A summary says something else than the batches that it sums up."
    LOG_ROOT_ELSEWHERE CorruptMetadata "OF-0312 log-root-elsewhere"
        "A head in the log takes over the pages of a head that it was not made from, or loses its own."
    LOG_HEAD_IDENTITY CorruptMetadata "OF-0313 log-head-identity"
        "A record in the log makes a head another one: of another kind, resource id, owner, origin or time."
    LOG_KEY_EPOCH CorruptMetadata "OF-0314 log-key-epoch"
        "A change of pages names another key epoch than the one that its head had open."

    TABLE_DAMAGED CorruptMetadata "OF-0401 table-damaged"
        "A table batch is damaged or is not the one that was named."
    TABLE_ORDER CorruptMetadata "OF-0402 table-order"
        "The table batches are not parts 0, 1, 2 and so on of one set of tables."
    TABLE_RECORD CorruptMetadata "OF-0403 table-record"
        "A table batch holds a record that tables cannot have."
    ID_DUPLICATE CorruptMetadata "OF-0404 id-duplicate"
        "The tables name one head, lineage epoch, key epoch, segment or salt twice."
    RESOURCE_ID_DUPLICATE CorruptMetadata "OF-0405 resource-id-duplicate"
        "Two heads have one resource id."
    NAME_DUPLICATE CorruptMetadata "OF-0406 name-duplicate"
        "Two volumes or two snapshots have one name."
    HEAD_LINEAGE_MISSING CorruptMetadata "OF-0407 head-lineage-missing"
        "The lineage epoch of a head does not exist."
    HEAD_KEY_EPOCH_MISSING CorruptMetadata "OF-0408 head-key-epoch-missing"
        "The key epoch of a head does not exist."
    HEAD_KEY_EPOCH_ELSEWHERE CorruptMetadata "OF-0409 head-key-epoch-elsewhere"
        "The key epoch of a head does not lie in the head's lineage epoch."
    HEAD_RECORD CorruptMetadata "OF-0410 head-record"
        "A head has no possible number or length, or is a snapshot or pin that was made from nothing."
    LINEAGE_PARENT_MISSING CorruptMetadata "OF-0411 lineage-parent-missing"
        "The parent of a lineage epoch does not exist."
    KEY_EPOCH_LINK_MISSING CorruptMetadata "OF-0412 key-epoch-link-missing"
        "A key epoch wraps the key of a key epoch that does not exist."
    KEY_EPOCH_DEPTH CorruptMetadata "OF-0413 key-epoch-depth"
        "A key epoch is not deeper than the one above."
    KEY_EPOCH_FAR CorruptMetadata "OF-0414 key-epoch-far"
        "The far link of a key epoch does not lead to one of its ancestors."
    KEY_EPOCH_LINEAGE_MISSING CorruptMetadata "OF-0415 key-epoch-lineage-missing"
        "The lineage epoch of a key epoch does not exist."
    KEY_EPOCH_ABOVE_ELSEWHERE CorruptMetadata "OF-0416 key-epoch-above-elsewhere"
        "A key epoch wraps a key that is not on its own lineage: it opens too much."
    SALT_RECORD CorruptMetadata "OF-0417 salt-record"
        "A salt is for slots that do not exist."
    DEADLIST_RECORD CorruptMetadata "OF-0418 deadlist-record"
        "A deadlist is of epochs that do not exist or lie elsewhere, or has items of another kind."
    HEAD_PAGE_COUNT CorruptMetadata "OF-0419 head-page-count"
        "The tables count other pages of a head than its page table maps."
    KEY_EPOCH_COUNTS CorruptMetadata "OF-0420 key-epoch-counts"
        "The tables count other live pages or nodes of a key epoch than page tables name."
    LINEAGE_UNCHANGED CorruptMetadata "OF-0421 lineage-unchanged"
        "Something that is in use was born in a lineage epoch in which nothing is said to have changed."
    DEADLIST_NOT_LIVE CorruptMetadata => LiveSlots "OF-0422 deadlist-not-live"
        "A deadlist has an item that the tables do not count as live."

    NODE_DAMAGED CorruptMetadata "OF-0501 node-damaged"
        "A node cannot be read or is not what its parent names."
    NODE_MALFORMED CorruptMetadata "OF-0502 node-malformed"
        "A node is what its parent names and breaks the rules of a node."
    NODE_RANGE CorruptMetadata "OF-0503 node-range"
        "A node holds pages outside the range that its parent gives it."
    NODE_KEY_EPOCH_UNKNOWN CorruptMetadata "OF-0504 node-key-epoch-unknown"
        "The key epoch of a node does not exist."
    NODE_OUTSIDE_LINEAGE CorruptMetadata "OF-0505 node-outside-lineage"
        "A node was born where the head or node that refers to it does not descend from."
    BIRTH_ORDER CorruptMetadata "OF-0506 birth-order"
        "A node is older than what lies below it."
    PAGE_BEYOND_END CorruptMetadata "OF-0507 page-beyond-end"
        "A page is mapped that lies behind the end of its head."
    ENTRY_NOT_WRITTEN CorruptData "OF-0508 entry-not-written"
        "A page entry names slots that were never written, and a volume, snapshot or pin still has that page."
    ENTRY_KEY_EPOCH_UNKNOWN CorruptData "OF-0509 entry-key-epoch-unknown"
        "The key epoch of a page does not exist."
    ENTRY_OUTSIDE_LINEAGE CorruptMetadata "OF-0510 entry-outside-lineage"
        "A page was born where the head or node that refers to it does not descend from."
    SLOT_CLAIMED_TWICE CorruptData "OF-0511 slot-claimed-twice"
        "Two different pages name one slot."
    SLOT_OF_PAGE_AND_METADATA CorruptMetadata "OF-0512 slot-of-page-and-metadata"
        "One slot is named as a page and as a node or batch header, or as two of these."
    PAGE_SALT_MISSING CorruptData "OF-0513 page-salt-missing"
        "No salt is known for the slots of a page: its subkey cannot be derived."
    PAGE_DAMAGED CorruptData => LostPages "OF-0514 page-damaged"
        "The ciphertext of a page cannot be read or does not match its checksum."
    NODE_NOT_WRITTEN CorruptMetadata "OF-0515 node-not-written"
        "A node is said to be in a slot that was never written."
    SLOT_NOT_LIVE CorruptMetadata => LiveSlots "OF-0516 slot-not-live"
        "A page table names a slot that the tables count as free: it would be reclaimed."
    SLOT_LEAKED Leak => LiveSlots "OF-0517 slot-leaked"
        "The tables count a slot as live that no page table names."
    PAGE_NOT_AUTHENTIC AuthFailure "OF-0518 page-not-authentic"
        "The ciphertext of a page is whole, and its tag does not match under its key."
    SLOT_COUNT CorruptMetadata => LiveSlots "OF-0519 slot-count"
        "The tables have other live slots than the pages and nodes that they count for key epochs take."

    ROLLED_BACK Rollback "OF-0601 rolled-back"
        "The KMS has seen a later change of the store, or another one in its place: it was set back."

    HEAD_KEY_MISSING CorruptData "OF-0701 head-key-missing"
        "The KMS has no head key of a head: what only it reads cannot be read any more."
    HEAD_KEY_WRONG AuthFailure "OF-0702 head-key-wrong"
        "The key of a head's open key epoch does not open under its head key, or is another key."
    KEY_LINK_WRONG AuthFailure "OF-0703 key-link-wrong"
        "A key epoch wraps a key that does not open, or that is not the one of the epoch it names."
    KMS_AUDIT_CHANGED AuthFailure "OF-0704 kms-audit-changed"
        "Somebody changed the audit of the KMS: a line that was durable does not continue its chain of hashes."
}
