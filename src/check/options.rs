//! What a check looks at.

use crate::kms::KeyService;
use crate::sync::Arc;

/// What a check looks at.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    kms: Option<Arc<dyn KeyService>>,
    read_data: bool,
}

impl CheckOptions {
    /// Structure and metadata, without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the store key with a KMS, to tell what was written by the store from what is merely
    /// whole. Without one [`super::Stats::authenticated`] is `false`.
    pub fn kms(mut self, kms: Arc<dyn KeyService>) -> Self {
        self.kms = Some(kms);
        self
    }

    /// Whether the ciphertext of every page in use is read and compared with its checksum.
    pub fn read_data(mut self, read_data: bool) -> Self {
        self.read_data = read_data;
        self
    }

    pub(super) fn key_service(&self) -> Option<&dyn KeyService> {
        self.kms.as_deref()
    }

    pub(super) fn reads_data(&self) -> bool {
        self.read_data
    }
}
