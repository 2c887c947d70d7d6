//! What is listened on.

use std::{collections::BTreeMap, sync::Arc};

use crate::snapshot::{Bind, BindAddress};

/// What is listened on, by what is bound.
pub(super) type Binds = BTreeMap<BindAddress, Arc<Bind>>;
