//! Reads stored records in the order of time, page by page.

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::labels::Said;
use crate::record::Error;
use crate::store::Store;

/// Records held in memory at a time.
const PAGE: u32 = 200;

/// The records accepted in `from_us..to_us`, oldest first, with what people said of them where that is asked for. Ends with `Stopping` on `shutdown`
/// rather than early, because a shortened export must not look complete.
pub fn records(
    store: Store,
    from_us: i64,
    to_us: i64,
    with_said: bool,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Said, Error>> + Send {
    // Ids begin at 1, so this is the place just before the first moment.
    let pages = stream::try_unfold(Some((from_us, 0)), move |after| {
        let (store, shutdown) = (store.clone(), shutdown.clone());
        async move {
            let Some(after) = after else { return Ok(None) };
            if shutdown.is_cancelled() {
                return Err(Error::Stopping);
            }
            let page = if with_said {
                store.page_said(after, to_us, PAGE).await?
            } else {
                let bare = |encoded| Said { encoded, feedback: Vec::new(), labels: Vec::new() };
                let page = store.page(after, to_us, PAGE).await?;
                page.into_iter().map(|(place, encoded)| (place, bare(encoded))).collect()
            };
            let full = page.len() == PAGE as usize;
            let next = page.last().filter(|_| full).map(|(place, _)| *place);
            Ok(Some((page, next)))
        }
    });
    pages.map_ok(|page| stream::iter(page).map(Ok)).try_flatten().map_ok(|(_, said)| said)
}
